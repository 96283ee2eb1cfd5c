"""Measured errors against analytic bounds, operation by operation and along chains of products.

How the bounds are made. A polynomial whose N coefficients are independent with variance v has, at each slot, a value
close to a complex Gaussian of variance N v (the canonical embedding heuristic: Gentry, Halevi, Smart, "Homomorphic
evaluation of the AES circuit", 2012, appendix A.5). Its magnitude exceeds K1 sqrt(N v) with probability exp(-K1^2), and
the product of two such values exceeds K2 times the product of their deviations with probability 2 K2 K_1(2 K2), the
last K_1 being the Bessel function. With K1 = 6 and K2 = 16 both are below 1e-12 a slot, 1e-8 for all slots here.

Variances. An error is centred binomial: 21 / 2. A ternary secret: 2 / 3. Rounding to an integer: 1 / 12. A fast base
conversion from t primes divides Sum y_i D / d_i by D, with y_i / d_i uniform in [-1/2, 1/2]: t / 12.

Each bound must hold, and must not be more than 64 times what was measured: a noise regression of that size, or a bound
that says nothing, fails.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import cast

import numpy as np
import pytest
from toy import owner_and_evaluator, random_slots

from cipherlens.owner.encryption import PublicEncryptor
from cipherlens.owner.secret_key import SecretKey
from cipherlens.scheme.array_layout import ArrayLayout
from cipherlens.scheme.ciphertext import Ciphertext, Plaintext
from cipherlens.scheme.diagonals import DiagonalSteps, EncryptedMatrix, multiply_encrypted_matrix
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import RELINEARISATION, KeyRequest, conjugation, rotation
from cipherlens.scheme.linear_transform import LinearTransform
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.types import Slots

K1, K2 = 6.0, 16.0
ERROR, TERNARY, ROUNDING = 21 / 2, 2 / 3, 1 / 12
SLACK = 64.0


@dataclass(frozen=True)
class Bounds:
    """Bounds on the largest error of a slot. `units` are those of coefficients: divide by the scale for slot values."""

    parameters: Parameters

    @property
    def _n(self) -> int:
        return self.parameters.ring_dimension

    def one(self, variance: float) -> float:
        """A polynomial with independent coefficients, units."""
        return K1 * sqrt(self._n * variance)

    def product(self, first: float, second: float) -> float:
        """The product of two such polynomials, units."""
        return K2 * self._n * sqrt(first * second)

    def fresh(self, scale: float) -> float:
        """Secret-key encryption: one error, and the rounding of the encoding."""
        return self.one(ERROR + ROUNDING) / scale

    def division(self, primes: int) -> float:
        """(c_0, c_1) divided by a product of t primes: r_0 + r_1 s with r of variance t / 12, units."""
        return self.one(primes * ROUNDING) + self.product(primes * ROUNDING, TERNARY)

    def public(self, scale: float) -> float:
        """Public-key encryption modulo Q P: (u e + e_0 + e_1 s) / P, the division by P, and the encoding."""
        p = self.parameters
        before = 2 * self.product(ERROR, TERNARY) + self.one(ERROR)
        division = self.division(len(p.special_primes))
        return (before / prod(p.special_primes) + division + self.one(ROUNDING)) / scale

    def switching(self, limbs: int) -> float:
        """Sum over digits d of v_d e_d, divided by P, units. The digit v_d = sum of y_i D_d / d_i over its a primes has
        variance D_d^2 a / 12."""
        p = self.parameters
        total = 0.0
        for first in range(0, limbs, p.digit):
            group = p.primes[first : min(first + p.digit, limbs)]
            total += prod(group) * self.product(len(group) * ROUNDING, ERROR)
        return total / prod(p.special_primes)

    def automorphism(self, before: float, limbs: int, scale: float) -> float:
        """The error is permuted; the key switch adds its own, and the division by P."""
        return before + (self.switching(limbs) + self.division(len(self.parameters.special_primes))) / scale

    def rescale(self, before: float, scale_after: float, levels: int = 1) -> float:
        """The error keeps its size in slot values; the division adds its rounding at the lower scale."""
        return before + self.division(levels) / scale_after

    def multiply_plain(self, before: float, size: float, scale_plain: float, plain_size: float) -> float:
        """(z + e)(w + r) - z w with r the rounding of the encoding of w."""
        rounding = self.one(ROUNDING) / scale_plain
        return plain_size * before + size * rounding + before * rounding

    def multiply(self, errors: Sequence[float], sizes: Sequence[float], limbs: int, scale_after: float) -> float:
        """(z + e)(w + f) - z w, then one division by P q for relinearisation and rescaling together."""
        (e, f), (z, w) = errors, sizes
        special, last = len(self.parameters.special_primes), self.parameters.primes[limbs - 1]
        added = self.switching(limbs) / last + self.division(special + 1)
        return w * e + z * f + e * f + added / scale_after

    def transform(self, before: float, baby: Sequence[int], giants: int, limbs: int, scale: float) -> float:
        """A double-hoisted transform of slots of magnitude 1 with diagonals of magnitude 1, encoded at `scale` as the
        ciphertext is; baby[j] of the terms took a key switch. Terms add as variances. Before the division by P each term
        carries the error, that of its key switch without a division, and the rounding of its diagonal; every giant step
        divides, rounds and switches once at the product's scale, and the sum is divided once."""
        terms, switched = len(baby), sum(baby)
        inner = sqrt(terms) * (before + self.one(ROUNDING) / scale) + sqrt(switched) * self.switching(limbs) / scale
        special = len(self.parameters.special_primes)
        outer = sqrt(giants) * (self.switching(limbs) + self.division(special)) + self.division(special)
        return inner + outer / scale**2

    def at_level(self, before: float, size: float, scale_before: float, wanted: float, scale_after: float) -> float:
        """A product with an integer that is wrong by at most 1/2 unit of `wanted / scale_before`, then a rescale."""
        return self.rescale(before + size * 0.5 * scale_before / wanted, scale_after)


