"""Laws of linear transforms, monomials, polynomials and comparisons for any values, in rings of every dimension.

Few examples each: the largest rings take a second apiece. `test_engine_properties.py` tries more in smaller ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import chebyshev
from toy import owner_and_evaluator

from cipherlens.owner.secret_key import SecretKey
from cipherlens.scheme.chebyshev_plan import plan_polynomial
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.scheme.comparison import greater, plan_comparison
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import RELINEARISATION, KeyRequest, conjugation, rotation
from cipherlens.scheme.linear_transform import LinearTransform
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.polynomial import evaluate_polynomial
from cipherlens.scheme.types import Slots

TOLERANCE = 2.0**-10  # noise at these scales, with a few products of values up to 4, stays below a fourth of it
OFFSETS = (0, 1, 2, 3, 4)

few = settings(max_examples=6, deadline=None)

WORLDS = {
    13: Parameters.generate(1 << 13, 3, scale_bits=32, first_bits=42, special=1, special_bits=44, digit=1),
    14: Parameters.generate(1 << 14, 5, scale_bits=38, first_bits=46, special=2, special_bits=45, digit=2),
    15: Parameters.generate(1 << 15, 3, scale_bits=38, first_bits=46, special=2, special_bits=45, digit=2),
    16: Parameters.generate(1 << 16, 2, scale_bits=40, first_bits=48, special=3, special_bits=46, digit=3),
}


@dataclass(frozen=True)
class World:
    """An owner and an evaluator under the owner's keys."""

    owner: SecretKey
    evaluator: Evaluator

    @property
    def parameters(self) -> Parameters:
        return self.evaluator.engine.parameters

    def slots(self, pattern: list[complex]) -> Slots:
        return np.resize(np.array(pattern, np.complex128), self.parameters.slots)

    def encrypt(self, slots: Slots) -> Ciphertext:
        return self.owner.encrypt(self.evaluator.encode(slots, self.parameters.top_level))

    def error(self, ciphertext: Ciphertext, expected: Slots) -> float:
        return float(np.abs(self.owner.decrypt(ciphertext) - expected).max())


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    p = WORLDS[cast(int, request.param)]
    numbers = [RELINEARISATION, conjugation(p), *(rotation(p, steps) for steps in OFFSETS)]
    return World(*owner_and_evaluator(p, [KeyRequest(number, p.top_level) for number in numbers]))


part = st.floats(-1, 1, width=32)
patterns = st.lists(st.builds(complex, part, part), min_size=1, max_size=9)
reals = st.lists(part, min_size=1, max_size=9)
sixteenths = st.integers(-16, 16).map(lambda k: k / 16)  # a coefficient far below the others would count as none


@few
@given(x=patterns, y=patterns, step=st.sampled_from(OFFSETS))
def test_sums_products_and_automorphisms(world: World, x: list[complex], y: list[complex], step: int) -> None:
    e, a, b = world.evaluator, world.slots(x), world.slots(y)
    ca, cb = world.encrypt(a), world.encrypt(b)
    assert world.error(e.subtract(e.add(ca, cb), cb), a) < TOLERANCE
    product = e.multiply(ca, cb)
    assert product.scale == e.scale(product.level)
    assert world.error(product, a * b) < TOLERANCE
    np.testing.assert_array_equal(product.data, e.relinearise(e.tensor([ca], [cb]), rescale=True).data)
    assert world.error(e.rotate(e.conjugate(ca), step), np.roll(a, -step).conj()) < TOLERANCE
    np.testing.assert_array_equal(e.hoisted(ca, [rotation(world.parameters, step)])[0].data, e.rotate(ca, step).data)
    low = e.at_level(ca, 0, 0.5)
    assert (low.level, low.scale) == (0, e.scale(0))
    assert world.error(low, a / 2) < TOLERANCE


