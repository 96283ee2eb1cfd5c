"""What must not go wrong for a key to stay secret: parameters, samples, seeds, and what objects show of themselves."""

import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from math import comb, prod, sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import reference
from numpy.typing import NDArray
from toy import KERNELS, ToySecretKey, integers, reference_ring, toy_parameters

import cipherlens._evaluator as evaluator_module
from cipherlens._secret import sample_error, sample_ternary
from cipherlens.errors import FormatError, KeyMismatch, PlanError, SecurityError
from cipherlens.owner.keys import ContributorKeys, Keys
from cipherlens.owner.randomness import fresh_error, fresh_seed, fresh_ternary
from cipherlens.owner.secret_key import SecretKey, SeededCiphertext
from cipherlens.scheme.ciphertext import Plaintext
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.expansion import SeedUse, expand, keystream
from cipherlens.scheme.keys import RELINEARISATION, EvaluationKeys, KeyRequest, conjugation, rotation
from cipherlens.scheme.parameters import Parameters, require_secure
from cipherlens.scheme.primes import nearest_prime
from cipherlens.scheme.security import LARGEST_MODULUS_BITS, check_security
from cipherlens.server.checks import check_keys

# ePrint 2024/463, 128-bit classical security, ternary secrets: written out a second time on purpose.
TABLE = {4096: 106, 8192: 214, 16384: 430, 32768: 868, 65536: 1747, 131072: 3523}


def small_parameters() -> Parameters:
    return Parameters.generate(1 << 12, 1, scale_bits=28, first_bits=36, special=1, special_bits=41, digit=1)


# ---- the security table ---------------------------------------------------------------------------------------------


def test_the_table_is_the_published_one() -> None:
    assert LARGEST_MODULUS_BITS == TABLE


@pytest.mark.parametrize("n", TABLE)
def test_each_line_of_the_table(n: int) -> None:
    assert check_security(n, [2] * TABLE[n]) == 0
    assert check_security(n, [2] * (TABLE[n] - 3)) == 3
    with pytest.raises(SecurityError, match=f"above {TABLE[n]}") as caught:
        check_security(n, [2] * TABLE[n] + [3])
    assert str(n) in str(caught.value)


@pytest.mark.parametrize("n", [64, 2048, 12288, 1 << 18])
def test_dimensions_outside_the_table_are_refused(n: int) -> None:
    with pytest.raises(SecurityError, match="not in the security table"):
        check_security(n, [2])


@pytest.mark.parametrize("n", [1 << 12, 1 << 13, 1 << 14])
def test_parameters_just_above_the_table_are_refused(n: int) -> None:
    """Special primes count: the chain alone would be allowed."""
    taken: set[int] = set()
    while sum(p.bit_length() for p in taken) + 41 < TABLE[n]:
        taken.add(nearest_prime(2.0**40, n, taken))
    chain = tuple(sorted(taken))
    special = nearest_prime(2.0**49, n, taken)
    check_security(n, chain)
    with pytest.raises(SecurityError, match="use fewer levels or a larger ring"):
        Parameters(n, chain, (special,), 1, 30)
    with pytest.raises(SecurityError):
        described = {"ring_dimension": n, "primes": list(chain), "special_primes": [special]}
        Parameters.from_dict(described | {"digit": 1, "scale_bits": 30})


def test_every_way_to_make_parameters_checks_the_table() -> None:
    p = small_parameters()
    with pytest.raises(SecurityError):
        Parameters.generate(1 << 12, 3, scale_bits=28, first_bits=36, special=1, special_bits=41, digit=1)
    with pytest.raises(SecurityError):
        replace(p, special_primes=(*p.special_primes, nearest_prime(2.0**40, 1 << 12, set())))
    assert p.security_margin_bits >= 0
    assert Parameters.from_dict(json.loads(json.dumps(p.to_dict()))) == p
    with pytest.raises(FormatError):
        Parameters.from_dict(p.to_dict() | {"primes": [p.primes[0], p.primes[1] + 2]})
    with pytest.raises(FormatError):
        replace(p, special_primes=(p.primes[0],))