PARAMETERS = {
    "2^12, shallow": Parameters.generate(1 << 12, 1, scale_bits=28, first_bits=36, special=1, special_bits=41, digit=1),
    "2^13, two digits": Parameters.generate(
        1 << 13, 3, scale_bits=30, first_bits=40, special=2, special_bits=38, digit=2
    ),
    "2^14, deep": Parameters.generate(1 << 14, 8, scale_bits=34, first_bits=40, special=3, special_bits=38, digit=3),
}


@dataclass(frozen=True)
class Laboratory:
    """An owner, an evaluator, two vectors of slots of magnitude 1 and their encryptions."""

    owner: SecretKey
    evaluator: Evaluator
    z: Slots
    w: Slots
    cz: Ciphertext
    cw: Ciphertext

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.evaluator.engine.parameters)

    @property
    def fresh(self) -> float:
        return self.bounds.fresh(self.cz.scale)

    def check(self, ciphertext: Ciphertext, expected: Slots, bound: float) -> None:
        measured = float(np.abs(self.owner.decrypt(ciphertext) - expected).max())
        assert measured <= bound, f"error 2^{np.log2(measured):.2f} above the bound 2^{np.log2(bound):.2f}"
        assert bound <= SLACK * measured, f"bound 2^{np.log2(bound):.2f} far above the error 2^{np.log2(measured):.2f}"


@pytest.fixture(scope="module", params=PARAMETERS)
def laboratory(request: pytest.FixtureRequest) -> Laboratory:
    p = PARAMETERS[cast(str, request.param)]
    top, rng = p.top_level, np.random.default_rng(1)
    numbers = (RELINEARISATION, *(rotation(p, steps) for steps in (1, 2, 4)), conjugation(p))
    owner, evaluator = owner_and_evaluator(p, [KeyRequest(number, top) for number in numbers])
    z, w = (np.exp(2j * np.pi * rng.uniform(size=p.slots)) for _ in range(2))
    return Laboratory(owner, evaluator, z, w, *(owner.encrypt(evaluator.encode(v, top)) for v in (z, w)))


def test_secret_key_encryption(laboratory: Laboratory) -> None:
    laboratory.check(laboratory.cz, laboratory.z, laboratory.fresh)


def test_secret_key_encryption_has_the_expected_deviation(laboratory: Laboratory) -> None:
    """The root mean square over 2^11 slots or more is within 10 % of sqrt(N (21/2 + 1/12)) / scale."""
    errors = laboratory.owner.decrypt(laboratory.cz) - laboratory.z
    measured = np.sqrt(np.mean(np.abs(errors) ** 2))
    assert measured == pytest.approx(laboratory.fresh / K1, rel=0.1)