@few
@given(
    x=patterns, y=patterns, diagonals=st.dictionaries(st.sampled_from(OFFSETS), patterns, min_size=1, max_size=4),
    baby=st.sampled_from([1, 2, 4]),
)  # fmt: skip
def test_linear_transforms(
    world: World, x: list[complex], y: list[complex], diagonals: dict[int, list[complex]], baby: int
) -> None:
    """M x is the sum of rotated diagonals, M(x + y) = Mx + My, and every split into steps gives the same."""
    e, a, b, level = world.evaluator, world.slots(x), world.slots(y), world.parameters.top_level
    rows = {k: world.slots(pattern) for k, pattern in diagonals.items()}
    matrix = LinearTransform.encode(e.engine, rows, level, baby=baby)
    ca, cb = world.encrypt(a), world.encrypt(b)

    def product(v: Slots) -> Slots:
        return sum((d * np.roll(v, -k) for k, d in rows.items()), np.zeros_like(v))

    one = matrix.apply(e, ca)
    assert (one.level, one.scale) == (level, ca.scale * matrix.scale)
    assert world.error(e.rescale(one), product(a)) < TOLERANCE
    both = e.add(one, matrix.apply(e, cb))
    assert world.error(e.rescale(both), product(a + b)) < TOLERANCE
    assert world.error(e.rescale(matrix.apply(e, e.add(ca, cb))), product(a + b)) < TOLERANCE
    threaded = matrix.apply(Evaluator(e.engine, e.keys, 2), ca)
    np.testing.assert_array_equal(threaded.data, one.data)


@few
@given(x=patterns, i=st.integers(-(2**18), 2**18), j=st.integers(-(2**18), 2**18))
def test_monomials(world: World, x: list[complex], i: int, j: int) -> None:
    """X^i X^j = X^(i + j) and X^2N = 1 to the last bit; X^(N/2) is i in every slot; sums are respected."""
    e, n, a = world.evaluator, world.parameters.ring_dimension, world.slots(x)
    ca = world.encrypt(a)
    twice = e.multiply_monomial(e.multiply_monomial(ca, i), j)
    np.testing.assert_array_equal(twice.data, e.multiply_monomial(ca, i + j).data)
    np.testing.assert_array_equal(e.multiply_monomial(ca, i).data, e.multiply_monomial(ca, i % (2 * n)).data)
    np.testing.assert_array_equal(e.multiply_monomial(ca, n).data, e.negate(ca).data)
    assert world.error(e.multiply_monomial(ca, n // 2), 1j * a) < TOLERANCE
    # Slot k is the value at zeta^(5^k), so X^i multiplies it by zeta^(i 5^k).
    powers = np.array([pow(5, k, 2 * n) * i % (2 * n) for k in range(n // 2)])
    assert world.error(e.multiply_monomial(ca, i), a * np.exp(1j * np.pi * powers / n)) < TOLERANCE


@few
@given(x=reals, series=st.lists(sixteenths, min_size=2, max_size=4))
def test_polynomials(world: World, x: list[float], series: list[float]) -> None:
    """Of degree up to 3, two levels: their values, at the scale of their level, and p + q as the sum of both."""
    if not any(series[1:]):
        series = [*series[:-1], 1.0]
    e, a = world.evaluator, world.slots([complex(v) for v in x])
    ca, plan = world.encrypt(a), plan_polynomial(series)
    value = evaluate_polynomial(e, plan, ca)
    assert value.level == ca.level - plan.depth
    assert value.scale == e.scale(value.level)
    assert world.error(value, chebyshev.chebval(a.real, series)) < TOLERANCE
    doubled = evaluate_polynomial(e, plan_polynomial([2 * c for c in series]), ca)
    assert world.error(e.subtract(doubled, e.add(value, value)), np.zeros_like(a)) < TOLERANCE


@pytest.fixture(scope="module")
def comparing() -> World:
    p = WORLDS[14]
    return World(*owner_and_evaluator(p, [KeyRequest(RELINEARISATION, p.top_level)]))


@few
@given(x=reals, y=reals, bound=st.sampled_from([2.0, 3.0]))
def test_comparisons(comparing: World, x: list[float], y: list[float], bound: float) -> None:
    """Right outside the margin, and greater(a, b) + greater(b, a) = 1 everywhere inside the bound."""
    e, margin = comparing.evaluator, 2.0**-4
    a, b = (comparing.slots([complex(v) for v in values]) for values in (x, y))
    ca, cb = comparing.encrypt(a), comparing.encrypt(b)
    result = greater(e, ca, cb, bound=bound, margin=margin)
    assert result.level == ca.level - plan_comparison(margin).depth - 1
    far = np.abs(a - b) >= margin * bound
    found = comparing.owner.decrypt(result)
    assert np.abs(found - (a.real > b.real))[far].max(initial=0.0) <= 0.25
    assert np.abs(found - 0.5).max() <= 0.75 + TOLERANCE
    opposite = greater(e, cb, ca, bound=bound, margin=margin)
    assert comparing.error(e.add(result, opposite), np.ones_like(a)) < TOLERANCE