def test_toy_rings_are_refused_by_name() -> None:
    toy = toy_parameters(64, (40, 34), (38,), 1)
    with pytest.raises(SecurityError, match="inside the security table"):
        require_secure(toy)
    require_secure(small_parameters())


def test_every_entrance_refuses_toy_rings() -> None:
    """Owners, contributors and servers; `test_array.py` tries encrypted arrays."""
    toy: Any = toy_parameters(64, (40, 34), (38,), 1)
    key = ToySecretKey.create(Engine(toy)).public_key()
    task: Any = SimpleNamespace(parameters=toy, public=SimpleNamespace(parameters=toy))
    evaluation = EvaluationKeys(toy, "0" * 32, {})
    for use in (
        lambda: SecretKey.create(Engine(toy)),
        lambda: SecretKey(Engine(toy), "0" * 32, np.zeros(64, np.int8)),
        lambda: Keys.create(task),
        lambda: ContributorKeys(task, key, bytes(32)),
        lambda: check_keys(task, "0" * 32, evaluation),
    ):
        with pytest.raises(SecurityError, match="inside the security table"):
            use()


@pytest.mark.parametrize("n", TABLE)
def test_primes_next_to_both_limits_are_found(n: int) -> None:
    taken: set[int] = set()
    for _ in range(4):
        taken.add(nearest_prime(2.0**50, n, taken))
    assert all(1 << 50 > p > 0.99 * (1 << 50) for p in taken)
    assert 1 << 25 < nearest_prime(2.0**25, n, set()) < 1 << 28


def test_primes_run_out_with_an_error() -> None:
    """Between 2^25 and 2^50 there are few primes that are 1 modulo a large power of two."""
    n, taken = 1 << 45, set[int]()
    with pytest.raises(PlanError, match="no unused prime"):
        while True:
            taken.add(nearest_prime(2.0**49, n, taken))


# ---- distributions --------------------------------------------------------------------------------------------------


def chi_square_limit(freedom: int) -> float:
    """Exceeded with probability below 1e-9: Wilson and Hilferty's approximation at 6 standard deviations."""
    return float(freedom * (1 - 2 / (9 * freedom) + 6 * sqrt(2 / (9 * freedom))) ** 3)


def check_distribution(counts: Sequence[int] | NDArray[np.int64], probabilities: Sequence[float]) -> None:
    expected = np.array(probabilities) * np.sum(counts)
    assert expected.min() > 5
    statistic = float(((np.array(counts) - expected) ** 2 / expected).sum())
    assert statistic < chi_square_limit(len(expected) - 1)


def test_ternary_coefficients_are_uniform() -> None:
    x = fresh_ternary(1 << 21).astype(np.int64)
    check_distribution(np.bincount(x + 1, minlength=3), [1 / 3] * 3)
    check_distribution(np.bincount((x[::2] + 1) * 3 + x[1::2] + 1, minlength=9), [1 / 9] * 9)


def test_errors_are_centred_binomial() -> None:
    x = fresh_error(1 << 21).astype(np.int64)
    assert abs(x).max() <= 21
    inner = 13  # beyond it, expected counts are too small for the statistic: taken together
    probabilities = [comb(42, 21 + k) / 2.0**42 for k in range(-inner, inner + 1)]
    counts = [int((x == k).sum()) for k in range(-inner, inner + 1)]
    check_distribution([*counts, int((abs(x) > inner).sum())], [*probabilities, 1 - sum(probabilities)])
    assert float(x.std()) == pytest.approx(sqrt(21 / 2), rel=0.01)


@pytest.mark.parametrize("bits", [26, 34, 50])
def test_expanded_residues_are_uniform(bits: int) -> None:
    n = 1 << 17
    primes = [nearest_prime(2.0**bits * (1 - 2.0**-12), n, set())]
    primes.append(nearest_prime(2.0**40, n, set(primes)))
    ring = evaluator_module.Ring(n, primes, 1, 1, KERNELS[0])
    x = expand(ring, fresh_seed(), SeedUse.CIPHERTEXT, 0, [0])[0]
    assert np.abs(x).max() <= (primes[0] - 1) // 2
    bins = np.minimum(((x / primes[0] + 0.5) * 64).astype(np.int64), 63)
    check_distribution(np.bincount(bins, minlength=64), [1 / 64] * 64)
    check_distribution(np.bincount(x.astype(np.int64) % 64, minlength=64), [1 / 64] * 64)