def test_public_key_encryption(laboratory: Laboratory) -> None:
    p, engine = laboratory.evaluator.engine.parameters, laboratory.evaluator.engine
    scale = laboratory.cz.scale
    message = Plaintext(engine.encode(laboratory.z, scale, len(p.primes)), scale)
    encrypted = PublicEncryptor(engine, laboratory.owner.public_key()).encrypt(message)
    laboratory.check(encrypted, laboratory.z, laboratory.bounds.public(scale))


def test_sums(laboratory: Laboratory) -> None:
    """Errors of independent ciphertexts add as variances."""
    e, bound = laboratory.evaluator, sqrt(2) * laboratory.fresh
    laboratory.check(e.add(laboratory.cz, laboratory.cw), laboratory.z + laboratory.w, bound)
    laboratory.check(e.subtract(laboratory.cz, laboratory.cw), laboratory.z - laboratory.w, bound)


def test_sums_of_many(laboratory: Laboratory) -> None:
    p, e = laboratory.evaluator.engine.parameters, laboratory.evaluator
    zero = e.encode(np.zeros(p.slots, np.complex128), 0)
    total = e.total([laboratory.owner.encrypt(zero) for _ in range(32)])
    laboratory.check(total, np.zeros(p.slots, np.complex128), sqrt(32) * laboratory.bounds.fresh(total.scale))


def test_product_with_a_plaintext(laboratory: Laboratory) -> None:
    e, cz = laboratory.evaluator, laboratory.cz
    product = e.multiply_plain(cz, e.encode(laboratory.w, cz.level))
    bound = laboratory.bounds.multiply_plain(laboratory.fresh, 1, cz.scale, 1)
    laboratory.check(product, laboratory.z * laboratory.w, bound)
    lower = e.rescale(product)
    laboratory.check(lower, laboratory.z * laboratory.w, laboratory.bounds.rescale(bound, lower.scale))


def test_sum_with_a_plaintext(laboratory: Laboratory) -> None:
    """The rounding of the plaintext joins the error as variances do."""
    e, cz, bounds = laboratory.evaluator, laboratory.cz, laboratory.bounds
    bound = bounds.one(ERROR + 2 * ROUNDING) / cz.scale
    laboratory.check(e.add_plain(cz, e.encode(laboratory.w, cz.level)), laboratory.z + laboratory.w, bound)


def test_linear_combinations(laboratory: Laboratory) -> None:
    """Each factor is wrong by at most half a unit of the ratio of scales; errors add as variances."""
    e, z, w, cz, cw = laboratory.evaluator, laboratory.z, laboratory.w, laboratory.cz, laboratory.cw
    for ratio, factors in ((2.0**20, (1.5, -2.25)), (2.0**20, (1 / 3, 0.7)), (1.0, (3.0, -4.0))):
        combined = e.combine([(cz, factors[0]), (cw, factors[1])], cz.scale * ratio)
        bound = sqrt(factors[0] ** 2 + factors[1] ** 2) * laboratory.fresh + 2 * 0.5 / ratio
        if ratio == 1.0:
            bound -= 2 * 0.5  # whole factors are exact
        laboratory.check(combined, factors[0] * z + factors[1] * w, bound)


@pytest.mark.parametrize(("offsets", "small"), [((0, 1), 2), ((0, 1, 2, 3), 2), ((0, 1, 2, 4, 5), 2), ((4,), 4)])
def test_linear_transforms(laboratory: Laboratory, offsets: tuple[int, ...], small: int) -> None:
    e, z, cz, bounds = laboratory.evaluator, laboratory.z, laboratory.cz, laboratory.bounds
    rng, slots = np.random.default_rng(11), laboratory.evaluator.engine.parameters.slots
    diagonals = {k: np.exp(2j * np.pi * rng.uniform(size=slots)) for k in offsets}
    transform = LinearTransform.encode(e.engine, diagonals, cz.level, baby=small)
    product = transform.apply(e, cz)
    expected = sum((d * np.roll(z, -k) for k, d in diagonals.items()), np.zeros_like(z))
    giants = len({k - k % small for k in offsets} - {0})
    bound = bounds.transform(laboratory.fresh, [int(k % small > 0) for k in offsets], giants, cz.limbs, cz.scale)
    laboratory.check(product, expected, bound)
    lower = e.rescale(product)
    laboratory.check(lower, expected, bounds.rescale(bound, lower.scale))


