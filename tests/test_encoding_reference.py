"""Encoding and decoding against the canonical embedding evaluated exactly."""

from fractions import Fraction

import numpy as np
import pytest
from reference_embedding import embed, project

from cipherlens._evaluator import Encoder


def slot_values(n: int, seed: int) -> list[complex]:
    rng = np.random.default_rng(seed)
    return [complex(z) for z in rng.uniform(-1, 1, n // 2) + 1j * rng.uniform(-1, 1, n // 2)]


@pytest.mark.parametrize("n", [64, 128, 256])
def test_encoding_rounds_the_exact_embedding(n: int) -> None:
    """At a scale of 2^28, floating-point errors stay below 2^-20: only a tie closer than that may round differently."""
    for seed in range(2):
        values = slot_values(n, seed)
        exact = embed(values, 2.0**28, n)
        got = Encoder(n).embed(np.array(values), 2.0**28)
        for coefficient, wanted in zip(got, exact, strict=True):
            distance = abs(abs(wanted - round(wanted)) - Fraction(1, 2))
            if distance > 2.0**-20:
                assert int(coefficient) == round(wanted)
            else:
                assert abs(int(coefficient) - wanted) < 0.5 + 2.0**-20


@pytest.mark.parametrize("scale", [2.0**40, 2.0**52, 2.0**60])
def test_encoding_at_large_scales_is_as_good_as_float64(scale: float) -> None:
    """log2(N/2) layers, each of which adds at most 2 roundings of the largest value, and one for the scale."""
    n = 128
    values = slot_values(n, 7)
    got = Encoder(n).embed(np.array(values), scale)
    allowed = 0.5 + scale * np.sqrt(2) * 2.0**-53 * (2 * 6 + 1)
    for coefficient, wanted in zip(got, embed(values, scale, n), strict=True):
        assert abs(int(coefficient) - wanted) <= allowed


@pytest.mark.parametrize("n", [64, 256])
def test_decoding_evaluates_at_powers_of_five(n: int) -> None:
    rng = np.random.default_rng(9)
    coefficients = rng.integers(-(2**40), 2**40, n).astype(np.float64)
    got = Encoder(n).project(coefficients, 2.0**34)
    exact = project([int(c) for c in coefficients], 2.0**34, n)
    wanted = np.array([complex(float(x), float(y)) for x, y in exact])
    assert np.abs(got - wanted).max() <= 2.0**-53 * 2 * np.log2(n) * np.abs(coefficients).sum() / 2.0**34


def test_monomials_encode_exactly() -> None:
    """The slots of X^k are zeta^(5^j k): every coefficient but the k-th rounds to zero."""
    n = 64
    for k in (0, 1, 31, 32, 63):
        monomial = [int(i == k) for i in range(n)]
        slots = np.array([complex(float(x), float(y)) for x, y in project(monomial, 1, n)])
        np.testing.assert_array_equal(Encoder(n).embed(slots, 2.0**40), np.where(np.arange(n) == k, 2.0**40, 0))