def words(*values: int) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(v.to_bytes(8, "little") for v in values), np.uint8)


def test_ternary_samples_of_known_words() -> None:
    """floor(3 u / 2^64) - 1 steps at ceil(2^64 / 3) and ceil(2^65 / 3)."""
    third, two_thirds = 0x5555555555555556, 0xAAAAAAAAAAAAAAAB
    stream = words(0, third - 1, third, two_thirds - 1, two_thirds, 2**64 - 1)
    assert sample_ternary(stream).tolist() == [-1, -1, 0, 0, 1, 1]


def test_error_samples_of_known_words() -> None:
    low = (1 << 21) - 1
    stream = words(0, low, low << 21, low << 42, 2**64 - 1, 1, 1 << 20, 1 << 21, 1 << 41, 1 << 42, 0b111 | 0b10 << 21)
    assert sample_error(stream).tolist() == [0, 21, -21, 0, 0, 1, 1, -1, -1, 0, 2]


def test_the_key_stream_is_aes_256_in_counter_mode() -> None:
    """NIST SP 800-38A, F.5.5: the output blocks of CTR-AES256."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    counter = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    expected = "0bdf7df1591716335e9a8b15c860c5025a6e699d536119065433863c8f657b94"
    assert keystream(key, counter, 32).hex() == expected
    assert keystream(key, counter, 20).hex() == expected[:40]


# Made by tests/reference.py.
FIRST = [-442036480708, 206648973, -105096048576]
DIGEST = "70a40075fbfc9ccf62b99716a035a167482db14f51407f58f987865dcfca50b5"


def test_seed_expansion_is_frozen() -> None:
    """Files depend on it: these residues must never change."""
    primes = (1099511480321, 1073643521)  # 40 and 30 bits, 1 modulo 2^14
    ring = evaluator_module.Ring(1 << 13, [*primes], 1, 1, KERNELS[0])
    digest = sha256()
    for use in SeedUse:
        for index in (0, 1, 2**32 - 1):
            digest.update(expand(ring, bytes(range(32)), use, index, [0, 1]).astype("<i8").tobytes())
    assert expand(ring, bytes(range(32)), SeedUse.CIPHERTEXT, 0, [0])[0, :3].tolist() == FIRST
    assert digest.hexdigest() == DIGEST


def test_uses_of_a_seed_never_overlap() -> None:
    """Kind, index and prime index lead to separate streams, and none counts into another one's blocks."""
    ring = Engine(small_parameters()).ring
    streams = {
        expand(ring, bytes(32), use, index, [prime]).tobytes()
        for use in SeedUse
        for index in (0, 1, 256)
        for prime in (0, 1, 2)
    }
    # The three primes differ, so equal words could still give other residues: compare the streams themselves too.
    raw = {
        reference.counter_stream(bytes(32), int(use), index, prime, 64)
        for use in SeedUse
        for index in (0, 1, 256)
        for prime in (0, 1, 2)
    }
    assert len(streams) == len(raw) == 27


# ---- freshness ------------------------------------------------------------------------------------------------------


def test_every_draw_is_fresh() -> None:
    draws = [fresh_seed() for _ in range(64)]
    draws += [fresh_ternary(256).tobytes() for _ in range(64)] + [fresh_error(256).tobytes() for _ in range(64)]
    assert len(set(draws)) == len(draws)
    assert all(len(seed) == 32 for seed in draws[:64])


