"""How far encrypted arrays are from what they stand for: an upper estimate, from public numbers alone.

Errors are in units of a slot; times the plan's `unit` they are absolute errors of values. Coefficients with independent
errors of variance v give every slot a nearly Gaussian error of variance N v (Gentry, Halevi, Smart, "Homomorphic
evaluation of the AES circuit", 2012, appendix A.5), and the estimates take six deviations. Where two random polynomials
meet, the tail beyond t deviations falls as e^-2t only, and they take twelve. Errors of different elements count as
independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt

from cipherlens.scheme.parameters import Parameters

COARSEST_ERROR = 2.0**-4
"""Errors from here on, relative to the bound, leave nothing of a result: such an operation is refused."""

_ERROR, _TERNARY, _ROUNDING = 21 / 2, 2 / 3, 1 / 12  # variances: of an encryption's error, a secret, a rounding


@dataclass(frozen=True)
class ArrayNoise:
    """Estimates for one ring.

    Attributes:
        parameters: the ring.
    """

    parameters: Parameters

    def _one(self, variance: float) -> float:
        return 6.0 * sqrt(self.parameters.ring_dimension * variance)

    def _two(self, first: float, second: float) -> float:
        return 12.0 * self.parameters.ring_dimension * sqrt(first * second)

    def fresh(self, level: int) -> float:
        """Of a fresh encryption."""
        return self._one(_ERROR + _ROUNDING) / self.parameters.scales[level]

    def encoding(self, level: int) -> float:
        """Of a clear operand."""
        return self._one(_ROUNDING) / self.parameters.scales[level]

    def division(self, level: int, primes: int = 1) -> float:
        """Of a division by `primes` primes that ends at a level: a rounding in each part, one of which meets the secret."""
        variance = primes * _ROUNDING
        return (self._one(variance) + self._two(variance, _TERNARY)) / self.parameters.scales[level]

    def rotation(self, level: int) -> float:
        """Of one key switch: its digits meet the key's errors, and the sum is divided by P."""
        p = self.parameters
        groups = [p.primes[first : min(first + p.digit, level + 1)] for first in range(0, level + 1, p.digit)]
        switched = sum(prod(group) * self._two(len(group) * _ROUNDING, _ERROR) for group in groups)
        return switched / prod(p.special_primes) / p.scales[level] + self.division(level, len(p.special_primes))

    def product(self, first: float, second: float, unit: int, level: int) -> float:
        """Of a product of encrypted numbers at a level, rescaled. Each is the root of the bound in size, so that the
        product stays within it."""
        special = len(self.parameters.special_primes)
        return sqrt(unit) * (first + second) + self.division(level - 1, special + 1)

    def clear_product(self, error: float, largest: float, level: int) -> float:
        """Of a product with clear numbers up to `largest` at a level, rescaled."""
        return largest * error + self.encoding(level) + self.division(level - 1)

    def total(self, error: float, steps: int, ciphertexts: int, level: int) -> float:
        """Of a sum over `ciphertexts` and then over 2^steps slots by rotations at a level."""
        return sqrt(ciphertexts * 2**steps) * (error + 3.0 * self.rotation(level) * (steps > 0))

    def matrix_product(self, error: float, column: float, rows: int, level: int) -> float:
        """Of a product at a level, rescaled, with a matrix whose longest column has this Euclidean length."""
        return column * (error + self.rotation(level)) + sqrt(rows) * self.encoding(level) + self.division(level - 1, 2)
