"""Every operation of the compiled engine against the big-integer reference, bit for bit, on every kernel."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np
import pytest
import reference
import reference_embedding
from numpy.typing import NDArray
from reference import ReferenceRing
from toy import (
    KERNELS,
    ToyParameters,
    ToySecretKey,
    extreme_limbs_of,
    given_streams,
    integers,
    limbs_of,
    reference_ring,
    toy_parameters,
)

from cipherlens._evaluator import Ring
from cipherlens._secret import SecretRing, sample_error, sample_ternary
from cipherlens.owner.secret_key import secret_ring
from cipherlens.scheme.ciphertext import Plaintext
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.expansion import SeedUse, expand
from cipherlens.scheme.keys import conjugation, rotation
from cipherlens.scheme.types import Limbs

# Ring dimension, bits of q_0 ... q_L, bits of the special primes, primes a digit, limbs of the ciphertexts tried.
SHAPES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...], int, tuple[int, ...]]] = {
    "partial last digit": (64, (40, 34, 34, 34, 34), (38, 38, 38), 3, (5, 3)),
    "all sizes of primes": (128, (50, 26, 33, 41, 30), (50, 49), 2, (5, 2)),
    "smallest primes": (64, (26, 26, 26), (26,), 1, (3, 1)),
    "one digit of eleven": (64, (50,) * 11, (50,) * 10, 11, (11,)),
    "eleven digits of one": (64, (50,) * 11, (50,), 1, (11,)),
}
FILLS: dict[str, Callable[..., Limbs]] = {"random": limbs_of, "extreme": extreme_limbs_of}


@dataclass(frozen=True)
class Case:
    """One shape of ring with its inputs."""

    parameters: ToyParameters
    limbs: tuple[int, ...]
    fill: Callable[..., Limbs]

    @property
    def n(self) -> int:
        return self.parameters.ring_dimension

    @property
    def oracle(self) -> ReferenceRing:
        return reference_ring(self.parameters)

    def ring(self, kernel: str) -> Ring:
        return Engine(self.parameters, kernel).ring

    def secret_ring(self, kernel: str) -> SecretRing:
        return secret_ring(Engine(self.parameters, kernel))

    def polynomials(self, seed: int, limbs: int, *leading: int) -> Limbs:
        return self.fill(self.parameters.primes[:limbs], self.n, np.random.default_rng(seed), leading)

    def extended(self, seed: int, limbs: int, *leading: int) -> Limbs:
        return self.fill(self.oracle.extended(limbs), self.n, np.random.default_rng(seed), leading)


@cache
def make_case(shape: str, fill: str) -> Case:
    n, chain_bits, special_bits, digit, limbs = SHAPES[shape]
    return Case(toy_parameters(n, chain_bits, special_bits, digit), limbs, FILLS[fill])


@pytest.fixture(params=SHAPES, ids=lambda name: name.replace(" ", "-"))
def case(request: pytest.FixtureRequest, fill: str) -> Case:
    return make_case(request.param, fill)


@pytest.fixture(params=FILLS)
def fill(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def check(case: Case, expected: Limbs, run: Callable[[Ring], Limbs]) -> None:
    """The same residues on every kernel."""
    for kernel in KERNELS:
        np.testing.assert_array_equal(run(case.ring(kernel)), expected, err_msg=kernel)


# ---- the transform and sums of products -----------------------------------------------------------------------------


def test_transform_evaluates_at_the_roots_in_bit_reversed_order(case: Case) -> None:
    primes = case.parameters.primes + case.parameters.special_primes
    every = list(range(len(primes)))
    x = case.extended(1, len(case.parameters.primes))
    forward = np.array(
        [
            [reference.centred(v, p) for v in reference.ntt([int(c) for c in row], p)]
            for row, p in zip(x, primes, strict=True)
        ],
        np.float64,
    )
    check(case, forward, lambda ring: ring.ntt(x, every))
    check(case, x, lambda ring: ring.ntt(ring.ntt(x, every), every, True))
    backward = np.array(
        [
            [reference.centred(v, p) for v in reference.inverse_ntt([int(c) for c in row], p)]
            for row, p in zip(x, primes, strict=True)
        ],
        np.float64,
    )
    check(case, backward, lambda ring: ring.ntt(x, every, True))


def test_residues_of_integer_coefficients(case: Case) -> None:
    limbs = case.limbs[0]
    rng = np.random.default_rng(2)
    for bound in (2.0**20, 2.0**52 - 1, 2.0**61):
        coefficients = np.trunc(rng.uniform(-bound, bound, case.n))
        coefficients[:4] = bound, -bound, 0, -1
        for i, p in enumerate(case.parameters.primes[:limbs]):  # half-way between multiples of p, as far out as they go
            multiple = int(bound / p - 1) * p
            coefficients[4 + 4 * i : 8 + 4 * i] = [s * (multiple + (p + d) // 2) for s in (1, -1) for d in (1, -1)]
        expected = reference.lower([int(c) for c in coefficients], case.parameters.primes[:limbs])
        check(case, expected, lambda ring, c=coefficients: ring.residues(c, limbs))  # type: ignore[misc]
        expected = reference.lower([int(c) for c in coefficients], case.oracle.extended(limbs))
        check(case, expected, lambda ring, c=coefficients: ring.residues(c, limbs, 1, True))  # type: ignore[misc]


def test_sums_and_differences(case: Case) -> None:
    for limbs in case.limbs:
        a, b = case.polynomials(3, limbs, 2), case.polynomials(4, limbs, 2)
        check(case, case.oracle.add(a, b), lambda ring, a=a, b=b: ring.add(a, b))  # type: ignore[misc]
        check(case, case.oracle.add(a, b, -1), lambda ring, a=a, b=b: ring.subtract(a, b))  # type: ignore[misc]


@pytest.mark.parametrize("terms", [1, 9])
def test_products_with_plaintexts(case: Case, terms: int) -> None:
    limbs = case.limbs[-1]
    x = [case.polynomials(10 + t, limbs, 1) for t in range(terms)]
    plain = [case.polynomials(30 + t, limbs) for t in range(terms)]
    check(case, case.oracle.multiply_plain(x, plain), lambda ring: ring.multiply_plain(x, plain))


@pytest.mark.parametrize("terms", [1, 19])
def test_products_with_scalars(case: Case, terms: int) -> None:
    limbs = case.limbs[0]
    rng = np.random.default_rng(5)
    x = [case.polynomials(50 + t, limbs, 1) for t in range(terms)]
    halves = [(p - 1) // 2 for p in case.parameters.primes[:limbs]]
    # The residues that give every product its largest magnitude, then any.
    ends = reference.chinese_remainder(halves, case.parameters.primes[:limbs])
    scalars = [ends if t % 2 == 0 else int(rng.integers(-(2**62), 2**62)) for t in range(terms)]
    rows = [[float(reference.centred(s, p)) for p in case.parameters.primes[:limbs]] for s in scalars]
    check(case, case.oracle.multiply_scalars(x, scalars), lambda ring: ring.multiply_scalars(x, rows))


@pytest.mark.parametrize("terms", [1, 5])
def test_tensor_products(case: Case, terms: int) -> None:
    limbs = case.limbs[-1]
    a = [case.polynomials(70 + t, limbs, 2) for t in range(terms)]
    b = [case.polynomials(90 + t, limbs, 2) for t in range(terms)]
    check(case, case.oracle.tensor(a, b), lambda ring: ring.tensor(a, b))


def test_scatter_sums(fill: str) -> None:
    case = make_case("partial last digit", fill)
    limbs, g, half, count = 2, 2, 4, 3
    sums = [case.polynomials(110 + m, limbs, 3) for m in range(half + 1)]
    babies = [[case.polynomials(120 + 10 * t + i, limbs, 2) for i in range(g)] for t in range(count)]
    giants = [[case.polynomials(160 + 10 * t + i, limbs, 2) for i in range(half // g + 1)] for t in range(count)]
    expected = case.oracle.scatter(sums, babies, giants)
    for kernel in KERNELS:
        for threads in (1, 2):
            into = [np.array(s) for s in sums]
            case.ring(kernel).accumulate_scatter(into, babies, giants, threads)
            for got, wanted in zip(into, expected, strict=True):
                np.testing.assert_array_equal(got, wanted, err_msg=kernel)


# ---- divisions, automorphisms, key switching ------------------------------------------------------------------------


def test_division_by_the_last_primes(case: Case) -> None:
    for limbs in case.limbs:
        x = case.polynomials(200, limbs, 2)
        for tail in {1, 2, limbs - 1} & set(range(1, limbs)):
            expected = case.oracle.divide(x, tail)
            check(case, expected, lambda ring, x=x, tail=tail: ring.divide(x, tail))  # type: ignore[misc]


def test_automorphisms(case: Case) -> None:
    limbs = case.limbs[-1]
    x = case.polynomials(210, limbs, 1)
    for galois in (1, 5, rotation(case.parameters, -3), conjugation(case.parameters), conjugation(case.parameters, 7)):
        expected = case.oracle.automorphism(x, galois)
        check(case, expected, lambda ring, galois=galois: ring.automorphism(x, galois))  # type: ignore[misc]


def key_of(case: Case, seed: int) -> Limbs:
    """A switching key of arbitrary residues at the top level."""
    top = len(case.parameters.primes)
    return case.extended(seed, top, case.parameters.digits(top), 2)


def test_decomposition_into_digits(case: Case) -> None:
    for limbs in case.limbs:
        c = case.polynomials(220, limbs)
        check(case, case.oracle.decompose(c), lambda ring, c=c: ring.decompose(c))  # type: ignore[misc]


def test_extension_of_the_largest_digits(case: Case) -> None:
    """Digits whose scaled coefficients y_i all sit at (p_i - 1) / 2: the longest sums that a conversion meets."""
    limbs = case.limbs[0]
    rows = []
    for group in case.oracle.groups(limbs):
        modulus = prod(group)
        value = sum((p - 1) // 2 * (modulus // p) for p in group) % modulus
        rows += [reference.lower([value if k % 3 else -value for k in range(case.n)], (p,))[0] for p in group]
    c = np.stack(rows)
    check(case, case.oracle.decompose(c), lambda ring: ring.decompose(c))


@pytest.mark.parametrize("addends", [0, 1, 2])
def test_key_switching(case: Case, addends: int) -> None:
    key = key_of(case, 230)
    galois = (1, rotation(case.parameters, 3), conjugation(case.parameters, 1))[addends]
    for limbs in case.limbs:
        c = case.polynomials(240, limbs)
        add0, add1 = (case.polynomials(241 + i, limbs) if i < addends else None for i in range(2))
        inner = case.oracle.inner_product(c, key)
        expected = case.oracle.mod_down(inner, add0, add1, galois)
        rescaled = case.oracle.key_switch(c, key, add0, add1, galois, True) if limbs > 1 else None
        for kernel in KERNELS:
            ring = case.ring(kernel)
            sums = ring.inner_product(ring.decompose(c), key)
            np.testing.assert_array_equal(sums, inner, err_msg=kernel)
            np.testing.assert_array_equal(ring.mod_down(sums, add0, add1, galois), expected, err_msg=kernel)
            for threads in (1, 2):
                got = ring.key_switch(c, key, add0, add1, galois, False, threads)
                np.testing.assert_array_equal(got, expected, err_msg=kernel)
                got = ring.key_switch_digits(ring.decompose(c), key, add0, add1, galois, False, threads)
                np.testing.assert_array_equal(got, expected, err_msg=kernel)
                if rescaled is not None:
                    got = ring.key_switch(c, key, add0, add1, galois, True, threads)
                    np.testing.assert_array_equal(got, rescaled, err_msg=kernel)
                    got = ring.key_switch_digits(ring.decompose(c), key, add0, add1, galois, True, threads)
                    np.testing.assert_array_equal(got, rescaled, err_msg=kernel)


def test_products_relinearised_in_one_go(case: Case) -> None:
    key = key_of(case, 235)
    for limbs in case.limbs:
        a, b = case.polynomials(236, limbs, 2), case.polynomials(237, limbs, 2)
        product = case.oracle.tensor([a], [b])
        for rescale in (False, True) if limbs > 1 else (False,):
            expected = case.oracle.key_switch(product[2], key, product[0], product[1], 1, rescale)
            for kernel in KERNELS:
                for threads in (1, 2, 3):
                    got = case.ring(kernel).multiply(a, b, key, rescale, threads)
                    np.testing.assert_array_equal(got, expected, err_msg=kernel)


def test_division_of_one_extended_polynomial(case: Case) -> None:
    for limbs in case.limbs:
        x, add = case.extended(250, limbs, 1), case.polynomials(251, limbs)
        for addend in (None, add):
            expected = case.oracle.mod_down(x, addend, None, 5)
            check(case, expected, lambda ring, x=x, a=addend: ring.mod_down(x, a, None, 5))  # type: ignore[misc]


def test_giant_steps(case: Case) -> None:
    """Switched with a key, turned and added to a total, all modulo Q P."""
    key = key_of(case, 260)
    for limbs, galois in zip(case.limbs, (5, conjugation(case.parameters, 1), 1), strict=False):
        c, first = case.polynomials(261, limbs), case.extended(262, limbs)
        before, primes = case.extended(263, limbs, 2), case.oracle.extended(limbs)
        inner, zero = case.oracle.inner_product(c, key), np.zeros_like(first)

        def added(x: Limbs, y: Limbs, primes: tuple[int, ...] = tuple(primes)) -> Limbs:
            pairs = [(reference.lift(a, primes), reference.lift(b, primes)) for a, b in zip(x, y, strict=True)]
            return np.stack([reference.lower([v + w for v, w in zip(*pair, strict=True)], primes) for pair in pairs])

        joined = added(inner, np.stack([first, zero]))
        turned = [
            reference.lower(reference.automorphism(reference.lift(part, primes), galois, prod(primes)), primes)
            for part in joined
        ]
        expected = added(before, np.stack(turned))
        for kernel in KERNELS:
            ring = case.ring(kernel)
            for threads in (1, 2):
                total = before.copy()
                ring.add_switched(total, ring.decompose(c), first, key, galois, threads)
                np.testing.assert_array_equal(total, expected, err_msg=kernel)


def test_hoisted_transforms(case: Case) -> None:
    """Three terms, the identity among them, and two rows that share them in part."""
    limbs = case.limbs[-1]
    c = case.polynomials(270, limbs, 2)
    keys = [None, key_of(case, 271), key_of(case, 272)]
    galois = [1, 5, conjugation(case.parameters, 2)]
    plain = [
        [case.extended(280 + 2 * k + row, limbs) if k != 1 or row == 0 else None for row in (0, 1)] for k in range(3)
    ]
    expected = case.oracle.hoisted_transform(c, keys, galois, plain)
    for kernel in KERNELS:
        ring = case.ring(kernel)
        for threads in (1, 2):
            got = ring.hoisted_transform(ring.decompose(c[1]), c, keys, galois, plain, threads)
            np.testing.assert_array_equal(got, expected, err_msg=kernel)


# ---- the owner's half -----------------------------------------------------------------------------------------------


def small(case: Case, seed: int, bound: int) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    return np.random.default_rng(seed).integers(-bound, bound, case.n, endpoint=True).astype(np.int8)


def test_secret_key_encryption_and_decryption(case: Case) -> None:
    s, error = small(case, 300, 1), small(case, 301, 21)
    secret, oracle = integers(s), case.oracle
    for limbs in case.limbs:
        primes = case.parameters.primes[:limbs]
        # What fits the first two primes decrypts exactly: messages up to a quarter of their product.
        bound = min(prod(primes[:2]) // 4, 2**61)
        rng = np.random.default_rng(302)
        message = [int(v) for v in np.trunc(rng.uniform(-bound, bound, case.n))]
        a = case.polynomials(303, limbs)
        body = oracle.encrypt(message, a, integers(error), secret)
        decrypted = oracle.decrypt(np.stack([body, a]), secret)
        assert max(abs(x - y) for x, y in zip(decrypted, message, strict=True)) <= 21
        for kernel in KERNELS:
            ring = case.secret_ring(kernel)
            key = ring.secret(s)
            got, nothing = np.empty((2, 2, limbs, case.n))
            streams = given_streams(a, primes)
            ring.encrypt(got, reference.lower(message, primes), error, key, *streams)
            np.testing.assert_array_equal(got, [body, a], err_msg=kernel)
            plain = ring.decrypt(got, key)
            np.testing.assert_array_equal(plain, np.array([float(v) for v in decrypted]), err_msg=kernel)
            ring.encrypt(nothing, None, error, key, *streams, 2)
            np.testing.assert_array_equal(nothing[0], oracle.encrypt([0] * case.n, a, integers(error), secret))


def test_decryption_of_three_parts(case: Case) -> None:
    """(c_0, c_1, c_2) built so that the plaintext is small: the oracle and the engine find the same integers."""
    s, limbs = small(case, 310, 1), case.limbs[0]
    secret, primes, oracle = integers(s), case.parameters.primes[:limbs], case.oracle
    rest = case.polynomials(311, limbs, 2)
    wanted = [int(v) for v in np.random.default_rng(312).integers(-(2**40), 2**40, case.n)]
    zero = oracle.decrypt(np.concatenate([np.zeros((1, limbs, case.n)), rest]), secret)
    parts = np.concatenate([reference.lower([w - z for w, z in zip(wanted, zero, strict=True)], primes)[None], rest])
    assert oracle.decrypt(parts, secret) == wanted
    for kernel in KERNELS:
        ring = case.secret_ring(kernel)
        np.testing.assert_array_equal(ring.decrypt(parts, ring.secret(s)), np.array(wanted, np.float64))


def test_keys_of_the_owner(case: Case) -> None:
    s = small(case, 320, 1)
    secret, oracle, top = integers(s), case.oracle, len(case.parameters.primes)
    modulus = prod(case.parameters.primes + case.parameters.special_primes)
    square = reference.negacyclic(secret, secret, modulus)
    rotated = reference.automorphism(secret, 5, modulus)
    for limbs in case.limbs:
        digits = case.parameters.digits(limbs)
        a = case.extended(321, limbs, digits)
        errors = np.concatenate([small(case, 330 + d, 21) for d in range(digits)])
        rows = [integers(e) for e in errors.reshape(digits, case.n)]
        expected = [oracle.switching_key(a, rows, square, secret), oracle.switching_key(a, rows, secret, rotated)]
        for kernel in KERNELS:
            ring = case.secret_ring(kernel)
            key = ring.secret(s)
            for source, target, b in (
                (ring.square(key), key, expected[0]),
                (key, ring.automorphism(key, 5), expected[1]),
            ):
                halves = np.empty((digits, 2, *a.shape[1:]))
                ring.switching_key(halves, errors, source, target, *given_streams(a, case.oracle.extended(limbs)))
                np.testing.assert_array_equal(halves, np.stack([b, a], axis=1), err_msg=kernel)

    a = case.extended(340, top)
    public = oracle.public_key(a, integers(small(case, 341, 21)), secret)
    for kernel in KERNELS:
        ring = case.secret_ring(kernel)
        halves = np.empty((2, *a.shape))
        ring.public_key(halves, small(case, 341, 21), ring.secret(s), *given_streams(a, case.oracle.extended(top)))
        np.testing.assert_array_equal(halves, [public, a], err_msg=kernel)


def test_public_key_encryption(case: Case) -> None:
    top = len(case.parameters.primes)
    key, message = case.extended(350, top, 2), case.polynomials(351, top)
    u, e0, e1 = small(case, 352, 1), small(case, 353, 21), small(case, 354, 21)
    expected = case.oracle.public_encrypt(message, key, integers(u), (integers(e0), integers(e1)))
    for kernel in KERNELS:
        got = np.empty((2, top, case.n))
        case.secret_ring(kernel).public_encrypt(got, message, key, u, e0, e1)
        np.testing.assert_array_equal(got, expected, err_msg=kernel)


def test_an_encryption_is_decrypted_by_the_reference_alone() -> None:
    """From the exported residues of a ciphertext and the ternary secret to the slots, with nothing of the engine."""
    parameters = make_case("partial last digit", "random").parameters
    engine = Engine(parameters)
    owner = ToySecretKey.create(engine)
    n, scale = parameters.ring_dimension, 2.0**30
    slots = np.exp(2j * np.pi * np.arange(n // 2) / 17)
    seeded = owner.encrypt_seeded(Plaintext(engine.encode(slots, scale, len(parameters.primes)), scale))
    indices = list(range(len(parameters.primes)))
    exported = engine.ring.pack(seeded.data, indices)
    position, body = 0, []
    for p in parameters.primes:
        window, bits = int.from_bytes(exported[position : position + n // 8 * p.bit_length()], "little"), p.bit_length()
        body.append([window >> (i * bits) & ((1 << bits) - 1) for i in range(n)])
        position += n // 8 * bits
    uniform = [reference.expand(seeded.seed, 1, 0, i, n, p) for i, p in enumerate(parameters.primes)]
    parts = np.array([body, uniform], np.float64)
    coefficients = reference_ring(parameters).decrypt(parts, integers(owner.coefficients))
    found = np.array([complex(float(x), float(y)) for x, y in reference_embedding.project(coefficients, scale, n)])
    assert np.abs(found - slots).max() < 2.0**-20


# ---- bytes ----------------------------------------------------------------------------------------------------------


def test_packing(case: Case) -> None:
    primes = case.parameters.primes + case.parameters.special_primes
    every = list(range(len(primes)))
    x = case.extended(400, len(case.parameters.primes))
    expected = b"".join(reference.pack([int(v) for v in row], p) for row, p in zip(x, primes, strict=True))
    for kernel in KERNELS:
        ring = case.ring(kernel)
        assert ring.pack(x, every) == expected
        np.testing.assert_array_equal(ring.unpack(np.frombuffer(expected, np.uint8), every), x)


def test_unpacking_refuses_residues_that_are_not_below_their_prime(case: Case) -> None:
    ring, p = case.ring("portable"), case.parameters.primes[0]
    for value in (p, (1 << p.bit_length()) - 1):
        for at in (0, case.n // 2, case.n - 1):
            packed = (value << (at * p.bit_length())).to_bytes(case.n // 8 * p.bit_length(), "little")
            assert ring.unpack(np.frombuffer(packed, np.uint8), [0]) is None
    packed = ((p - 1) << p.bit_length()).to_bytes(case.n // 8 * p.bit_length(), "little")
    unpacked = ring.unpack(np.frombuffer(packed, np.uint8), [0])
    assert unpacked is not None
    assert unpacked[0, 1] == -1


def test_sampling_from_bytes(case: Case) -> None:
    rng = np.random.default_rng(410)
    stream = rng.bytes(8 * (case.n + 8))
    ring = case.ring("portable")
    for index, p in enumerate(case.parameters.primes + case.parameters.special_primes):
        limit = (1 << 64) // p * p
        refused = b"".join(w.to_bytes(8, "little") for w in (limit, limit + 1, (1 << 64) - 1))
        accepted = b"".join(w.to_bytes(8, "little") for w in (limit - 1, 0, p - 1, p, (p + 1) // 2))
        # Around multiples of p, where a quotient taken in floating point is off by one.
        multiples = [
            int(k) * p + offset for k in rng.integers(1, (1 << 64) // p, 64, np.uint64) for offset in (-1, 0, 1)
        ]
        accepted += b"".join(w.to_bytes(8, "little") for w in multiples if w < limit)
        for data in (stream, refused + accepted + stream, stream[: 8 * case.n - 8], stream[: 8 * case.n - 8] + refused):
            expected = reference.uniform(data, case.n, p)
            for threads in (1, 3):
                got, room = np.empty((7, case.n)), np.empty((3, len(data)), np.uint8)

                def make(_: int, slot: int, room: NDArray[np.uint8] = room, data: bytes = data) -> None:
                    room[slot] = np.frombuffer(data, np.uint8)

                if expected is None:
                    short = "too few residues" if len(data) >= 8 * case.n else "8 n bytes at least"
                    with pytest.raises(ValueError, match=short):
                        ring.uniform(got, [index] * 7, room, make, threads)
                    continue
                ring.uniform(got, [index] * 7, room, make, threads)
                for row in got:
                    np.testing.assert_array_equal(row, np.array(expected, np.float64))
    octets = np.frombuffer(stream, np.uint8)
    assert sample_ternary(octets).tolist() == reference.ternary(stream)
    assert sample_error(octets).tolist() == reference.binomial(stream)


def test_streams_are_checked(case: Case) -> None:
    ring, n = case.ring("portable"), case.n
    room, got = np.zeros((3, 8 * n), np.uint8), np.empty((5, n))
    made: list[tuple[int, int]] = []

    def make(task: int, slot: int) -> None:
        made.append((task, slot))

    for wrong in (np.empty((1, n)), np.empty((5, n + 1))):
        with pytest.raises(ValueError):
            ring.uniform(wrong, [0] * 5, room, make)
    with pytest.raises(ValueError, match="8 n bytes at least"):
        ring.uniform(got, [0] * 5, room[:, 8:].copy(), make)
    with pytest.raises(ValueError, match="8 n bytes at least"):
        ring.uniform(got, [0] * 5, room[:0], make)
    with pytest.raises(ValueError, match="a prime the ring does not have"):
        ring.uniform(got, [0, 0, 0, 0, 99], room, make)
    assert not made
    for threads in (1, 2, 3, 8):  # with more threads than slots only as many are used
        ring.uniform(got, [0] * 5, room, make, threads)
        assert [task for task, _ in made] == list(range(5)) and {slot for _, slot in made} <= set(range(3))
        made.clear()

        def broken(task: int, slot: int) -> None:
            make(task, slot)
            if task == 3:
                raise KeyError("no stream")

        with pytest.raises(KeyError, match="no stream"):
            ring.uniform(got, [0] * 5, room, broken, threads)
        assert len(made) == 4
        made.clear()


def test_samples_of_every_word_agree_with_the_reference(case: Case) -> None:
    stream = np.random.default_rng(411).bytes(8 * case.n) + bytes(8) + b"\xff" * 8
    octets = np.frombuffer(stream, np.uint8)
    assert sample_ternary(octets).tolist() == reference.ternary(stream)
    assert sample_error(octets).tolist() == reference.binomial(stream)


def test_arrays_to_be_filled_are_never_copied(case: Case) -> None:
    """A strided array or another dtype would be converted, and what is written would go nowhere."""
    n = case.n
    streams = given_streams(np.zeros((1, n)), [2])
    ring, owner = case.ring("portable"), case.secret_ring("portable")
    width = len(case.parameters.primes + case.parameters.special_primes)
    small, secret = np.zeros(n, np.int8), owner.secret(np.zeros(n, np.int8))
    factor = np.zeros((2, 1, n))

    def arrays(*shape: int) -> list[Limbs]:
        read_only = np.zeros(shape)
        read_only.flags.writeable = False
        return [np.zeros((*shape, 2))[..., 0], np.zeros(shape, np.float32), read_only]

    for bad in arrays(1, n):
        with pytest.raises(TypeError):
            ring.uniform(bad, [0], *streams)
    for bad in arrays(2, 1, n):
        with pytest.raises(TypeError):
            owner.encrypt(bad, None, small, secret, *streams)
    for bad in arrays(2, len(case.parameters.primes), n):
        with pytest.raises(TypeError):
            owner.public_encrypt(bad, np.zeros(bad.shape[1:]), np.zeros((2, width, n)), small, small, small)
    for bad in arrays(1, 2, width, n):
        with pytest.raises(TypeError):
            owner.switching_key(bad, small, secret, secret, *streams)
    for bad in arrays(2, width, n):
        with pytest.raises(TypeError):
            owner.public_key(bad, small, secret, *streams)
    digits = np.zeros((1, width - len(case.parameters.primes) + 1, n))
    for bad in arrays(2, *digits.shape[1:]):
        with pytest.raises(TypeError):
            ring.add_switched(bad, digits, digits[0], np.zeros((1, 2, *digits.shape[1:])), 5)
    for bad in arrays(3, 1, n):  # in a list, where each element must be refused
        with pytest.raises(TypeError):
            ring.accumulate_scatter([np.zeros((3, 1, n)), bad], [[factor, factor]], [[factor]])
    ring.accumulate_scatter([np.zeros((3, 1, n))] * 2, [[factor, factor]], [[factor]])


def test_seed_expansion(case: Case) -> None:
    seed = bytes(range(32))
    indices = Engine(case.parameters).extended_indices(case.limbs[-1])
    primes = case.parameters.primes + case.parameters.special_primes
    for use, index in ((SeedUse.CIPHERTEXT, 0), (SeedUse.SWITCHING_KEY, 3), (SeedUse.PUBLIC_KEY, 2**32 - 1)):
        expected = [reference.expand(seed, int(use), index, i, case.n, primes[i]) for i in indices]
        for kernel in KERNELS:
            got = expand(case.ring(kernel), seed, use, index, indices)
            np.testing.assert_array_equal(got, np.array(expected, np.float64))