def test_encrypted_matrices(laboratory: Laboratory) -> None:
    """Hoisted rotations times encrypted diagonals, summed, relinearised and rotated once a giant step, rescaled."""
    e, bounds, p = laboratory.evaluator, laboratory.bounds, laboratory.evaluator.engine.parameters
    rng, size, stride = np.random.default_rng(12), 4, 8
    steps, layout = DiagonalSteps(size, 1), ArrayLayout(p.slots, stride, (p.slots // stride, size))
    matrix, x = rng.choice([-1.0, 1.0], (size, 1)), rng.choice([-1.0, 1.0], layout.shape)
    top = p.top_level
    cx = laboratory.owner.encrypt(e.encode(layout.pack(x)[0].astype(np.complex128), top))
    moved = steps.moved_diagonals(matrix, p.slots, stride)
    rotations = {rotation(p, r) for r in steps.rotations(size, 1)}
    keys = laboratory.owner.evaluation_keys([KeyRequest(number, top) for number in {RELINEARISATION, *rotations}])
    encrypted = EncryptedMatrix(
        (size, 1), stride, steps, laboratory.owner.key_id,
        {m2: tuple((m1, laboratory.owner.encrypt(e.encode(d.astype(np.complex128), top))) for m1, d in row)
         for m2, row in moved.items()},
    )  # fmt: skip
    (product,) = multiply_encrypted_matrix(Evaluator(e.engine, keys), [cx], encrypted)
    slots = np.zeros(p.slots, np.complex128)
    slots[::stride] = (x @ matrix)[:, 0]
    # One slot of a row meets `size` products of ±1; the diagonals' errors meet x in all of them.
    rotated = bounds.automorphism(laboratory.fresh, cx.limbs, cx.scale)
    terms = sum(len(row) for row in moved.values())
    inner = sqrt(terms) * (rotated + laboratory.fresh + rotated * laboratory.fresh)
    giants = len(moved) * 2 * (bounds.switching(cx.limbs) + bounds.division(len(p.special_primes))) / cx.scale**2
    laboratory.check(product, slots, bounds.rescale(inner + giants, product.scale))


def test_rescaling(laboratory: Laboratory) -> None:
    """From a high scale, so that the rounding of the division is what remains."""
    p, e = laboratory.evaluator.engine.parameters, laboratory.evaluator
    for levels in {1, p.top_level}:
        scale = e.scale(p.top_level) * prod(p.primes[-levels:])
        if scale > 2.0**60:
            continue  # above what is encoded at once
        high = laboratory.owner.encrypt(e.encode(laboratory.z, p.top_level, scale))
        lower = e.rescale(high, levels)
        bound = laboratory.bounds.rescale(laboratory.bounds.fresh(scale), lower.scale, levels)
        # At 2^60 an encoding is only as exact as float64: log2 N roundings of the values.
        laboratory.check(lower, laboratory.z, bound + 2.0**-48)


def test_product(laboratory: Laboratory) -> None:
    e, cz, cw, bounds = laboratory.evaluator, laboratory.cz, laboratory.cw, laboratory.bounds
    product = e.multiply(cz, cw)
    bound = bounds.multiply((laboratory.fresh, laboratory.fresh), (1, 1), cz.limbs, product.scale)
    laboratory.check(product, laboratory.z * laboratory.w, bound)


def test_relinearisation_without_rescaling(laboratory: Laboratory) -> None:
    e, cz, cw, bounds = laboratory.evaluator, laboratory.cz, laboratory.cw, laboratory.bounds
    product = e.relinearise(e.tensor([cz], [cw]))
    before = 2 * laboratory.fresh + laboratory.fresh**2
    laboratory.check(product, laboratory.z * laboratory.w, bounds.automorphism(before, cz.limbs, product.scale))


def test_automorphisms(laboratory: Laboratory) -> None:
    e, cz, z = laboratory.evaluator, laboratory.cz, laboratory.z
    bound = laboratory.bounds.automorphism(laboratory.fresh, cz.limbs, cz.scale)
    laboratory.check(e.rotate(cz, 1), np.roll(z, -1), bound)
    laboratory.check(e.conjugate(cz), z.conj(), bound)


def test_automorphisms_at_the_lowest_level(laboratory: Laboratory) -> None:
    e, z = laboratory.evaluator, laboratory.z
    low = laboratory.owner.encrypt(e.encode(z, 0))
    bound = laboratory.bounds.automorphism(laboratory.bounds.fresh(low.scale), 1, low.scale)
    laboratory.check(e.rotate(low, 1), np.roll(z, -1), bound)


def test_a_change_of_key(laboratory: Laboratory) -> None:
    """As an automorphism, at the key's level and below; the successor of the successor bears it twice."""
    e, z, bounds = laboratory.evaluator, laboratory.z, laboratory.bounds
    owner, switched, bound = laboratory.owner, laboratory.cz, laboratory.fresh
    low, low_bound = laboratory.owner.encrypt(e.encode(z, 0)), bounds.fresh(e.scale(0))
    for _ in range(2):
        successor = SecretKey.create(e.engine)
        change = owner.key_change(successor, switched.level)
        at = replace(laboratory, owner=successor)
        switched, bound = e.change_key(switched, change), bounds.automorphism(bound, switched.limbs, switched.scale)
        at.check(switched, z, bound)
        low, low_bound = e.change_key(low, change), bounds.automorphism(low_bound, 1, low.scale)
        at.check(low, z, low_bound)
        owner = successor


def test_a_chain_of_rotations(laboratory: Laboratory) -> None:
    e, rotated, bound = laboratory.evaluator, laboratory.cz, laboratory.fresh
    for _ in range(8):
        rotated, bound = e.rotate(rotated, 1), laboratory.bounds.automorphism(bound, rotated.limbs, rotated.scale)
    laboratory.check(rotated, np.roll(laboratory.z, -8), bound)


def test_level_changes(laboratory: Laboratory) -> None:
    e, cz, bounds = laboratory.evaluator, laboratory.cz, laboratory.bounds
    for level in range(cz.level):
        wanted = e.scale(level + 1) ** 2
        bound = bounds.at_level(laboratory.fresh, 1, cz.scale, wanted, e.scale(level))
        laboratory.check(e.at_level(cz, level), laboratory.z, bound)


def test_chains_of_products_at_every_depth(laboratory: Laboratory) -> None:
    """x <- x * w, w brought to x's level each time; |z| = |w| = 1, so sizes stay 1 (and errors far below)."""
    e, bounds, fresh = laboratory.evaluator, laboratory.bounds, laboratory.fresh
    x, expected, bound = laboratory.cz, laboratory.z, fresh
    while x.level > 0:
        w, other = laboratory.cw, fresh
        if w.level != x.level:
            wanted = e.scale(x.level + 1) ** 2
            w, other = e.at_level(w, x.level), bounds.at_level(fresh, 1, w.scale, wanted, e.scale(x.level))
        bound = bounds.multiply((bound, other), (1, 1), x.limbs, e.scale(x.level - 1))
        x, expected = e.multiply(x, w), expected * laboratory.w
        laboratory.check(x, expected, bound)


def test_repeated_squaring(laboratory: Laboratory) -> None:
    """Both factors carry the same error: the bound of the product covers it."""
    e, bounds = laboratory.evaluator, laboratory.bounds
    x, expected, bound = laboratory.cz, laboratory.z, laboratory.fresh
    while x.level > 0:
        bound = bounds.multiply((bound, bound), (1, 1), x.limbs, e.scale(x.level - 1))
        x, expected = e.multiply(x, x), expected * expected
        laboratory.check(x, expected, bound)


def test_sizes_scale_the_error_of_a_product(laboratory: Laboratory) -> None:
    p, e, bounds = laboratory.evaluator.engine.parameters, laboratory.evaluator, laboratory.bounds
    big = 8 * random_slots(p.ring_dimension, np.random.default_rng(3))
    cb = laboratory.owner.encrypt(e.encode(big, p.top_level))
    product = e.multiply(cb, laboratory.cw)
    bound = bounds.multiply((laboratory.fresh, laboratory.fresh), (8, 1), cb.limbs, product.scale)
    laboratory.check(product, big * laboratory.w, bound)
