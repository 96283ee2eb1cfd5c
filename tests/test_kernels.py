"""Every kernel and every number of threads gives the same bytes, at real ring dimensions."""

from functools import cache

import numpy as np
import pytest
import reference
from toy import KERNELS, extreme_limbs_of, given_streams, limbs_of

from cipherlens._evaluator import Ring, available_kernels, check_kernels
from cipherlens.errors import PlanError
from cipherlens.owner.secret_key import secret_ring
from cipherlens.scheme.engine import KERNEL_VARIABLE, Engine, choose_kernel, usable_cores
from cipherlens.scheme.expansion import SeedUse, expand
from cipherlens.scheme.keys import conjugation, rotation
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.primes import nearest_prime

DIMENSIONS = (1 << 12, 1 << 13)
THREADS = (1, 2, 3)


@cache
def parameters_of(n: int) -> Parameters:
    """Inside the security table."""
    if n == 1 << 12:
        return Parameters.generate(n, 1, scale_bits=28, first_bits=36, special=1, special_bits=41, digit=1)
    return Parameters.generate(n, 3, scale_bits=30, first_bits=40, special=2, special_bits=41, digit=3)


def transcript(n: int, kernel: str, threads: int) -> dict[str, bytes]:
    """Every operation's output, from inputs that are the same each time."""
    p = parameters_of(n)
    engine = Engine(p, kernel)
    ring, rng, limbs = engine.ring, np.random.default_rng(n), len(p.primes)
    extended = p.primes + p.special_primes
    a, b = limbs_of(p.primes, n, rng, (2,)), extreme_limbs_of(p.primes, n, rng, (2,))
    plain = limbs_of(p.primes, n, rng)
    key = limbs_of(extended, n, rng, (p.digits(limbs), 2))
    every = list(range(len(extended)))
    whole = extreme_limbs_of(extended, n, rng)
    slots = np.exp(2j * np.pi * rng.uniform(size=n // 2)) * rng.uniform(size=n // 2)
    scalars = [[float(reference.centred(s, q)) for q in p.primes] for s in (2**40 + 1, -(2**33))]
    galois = conjugation(p, 3)

    scatter = [np.zeros((3, limbs, n)) for _ in range(3)]
    ring.accumulate_scatter(scatter, [[a, b], [b, b]], [[b, a], [a, a]], threads)
    digits = ring.decompose(a[1], threads)
    inner = ring.inner_product(digits, key, threads)
    total = np.array(inner)
    ring.add_switched(total, digits, whole, key, galois, threads)
    outputs = {
        "ntt": ring.ntt(whole, every, False, threads),
        "inverse ntt": ring.ntt(whole, every, True, threads),
        "add": ring.add(a, b, threads),
        "subtract": ring.subtract(a, b, threads),
        "multiply_plain": ring.multiply_plain([a, b] * 5, [plain, b[0]] * 5, threads),
        "multiply_scalars": ring.multiply_scalars([a, b] * 5, scalars * 5, threads),
        "tensor": ring.tensor([a, b] * 5, [b, b] * 5, threads),
        "scatter": np.stack(scatter),
        "divide": ring.divide(a, 1, threads),
        "automorphism": ring.automorphism(a, galois, threads),
        "decompose": digits,
        "inner_product": inner,
        "add_switched": total,
        "hoisted_transform": ring.hoisted_transform(
            ring.decompose(a[1]), a, [None, key], [1, galois], [[whole, whole], [None, whole]], threads
        ),
        "extended residues": ring.residues(np.rint(rng.normal(size=n) * 2.0**40), limbs, threads, True),
        "mod_down of one part": ring.mod_down(inner[:1], None, None, 1, threads),
        "mod_down": ring.mod_down(inner, a[0], None, galois, threads),
        "key_switch": ring.key_switch(b[1], key, b[0], None, galois, False, threads),
        "change of key": ring.key_switch(b[1], key, b[0], None, 1, False, threads),
        "relinearise and rescale": ring.key_switch(b[1], key, a[0], a[1], 1, True, threads),
        "key_switch_digits": ring.key_switch_digits(digits, key, b[0], None, galois, False, threads),
        "key_switch_digits and rescale": ring.key_switch_digits(digits, key, a[0], a[1], 1, True, threads),
        "multiply": ring.multiply(a, b, key, False, threads),
        "multiply and rescale": ring.multiply(a, b, key, True, threads),
        "uniform": expand(ring, bytes(32), SeedUse.CIPHERTEXT, 0, every, threads),
        "embed": engine.encoder.embed(slots, p.scales[-1]),
        "project": engine.encoder.project(np.rint(rng.normal(size=n) * 2.0**30), p.scales[-1]),
        "encode": engine.encode(slots, p.scales[-1], limbs, threads),
    }
    result = {name: np.ascontiguousarray(value).tobytes() for name, value in outputs.items()}
    result["pack"] = ring.pack(whole, every, threads)
    unpacked = ring.unpack(np.frombuffer(result["pack"], np.uint8), every, threads)
    assert unpacked is not None
    result["unpack"] = unpacked.tobytes()
    result.update(secret_transcript(engine, threads))
    return result


def secret_transcript(engine: Engine, threads: int) -> dict[str, bytes]:
    """The owner's operations on fixed secrets and errors."""
    p, ring, rng = engine.parameters, secret_ring(engine), np.random.default_rng(5)
    n, limbs, extended = p.ring_dimension, len(p.primes), p.primes + p.special_primes
    ternary = rng.integers(-1, 1, n, endpoint=True).astype(np.int8)
    errors = rng.integers(-21, 21, (4, n), endpoint=True).astype(np.int8)
    message = limbs_of(p.primes, n, rng)
    streams = given_streams(limbs_of(extended, n, rng, (p.digits(limbs),)), extended)
    encrypted, mask, masked = np.empty((3, 2, limbs, n))
    switching, public = np.empty((p.digits(limbs), 2, len(extended), n)), np.empty((2, len(extended), n))
    secret = ring.secret(ternary, threads)
    ring.encrypt(encrypted, message, errors[0], secret, *streams, threads)
    ring.encrypt(mask, None, errors[0], secret, *streams, threads)
    square = ring.square(secret, threads)
    ring.switching_key(switching, errors[: p.digits(limbs)].reshape(-1), square, secret, *streams, threads)
    ring.public_key(public, errors[1], secret, *streams, threads)
    ring.public_encrypt(masked, message, limbs_of(extended, n, rng, (2,)), ternary, errors[2], errors[3], threads)
    outputs = {
        "secret": secret,
        "square": square,
        "secret automorphism": ring.automorphism(secret, 5, threads),
        "encrypt": encrypted,
        "decrypt": ring.decrypt(mask, secret),
        "switching_key": switching,
        "public_key": public,
        "public_encrypt": masked,
    }
    return {name: value.tobytes() for name, value in outputs.items()}


@cache
def portable_transcript(n: int) -> dict[str, bytes]:
    return transcript(n, "portable", 1)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("n", DIMENSIONS)
def test_identical_bytes(n: int, kernel: str, threads: int) -> None:
    found, expected = transcript(n, kernel, threads), portable_transcript(n)
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.parametrize("log_n", range(6, 18))
def test_the_transform_at_every_dimension(log_n: int) -> None:
    """Sampled outputs equal the polynomial's value at psi^(2 brv(i) + 1), found by Horner's rule on integers."""
    n = 1 << log_n
    p = nearest_prime(2.0**50 * (1 - 2.0**-12), n, set())
    other = nearest_prime(2.0**40, n, set())
    rng = np.random.default_rng(log_n)
    psi = reference.primitive_root(p, n)
    for x in (extreme_limbs_of((p,), n, rng), limbs_of((p,), n, rng)):
        results = {}
        for kernel in KERNELS:
            ring = Ring(n, [p, other], 1, 1, kernel)
            results[kernel] = ring.ntt(x, [0])
            np.testing.assert_array_equal(ring.ntt(results[kernel], [0], True), x, err_msg=kernel)
            assert results[kernel].tobytes() == results[KERNELS[0]].tobytes(), kernel
        coefficients = [int(c) for c in x[0]]
        for i in (0, 1, n // 2, n - 1, int(rng.integers(n))):
            point = pow(psi, 2 * reference.reverse_bits(i, log_n) + 1, p)
            value = 0
            for c in reversed(coefficients):
                value = (value * point + c) % p
            assert int(results["portable"][0, i]) == reference.centred(value, p)


def worst_factor(a: int, unit: int, half: int) -> int:
    """The b nearest to half, |b| <= half, with a b = unit / 2 - 1 modulo the unit: the largest remainder. a is odd."""
    b = (unit // 2 - 1) * pow(a, -1, unit) % unit
    return b + (half - b) // unit * unit


@pytest.mark.parametrize("terms", [1, 2, 3, 4, 7, 8, 9, 16, 17])
def test_sums_whose_remainders_are_all_as_large_as_they_can_be(terms: int) -> None:
    """The accumulator keeps sum ab as a multiple of 2^(47 + log2 of its run) and a sum of remainders. Here every
    remainder is one short of half that unit, all of one sign, on top of products near (p / 2)^2."""
    n = 64
    p = nearest_prime(2.0**50 * (1 - 2.0**-12), n, set())
    ring_primes = [p, nearest_prime(2.0**40, n, set())]
    half = (p - 1) // 2
    run = min(8, 1 << (terms - 1).bit_length())
    for doubling in (1, 2):  # a tensor product's middle part takes runs of half the length
        unit = 1 << (46 + min(8, run * doubling).bit_length())
        rng = np.random.default_rng(terms)
        a = half - 2 * rng.integers(0, 1 << 30, (terms, n)) - (1 - half % 2)
        b = np.empty((terms, n), object)
        for at in np.ndindex(terms, n):
            b[at] = worst_factor(int(a[at]), unit, half)
        left = [np.stack([row, row]).reshape(2, 1, n).astype(np.float64) for row in a]
        right = [np.stack([row, row]).reshape(2, 1, n).astype(np.float64) for row in b]
        exact = (a.astype(object) * b).sum(axis=0)
        single = np.array([reference.centred(v, p) for v in exact], np.float64)
        double = np.array([reference.centred(2 * v, p) for v in exact], np.float64)
        for kernel in KERNELS:
            ring = Ring(n, ring_primes, 1, 1, kernel)
            got = ring.multiply_plain(left, [x[0] for x in right])
            np.testing.assert_array_equal(got, np.stack([single, single])[:, None], err_msg=kernel)
            tensor = ring.tensor(left, right)
            np.testing.assert_array_equal(tensor, np.stack([single, double, single])[:, None], err_msg=kernel)


# ---- the choice of kernels ------------------------------------------------------------------------------------------


def test_every_available_kernel_passes_its_self_check() -> None:
    assert available_kernels()[-1] == "portable"
    for kernel in available_kernels():
        check_kernels(kernel)


def test_unknown_kernels_do_not_pass_the_self_check() -> None:
    with pytest.raises(RuntimeError, match="no kernels named abacus run on this machine"):
        check_kernels("abacus")
    with pytest.raises(RuntimeError, match="abacus"):
        Ring(64, [parameters_of(1 << 12).primes[0], parameters_of(1 << 12).primes[1]], 1, 1, "abacus")


def test_the_fastest_kernels_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KERNEL_VARIABLE, raising=False)
    assert choose_kernel() == available_kernels()[0]
    monkeypatch.setenv(KERNEL_VARIABLE, "")
    assert choose_kernel() == available_kernels()[0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_environment_chooses_kernels(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, kernel)
    engine = Engine(parameters_of(1 << 12))
    assert engine.kernel == kernel
    assert engine.ring.kernel == kernel


def test_a_wrong_name_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, "abacus")
    with pytest.raises(PlanError) as caught:
        Engine(parameters_of(1 << 12))
    message = str(caught.value)
    assert "CIPHERLENS_KERNEL=abacus" in message
    assert "portable" in message
    assert "\n" not in message


def test_usable_cores() -> None:
    assert usable_cores() >= 1


def test_rotation_elements_are_odd_and_below_twice_the_dimension() -> None:
    p = parameters_of(1 << 12)
    for steps in (0, 1, -1, p.slots, p.slots + 1):
        for galois in (rotation(p, steps), conjugation(p, steps)):
            assert galois % 2 == 1
            assert 0 < galois < 2 * p.ring_dimension
    assert rotation(p, p.slots) == 1
    assert rotation(p, -1) * rotation(p, 1) % (2 * p.ring_dimension) == 1
