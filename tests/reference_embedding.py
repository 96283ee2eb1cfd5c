"""The canonical embedding of CKKS by its definition, in fixed point on Python integers with 192 fractional bits.

Roots of unity come from halving angles with integer square roots, so nothing is shared with the engine's own table.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import isqrt
from operator import mul

_BITS = 192
_ONE = 1 << _BITS


@cache
def _unit_circle(n: int) -> tuple[list[int], list[int]]:
    """cos and sin of pi k / n for k = 0 ... 2n - 1, times 2^192, by halving the angle; off by less than 2^-170."""
    cosine, sine, order = -_ONE, 0, 2  # exp(2 pi i / order)
    halvings = [(cosine, sine)]
    while order < 2 * n:
        order *= 2
        if order == 4:
            cosine, sine = 0, _ONE
        else:
            cosine, sine = isqrt((_ONE + cosine) * _ONE // 2), isqrt((_ONE - cosine) * _ONE // 2)
        halvings.append((cosine, sine))
    table = [(_ONE, 0)]
    for c, s in reversed(halvings):
        table += [((x * c - y * s) >> _BITS, (x * s + y * c) >> _BITS) for x, y in table]
    return [x for x, _ in table], [y for _, y in table]


def embed(values: Sequence[complex], scale: float, n: int) -> list[Fraction]:
    """Coefficients of scale * embedding^-1(values) before rounding, good to 2^-100 of the largest.

    Slot j is the value at zeta^(5^j), zeta = exp(pi i / n), so m_k = 2/n Re sum_j z_j zeta^(-5^j k).
    """
    cosines, sines = _unit_circle(n)
    real = [round(Fraction(z.real) * Fraction(scale) * _ONE) for z in values]
    imaginary = [round(Fraction(z.imag) * Fraction(scale) * _ONE) for z in values]
    powers = [pow(5, j, 2 * n) for j in range(n // 2)]
    out = []
    for k in range(n):
        exponents = [power * k % (2 * n) for power in powers]
        total = sum(map(mul, real, (cosines[e] for e in exponents)))
        total += sum(map(mul, imaginary, (sines[e] for e in exponents)))
        out.append(Fraction(2 * total, n * _ONE * _ONE))
    return out


def project(coefficients: Sequence[int], scale: float, n: int) -> list[tuple[Fraction, Fraction]]:
    """Real and imaginary part of each slot of a polynomial, divided by the scale."""
    cosines, sines = _unit_circle(n)
    out = []
    for j in range(n // 2):
        exponents = [pow(5, j, 2 * n) * k % (2 * n) for k in range(n)]
        real = sum(map(mul, coefficients, (cosines[e] for e in exponents)))
        imaginary = sum(map(mul, coefficients, (sines[e] for e in exponents)))
        out.append((Fraction(real, _ONE) / Fraction(scale), Fraction(imaginary, _ONE) / Fraction(scale)))
    return out