FORK = """
import os
from cipherlens.owner.randomness import fresh_error, fresh_seed, fresh_ternary
draw = lambda: fresh_seed() + fresh_ternary(256).tobytes() + fresh_error(256).tobytes()
draw()
readers = []
for _ in range(3):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, draw())
        os._exit(0)
    readers.append(reader)
draws = [draw()] + [os.read(r, 1 << 16) for r in readers]
pieces = [d[a:b] for d in draws for a, b in ((0, 32), (32, 288), (288, 544))]
assert len(set(pieces)) == 12 and all(len(d) == 544 for d in draws), "a draw was repeated after a fork"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_draws_differ_after_a_fork() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60)


def test_encryptions_of_one_plaintext_share_nothing() -> None:
    engine = Engine(small_parameters())
    owner = SecretKey.create(engine)
    plaintext = Plaintext(engine.encode(np.ones(engine.parameters.slots, np.complex128), 2.0**28, 2), 2.0**28)
    fresh = [owner.encrypt_seeded(plaintext) for _ in range(4)]
    assert len({c.seed for c in fresh}) == 4
    assert len({c.data.tobytes() for c in fresh}) == 4
    plain = [owner._ring.decrypt(owner.encrypt(plaintext).data, owner._secret).tobytes() for _ in range(4)]
    assert len(set(plain)) == 4  # the errors differ as well


def test_keys_differ() -> None:
    engine = Engine(small_parameters())
    a, b = SecretKey.create(engine), SecretKey.create(engine)
    assert a.key_id != b.key_id
    assert len(a.key_id) == 32
    assert not np.array_equal(a.coefficients, b.coefficients)
    request = KeyRequest(RELINEARISATION, 1)
    first, second = a.switching_key(request), a.switching_key(request)
    assert first.seed != second.seed
    assert a.public_key().seed != a.public_key().seed


# ---- what objects show ----------------------------------------------------------------------------------------------


def test_a_secret_key_shows_nothing_of_itself() -> None:
    owner = SecretKey.create(Engine(small_parameters()))
    for text in (repr(owner), str(owner), f"{owner}", repr([owner])):
        assert "coefficients" not in text
        assert "array" not in text
        assert "_secret" not in text
        assert owner.coefficients.tobytes().hex()[:16] not in text


def test_a_secret_key_cannot_be_pickled_or_copied() -> None:
    owner = SecretKey.create(Engine(small_parameters()))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(owner, protocol)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps({"keys": [owner]})
    for duplicate in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            duplicate(owner)


def test_public_objects_show_no_data() -> None:
    engine = Engine(small_parameters())
    owner = SecretKey.create(engine)
    keys = owner.evaluation_keys([KeyRequest(RELINEARISATION, 1)])
    plaintext = Plaintext(engine.encode(np.ones(engine.parameters.slots, np.complex128), 2.0**28, 2), 2.0**28)
    for thing in (owner.encrypt(plaintext), plaintext, keys, keys[RELINEARISATION], owner.public_key()):
        assert "array" not in repr(thing)
        assert len(repr(thing)) < 100


def test_seeded_ciphertexts_hold_no_secret() -> None:
    assert set(SeededCiphertext.__dataclass_fields__) == {"data", "seed", "scale"}


@pytest.mark.parametrize("coefficients", [np.full(4096, 2, np.int8), np.zeros(64, np.int8)])
def test_secrets_that_are_not_ternary_are_refused(coefficients: NDArray[np.int8]) -> None:
    with pytest.raises(KeyMismatch, match="not ternary"):
        SecretKey(Engine(small_parameters()), "0" * 32, coefficients)


# ---- keys hold what they should, and nothing more -------------------------------------------------------------------


@pytest.mark.parametrize("number", ["relinearisation", "rotation", "conjugation"])
def test_evaluation_keys_decrypt_to_the_gadget_times_the_source(number: str) -> None:
    """b_d + a_d target = P gadget_d source + e_d with |e_d| <= 21, each digit with an error of its own."""
    p = toy_parameters(64, (40, 34, 34, 34, 34), (38, 38, 38), 3)
    owner, ring = ToySecretKey.create(Engine(p)), reference_ring(p)
    secret = integers(owner.coefficients)
    for level in (4, 2):
        primes = ring.extended(level + 1)
        modulus, special = prod(primes), prod(p.special_primes)
        numbers = {"relinearisation": RELINEARISATION, "rotation": rotation(p, 5), "conjugation": conjugation(p, 3)}
        galois = numbers[number]
        key = owner.switching_key(KeyRequest(galois, level))
        if galois == RELINEARISATION:
            source, target = reference.negacyclic(secret, secret, modulus), secret
        else:
            source = secret
            target = reference.automorphism(secret, pow(galois, -1, 2 * p.ring_dimension), modulus)
        errors = []
        for (b, a), group in zip(key.data, ring.groups(level + 1), strict=True):
            gadget = reference.chinese_remainder([special % q if q in group else 0 for q in primes], primes)
            product = reference.negacyclic(reference.lift(a, primes), target, modulus)
            body = reference.lift(b, primes)
            error = [
                reference.centred(x + y - gadget * s, modulus) for x, y, s in zip(body, product, source, strict=True)
            ]
            assert max(map(abs, error)) <= 21
            assert len(set(error)) > 5
            errors.append(tuple(error))
        assert len(set(errors)) == len(errors)
        for digit, a in enumerate(key.data[:, 1]):
            indices = Engine(p).extended_indices(level + 1)
            np.testing.assert_array_equal(a, expand(Engine(p).ring, key.seed, SeedUse.SWITCHING_KEY, digit, indices))


def test_the_public_key_decrypts_to_a_small_error() -> None:
    p = toy_parameters(64, (40, 34, 34), (38, 38), 2)
    owner, primes = ToySecretKey.create(Engine(p)), p.primes + p.special_primes
    key, modulus = owner.public_key(), prod(primes)
    b, a = (reference.lift(half, primes) for half in key.data)
    product = reference.negacyclic(a, integers(owner.coefficients), modulus)
    error = [reference.centred(x + y, modulus) for x, y in zip(b, product, strict=True)]
    assert max(map(abs, error)) <= 21
    assert len(set(error)) > 5


def test_keys_are_made_for_their_level_only() -> None:
    """Fewer primes are attacked through a key of a lower level: none beyond it is in its data."""
    p = toy_parameters(64, (40, 34, 34, 34), (38,), 1)
    owner = ToySecretKey.create(Engine(p))
    assert owner.switching_key(KeyRequest(RELINEARISATION, 1)).data.shape == (2, 2, 3, 64)
    keys = owner.evaluation_keys([KeyRequest(RELINEARISATION, 1), KeyRequest(rotation(p, 1), 0)])
    assert set(keys.keys) == {RELINEARISATION, rotation(p, 1)}


# ---- the evaluator and the secret -----------------------------------------------------------------------------------

FORBIDDEN = ("secret", "decrypt", "encrypt", "ternary", "error", "sample", "keygen", "switching_key", "private")


def test_the_evaluator_has_no_function_of_a_secret() -> None:
    names = dir(evaluator_module)
    texts = [*names]
    for name in names:
        thing = getattr(evaluator_module, name)
        members = [m for m in dir(thing) if not m.startswith("__")] if isinstance(thing, type) else []
        texts += members
        # nanobind writes the names of arguments into the docstring.
        signatures = [str(getattr(thing, m).__doc__) for m in members] + [str(getattr(thing, "__doc__", ""))]
        if not name.startswith("__"):
            texts += [line for text in signatures for line in text.splitlines() if "(" in line and "->" in line]
    assert [text for text in texts if any(word in text.lower() for word in FORBIDDEN)] == []


def test_the_scheme_loads_without_the_secret_half() -> None:
    code = """
import sys
import cipherlens._evaluator
import cipherlens.scheme.engine, cipherlens.scheme.evaluator, cipherlens.scheme.expansion
import cipherlens.scheme.keys, cipherlens.scheme.parameters
from cipherlens.scheme.parameters import Parameters
p = Parameters.generate(1 << 12, 1, scale_bits=28, first_bits=36, special=1, special_bits=41, digit=1)
e = cipherlens.scheme.evaluator.Evaluator(cipherlens.scheme.engine.Engine(p))
e.encode([1.0] * p.slots, 1)
loaded = [m for m in sys.modules if m == "cipherlens._secret" or m.startswith("cipherlens.owner")]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
