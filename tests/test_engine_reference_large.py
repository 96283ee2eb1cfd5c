"""Key switching and divisions at a ring dimension where the engine works in groups of limbs and blocks of coefficients.

Naive products would take minutes here. Instead, all coefficients meet Python integers between transforms, and the
transform itself is checked by Horner's rule at every dimension (test_kernels.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import pytest
from numpy.typing import NDArray
from toy import KERNELS, ToyParameters, extreme_limbs_of, limbs_of, toy_parameters

from cipherlens._evaluator import Ring
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.types import Limbs

Objects = NDArray[np.object_]

PARAMETERS = toy_parameters(1 << 14, (50, 40, 40, 40, 40, 40, 50), (50, 49, 48), 3)


@dataclass(frozen=True)
class Oracle:
    """The engine's definitions on arrays of Python integers, with the engine's transform between them."""

    p: ToyParameters
    ring: Ring

    def prime_indices(self, limbs: int, extended: bool) -> list[int]:
        special = range(len(self.p.primes), len(self.p.primes) + len(self.p.special_primes))
        return [*range(limbs), *(special if extended else ())]

    def primes(self, indices: Sequence[int]) -> list[int]:
        every = self.p.primes + self.p.special_primes
        return [every[i] for i in indices]

    def lift(self, limbs: Limbs, indices: Sequence[int]) -> Objects:
        """Coefficients in [0, product of the primes)."""
        primes = self.primes(indices)
        rows, modulus = self.ring.ntt(limbs, indices, True), prod(primes)
        total: Objects = np.zeros(self.p.ring_dimension, object)
        for row, q in zip(rows, primes, strict=True):
            total += row.astype(np.int64).astype(object) * (modulus // q * pow(modulus // q, -1, q))
        residues: Objects = total % modulus
        return residues

    def lower(self, coefficients: Objects, indices: Sequence[int]) -> Limbs:
        rows = np.array([self.centred(coefficients, q) for q in self.primes(indices)], np.float64)
        return self.ring.ntt(rows, indices)

    @staticmethod
    def centred(x: Objects, q: int) -> Objects:
        r: Objects = x % q
        centred: Objects = r - q * (r > q // 2)
        return centred

    def conversion(self, x: Objects, primes: Sequence[int]) -> Objects:
        """sum_i y_i D / d_i with centred y_i = [x (D / d_i)^-1]_{d_i}."""
        modulus = prod(primes)
        total = np.zeros(len(x), object)
        for q in primes:
            total += self.centred(x * pow(modulus // q, -1, q), q) * (modulus // q)
        return total

    def decompose(self, c: Limbs) -> Limbs:
        limbs, digits = c.shape[0], []
        coefficients = self.lift(c, range(limbs))
        for first in range(0, limbs, self.p.digit):
            group = self.p.primes[first : min(first + self.p.digit, limbs)]
            digits.append(self.lower(self.conversion(coefficients, group), self.prime_indices(limbs, True)))
        return np.stack(digits)

    def inner_product(self, digits: Limbs, key: Limbs) -> Limbs:
        limbs = digits.shape[1] - len(self.p.special_primes)
        key_limbs = key.shape[2] - len(self.p.special_primes)
        present = [*range(limbs), *range(key_limbs, key.shape[2])]
        out = np.empty((2, *digits.shape[1:]))
        for row, q in enumerate(self.primes(self.prime_indices(limbs, True))):
            for part in range(2):
                factors = key[: len(digits), part, present[row]].astype(np.int64).astype(object)
                products = digits[:, row].astype(np.int64).astype(object) * factors
                out[part, row] = self.centred(products.sum(axis=0), q)
        return out

    def divide(self, x: Limbs, indices: Sequence[int], rest: int) -> Limbs:
        """(parts, len(indices), N) divided by the primes behind the first `rest`."""
        divisor = self.primes(indices[rest:])
        out = []
        for part in x:
            whole = self.lift(part, indices)
            out.append(self.lower((whole - self.conversion(whole, divisor)) // prod(divisor), indices[:rest]))
        return np.stack(out)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(PARAMETERS, Engine(PARAMETERS, "portable").ring)


@pytest.mark.parametrize("fill", [limbs_of, extreme_limbs_of], ids=["random", "extreme"])
@pytest.mark.parametrize("limbs", [7, 5])
def test_key_switching(oracle: Oracle, limbs: int, fill: Callable[..., Limbs]) -> None:
    p, rng = PARAMETERS, np.random.default_rng(limbs)
    top, n = len(p.primes), p.ring_dimension
    c = fill(p.primes[:limbs], n, rng)
    key = fill(p.primes + p.special_primes, n, rng, (p.digits(top), 2))
    extended = oracle.prime_indices(limbs, True)
    digits = oracle.decompose(c)
    inner = oracle.inner_product(digits, key)
    down = oracle.divide(inner, extended, limbs)
    rescaled = oracle.divide(inner, extended, limbs - 1)
    for kernel in KERNELS:
        ring = Engine(p, kernel).ring
        for threads in (1, 3):
            np.testing.assert_array_equal(ring.decompose(c, threads), digits, err_msg=kernel)
            np.testing.assert_array_equal(ring.inner_product(digits, key, threads), inner, err_msg=kernel)
            np.testing.assert_array_equal(ring.mod_down(inner, None, None, 1, threads), down, err_msg=kernel)
            for rescale, expected in ((False, down), (True, rescaled)):
                got = ring.key_switch(c, key, None, None, 1, rescale, threads)
                np.testing.assert_array_equal(got, expected, err_msg=kernel)


# Sources beyond the second-level cache are converted for four targets at once, beyond the third for eight; and the last
# group of a thread may be smaller.
DEEP = {
    "2^15, groups of four": toy_parameters(1 << 15, (50, 40, 40, 40, 50), (50, 49), 2),
    "2^16, groups of eight": toy_parameters(1 << 16, (50,) + (40,) * 7 + (50,), (50, 49, 48, 47, 46), 5),
}


@pytest.mark.parametrize("shape", DEEP)
def test_key_switching_in_the_largest_rings(shape: str) -> None:
    p = DEEP[shape]
    oracle, rng = Oracle(p, Engine(p, "portable").ring), np.random.default_rng(p.ring_dimension)
    limbs, n, galois = len(p.primes), p.ring_dimension, 5
    a, b = (extreme_limbs_of(p.primes, n, rng, (2,)), limbs_of(p.primes, n, rng, (2,)))
    key = limbs_of(p.primes + p.special_primes, n, rng, (p.digits(limbs), 2))
    extended, chain = oracle.prime_indices(limbs, True), range(limbs)
    digits = oracle.decompose(a[1])
    inner = oracle.inner_product(digits, key)
    down = oracle.divide(inner, extended, limbs)
    rescaled = oracle.divide(inner, extended, limbs - 1)
    tail = len(p.special_primes)
    shorter = oracle.divide(b[:1], chain, limbs - tail) if tail < limbs else None
    for kernel in KERNELS:
        ring = Engine(p, kernel).ring
        turned = ring.automorphism(down, galois)  # itself compared with integers in small rings
        for threads in (1, 2, 3):
            np.testing.assert_array_equal(ring.decompose(a[1], threads), digits, err_msg=kernel)
            np.testing.assert_array_equal(ring.mod_down(inner, None, None, 1, threads), down, err_msg=kernel)
            for element, rescale, expected in ((1, False, down), (galois, False, turned), (1, True, rescaled)):
                got = ring.key_switch(a[1], key, None, None, element, rescale, threads)
                np.testing.assert_array_equal(got, expected, err_msg=kernel)
                got = ring.key_switch_digits(digits, key, None, None, element, rescale, threads)
                np.testing.assert_array_equal(got, expected, err_msg=kernel)
            if shorter is not None:
                np.testing.assert_array_equal(ring.divide(b[:1], tail, threads), shorter, err_msg=kernel)


def test_division_by_several_primes(oracle: Oracle) -> None:
    p = PARAMETERS
    x = limbs_of(p.primes, p.ring_dimension, np.random.default_rng(1), (2,))
    for tail in (1, 3, 5):
        expected = oracle.divide(x, range(len(p.primes)), len(p.primes) - tail)
        for kernel in KERNELS:
            for threads in (1, 3):
                got = Engine(p, kernel).ring.divide(x, tail, threads)
                np.testing.assert_array_equal(got, expected, err_msg=kernel)
