"""Composite minimax polynomials for the sign, and the plans that evaluate polynomials on ciphertexts."""

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from cipherlens.errors import InputError, PlanError
from cipherlens.scheme.chebyshev_plan import (
    MAX_DEGREE,
    ChebyshevProduct,
    MultiplyAccumulate,
    evaluate,
    evaluate_clear,
    plan_polynomial,
)
from cipherlens.scheme.minimax import (
    DEFAULT_NOISE,
    STAGE_CHOICES,
    CompositeSign,
    composite_sign,
    odd_minimax,
    value_range,
)

GRID = np.cos(np.linspace(0.0, np.pi, 501))


def dense_series(degree: int, parity: int | None = None, seed: int = 0) -> NDArray[np.float64]:
    series = np.random.default_rng(seed).uniform(0.5, 1.0, degree + 1)
    if parity is not None:
        series[1 - parity :: 2] = 0.0
    return series


@dataclass(frozen=True)
class Encoded:
    """Integers like a ciphertext's: the value times its scale, rounded."""

    integers: NDArray[np.float64]
    level: int
    scale: float
    pending: bool = False


class UnevenModuli:
    """Ciphertext arithmetic without encryption: uneven divisors, exact scales, the same refusals."""

    def __init__(self, scale: float, levels: int) -> None:
        rng = np.random.default_rng(levels)
        self._divisors = [scale * (1.0 + rng.uniform(-1e-4, 1e-4)) for _ in range(levels + 1)]
        self.relinearised = 0

    def level(self, value: Encoded) -> int:
        return value.level

    def scale(self, value: Encoded) -> float:
        return value.scale

    def divisor(self, level: int) -> float:
        return self._divisors[level]

    def drop(self, value: Encoded, level: int) -> Encoded:
        assert 0 <= level <= value.level and not value.pending
        return replace(value, level=level)

    def multiply(self, left: Encoded, right: Encoded) -> Encoded:
        assert left.level == right.level and not (left.pending or right.pending)
        self.relinearised += 1
        return Encoded(left.integers * right.integers, left.level, left.scale * right.scale, True)

    def multiply_constant(self, value: Encoded, constant: float, scale: float) -> Encoded:
        assert not value.pending
        return Encoded(value.integers * np.rint(constant * (scale / value.scale)), value.level, scale, True)

    def add(self, left: Encoded, right: Encoded) -> Encoded:
        assert left.level == right.level and math.isclose(left.scale, right.scale, rel_tol=1e-14)
        return replace(left, integers=left.integers + right.integers)

    def subtract(self, left: Encoded, right: Encoded) -> Encoded:
        return self.add(left, replace(right, integers=-right.integers))

    def add_constant(self, value: Encoded, constant: float) -> Encoded:
        return replace(value, integers=value.integers + np.rint(constant * value.scale))

    def rescale(self, value: Encoded) -> Encoded:
        assert value.level >= 1 and value.pending
        divisor = self._divisors[value.level]
        return Encoded(np.rint(value.integers / divisor), value.level - 1, value.scale / divisor)


series_strategy = st.integers(1, 80).flatmap(
    lambda degree: hnp.arrays(np.float64, degree + 1, elements=st.floats(-4.0, 4.0, allow_subnormal=False))
)


@settings(max_examples=150, deadline=None)
@given(series_strategy, st.sampled_from([None, 0, 1]), st.integers(0, 2))
def test_plan_equals_chebval_at_the_promised_depth(series: NDArray[np.float64], parity: int | None, spare: int) -> None:
    series = series.copy()
    if parity is not None:
        series[1 - parity :: 2] = 0.0
    significant = np.abs(series) > 2.0**-52 * np.abs(series).max()
    degree = int(np.flatnonzero(significant).max(initial=0))
    if degree == 0:
        return
    plan = plan_polynomial(series)
    assert plan.depth == math.ceil(math.log2(degree + 1)) and plan.degree == degree
    result = evaluate_clear(plan, GRID, level=plan.depth + spare)
    assert result.level == spare and not result.pending
    assert np.abs(result.array - chebyshev.chebval(GRID, series)).max() <= 1e-12 * np.abs(series).sum()


@settings(max_examples=40, deadline=None)
@given(series_strategy, st.integers(0, 3), st.floats(0.9, 1.1))
def test_plan_keeps_scales_exact_on_uneven_moduli(series: NDArray[np.float64], spare: int, factor: float) -> None:
    if np.count_nonzero(np.abs(series[1:]) > 2.0**-40) == 0:
        return
    scale = 2.0**40
    plan = plan_polynomial(series)
    backend = UnevenModuli(scale, plan.depth + spare)
    start = Encoded(np.rint(GRID * scale), plan.depth + spare, scale)
    result = evaluate(plan, start, backend, scale=scale * factor)
    assert result.level == spare and math.isclose(result.scale, scale * factor, rel_tol=1e-13)
    error = np.abs(result.integers / result.scale - chebyshev.chebval(GRID, series)).max()
    assert error <= 2.0**-24 * max(1.0, float(np.abs(series).sum()))
    assert backend.relinearised == plan.products


@pytest.mark.parametrize("parity", [None, 0, 1])
def test_every_degree_up_to_64_and_some_large_ones(parity: int | None) -> None:
    for degree in [*range(1, 65), 100, 127, 255]:
        if parity is None or degree % 2 == parity:
            series = dense_series(degree, parity, degree)
            plan = plan_polynomial(series)
            result = evaluate_clear(plan, GRID)
            assert (plan.depth, result.level) == (degree.bit_length(), 0)
            assert np.abs(result.array - chebyshev.chebval(GRID, series)).max() <= 1e-12 * series.sum()


def test_plans_are_made_as_documented() -> None:
    plan = plan_polynomial(dense_series(31, 1))
    kinds = [isinstance(step, ChebyshevProduct) for step in plan.steps]
    assert kinds == sorted(kinds, reverse=True), "basis values come first"
    used = [factor for step in plan.steps if isinstance(step, MultiplyAccumulate) for factor, _ in step.products]
    assert len(used) == len(set(used)), "the scale of a sum is free because it is used once"
    for number, step in enumerate(plan.steps, start=1):
        if isinstance(step, ChebyshevProduct):
            operands = [step.left, step.right, *([] if step.difference is None else [step.difference])]
        else:
            operands = [value for pair in step.products for value in pair] + [value for _, value in step.linear]
        assert max(plan.depths[value] for value in operands) < plan.depths[number]
    assert plan.depths[0] == 0 and plan.depths[-1] == plan.depth == 5


def test_few_multiplications() -> None:
    counts = {
        degree: plan_polynomial(dense_series(degree, 1)).multiplications for degree in (3, 5, 7, 9, 15, 27, 31, 59)
    }
    assert counts == {3: 2, 5: 3, 7: 4, 9: 4, 15: 7, 27: 8, 31: 10, 59: 11}
    assert plan_polynomial(dense_series(15, 1), depth=5).multiplications == 6
    assert plan_polynomial([0.0, 0.3]).multiplications == 0
    assert plan_polynomial([0.5, *dense_series(31, 1)[1:]]).multiplications == 10, "a constant does not spoil oddness"


def test_a_lone_basis_polynomial_makes_nothing_else() -> None:
    plan = plan_polynomial(np.eye(17)[16])
    assert (plan.depth, plan.multiplications) == (5, 4)
    assert np.allclose(evaluate_clear(plan, GRID).array, chebyshev.chebval(GRID, np.eye(17)[16]))


@pytest.mark.parametrize(
    "coefficients",
    [[], [1.0], [2.0, 0.0, 0.0], [0.0, math.nan], [0.0, math.inf], [[0.0, 1.0]], ["a", "b"], [0.0, 1j], 3.0],
)
def test_unusable_coefficients_are_refused(coefficients: object) -> None:
    with pytest.raises(InputError):
        plan_polynomial(coefficients)  # type: ignore[arg-type]


def test_too_high_a_degree_or_too_few_levels_are_refused() -> None:
    with pytest.raises(InputError, match="up to degree 511, not 512"):
        plan_polynomial(np.ones(MAX_DEGREE + 2))
    with pytest.raises(PlanError, match=r"takes 3 levels but 2 are allowed; .* degree 3"):
        plan_polynomial(np.ones(8), depth=2)
    with pytest.raises(PlanError, match="takes 3 levels but the value has 2 left"):
        evaluate_clear(plan_polynomial(np.ones(8)), GRID, level=2)


def test_minimax_of_degree_one_is_the_known_one() -> None:
    for low in (0.01, 0.3, 0.9):
        coefficients, deviation = odd_minimax(1, low)
        assert coefficients == pytest.approx([0.0, 2.0 / (1.0 + low)], rel=1e-9)
        assert deviation == pytest.approx((1.0 - low) / (1.0 + low), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 32), st.floats(0.002, 0.7))
def test_minimax_polynomials_deviate_equally_and_alternate(half: int, low: float) -> None:
    degree = 2 * half - 1
    coefficients, deviation = odd_minimax(degree, low)
    if deviation < 1e-10:
        return
    x = np.sqrt((low**2 + 1) / 2 - (1 - low**2) / 2 * np.cos(np.linspace(0.0, np.pi, 200 * half + 1)))
    residual = chebyshev.chebval(x, coefficients) - 1.0
    assert np.abs(residual).max() <= deviation * (1 + 1e-7) + 1e-12
    runs = np.split(residual, np.flatnonzero(np.diff(residual > 0)) + 1)
    heights = [np.abs(run).max() for run in runs]
    # de la Vallée-Poussin: half + 1 alternations of this height prove that no polynomial does better
    assert len(heights) == half + 1 and min(heights) >= deviation * (1 - 1e-3) - 2e-12
    least, greatest = value_range(coefficients, low, 1.0)
    assert max(1.0 - least, greatest - 1.0) == pytest.approx(deviation, rel=1e-6, abs=1e-11)


def test_minimax_refuses_what_has_no_answer() -> None:
    for degree, low in [(2, 0.1), (0, 0.1), (3, 0.0), (3, 1.0)]:
        with pytest.raises(InputError):
            odd_minimax(degree, low)


def test_stage_choices_are_what_plans_cost() -> None:
    for degree, levels, multiplications in STAGE_CHOICES:
        plan = plan_polynomial(dense_series(degree, 1))
        assert (plan.depth, plan.multiplications) == (levels, multiplications)
    for degree in range(1, 64, 2):
        plan = plan_polynomial(dense_series(degree, 1))
        assert any(d >= degree and k <= plan.depth and m <= plan.multiplications for d, k, m in STAGE_CHOICES)


def test_the_promised_depths() -> None:
    assert composite_sign(2.0**-5, 0.25).depth == 5
    assert composite_sign(2.0**-8, 0.25).depth == 8
    cheap = composite_sign(2.0**-8, 0.25, depth_limit=9, fewest="multiplications")
    assert cheap.depth <= 9 and cheap.multiplications < composite_sign(2.0**-8, 0.25).multiplications


def test_no_composition_is_cheaper() -> None:
    margin, error, noise = 2.0**-4, 2.0**-4, DEFAULT_NOISE
    costs = {degree: (levels, m) for degree, levels, m in STAGE_CHOICES if 3 <= degree <= 63}
    good: list[tuple[int, int]] = []
    for count in (1, 2, 3):
        for degrees in product(costs, repeat=count):
            depth = sum(costs[d][0] for d in degrees)
            if depth <= 8:
                low = (margin - noise) / (1 + noise)
                deviation = 1.0
                for degree in degrees:
                    _, deviation = odd_minimax(degree, low)
                    low = (1 - noise) * (1 - deviation) / (1 + deviation) - noise
                if deviation <= error:
                    good.append((depth, sum(costs[d][1] for d in degrees)))
    best = composite_sign(margin, error)
    assert (best.depth, best.multiplications) == min(good)
    fewest = composite_sign(margin, error, depth_limit=8, fewest="multiplications")
    assert (fewest.multiplications, fewest.depth) == min((m, depth) for depth, m in good)


CASES = [(2, 0.25), (5, 0.25), (5, 2.0**-7), (8, 0.25), (8, 2.0**-10), (10, 2.0**-4)]


@pytest.mark.parametrize(("bits", "error"), CASES)
@pytest.mark.parametrize("fewest", ["levels", "multiplications"])
def test_certified_error_holds_everywhere(bits: int, error: float, fewest: str) -> None:
    sign = composite_sign(2.0**-bits, error, fewest=fewest)
    assert sign.error <= error
    assert sign.depth == sum(degree.bit_length() for degree in sign.degrees)
    rng = np.random.default_rng(bits)
    x = np.concatenate([np.geomspace(sign.margin, 1.0, 20_001), rng.uniform(sign.margin, 1.0, 20_000)])
    assert np.abs(sign(x) - 1.0).max() <= sign.error
    assert np.abs(sign(x) - 1.0).max() >= 0.5 * sign.error, "certified, not merely bounded"
    assert np.allclose(sign(-x), -sign(x), rtol=0, atol=1e-14)
    assert np.abs(sign.greater(-x)).max() <= sign.error / 2 + 1e-15
    inside = np.linspace(-sign.margin, sign.margin, 4_001)
    assert np.abs(sign(inside)).max() <= 1.0 + sign.error, "bounded inside the margin, too"
    assert sign(np.zeros((2, 3))).shape == (2, 3)


@settings(max_examples=40, deadline=None)
@given(st.floats(2.0**-7, 0.9), st.floats(1.0, 30.0), st.sampled_from([0.0, 2.0**-20, 2.0**-15, 2.0**-12]))
def test_any_margin_and_error_are_kept(margin: float, bits: float, noise: float) -> None:
    error = 2.0**-bits
    sign = composite_sign(margin, error, noise=noise)
    assert sign.error <= error
    x = np.linspace(margin, 1.0, 2_001)
    assert np.abs(sign(x) - 1.0).max() <= sign.error + 1e-14


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 2**32 - 1))
def test_noise_between_stages_does_not_spoil_the_error(case: tuple[int, float], seed: int) -> None:
    sign = composite_sign(2.0 ** -case[0], case[1])
    rng = np.random.default_rng(seed)
    x = rng.choice([-1.0, 1.0], 3_000) * np.concatenate(
        [np.geomspace(sign.margin, 1.0, 1_500), rng.uniform(sign.margin, 1.0, 1_500)]
    )
    y = x
    for stage in sign.stages:
        y = chebyshev.chebval(y + sign.noise * rng.choice([-1.0, 0.0, 1.0], y.shape), stage)
        assert stage is sign.stages[-1] or np.abs(y).max() <= 1.0 - sign.noise + 1e-12
    assert np.abs(y - np.sign(x)).max() <= sign.error + 1e-12


@pytest.mark.parametrize("kind", ["sign", "greater"])
def test_plans_of_a_sign_evaluate_it_in_its_depth(kind: str) -> None:
    sign = composite_sign(2.0**-6, 2.0**-5)
    plans = sign.plans(kind)  # type: ignore[arg-type]
    assert sum(plan.depth for plan in plans) == sign.depth
    assert sum(plan.multiplications for plan in plans) == sign.multiplications
    scale = 2.0**40
    backend = UnevenModuli(scale, sign.depth)
    value = Encoded(np.rint(GRID * scale), sign.depth, scale)
    for plan in plans:
        value = evaluate(plan, value, backend)
    assert value.level == 0
    clear = sign(GRID) if kind == "sign" else sign.greater(GRID)
    assert np.abs(value.integers / value.scale - clear).max() < 2.0**-20


def test_depth_limit_is_kept_or_refused_with_numbers() -> None:
    assert composite_sign(2.0**-5, 0.25, depth_limit=5).depth == 5
    with pytest.raises(PlanError, match=r"takes 8 levels but 5 are allowed, within which the error is 0\.82"):
        composite_sign(2.0**-8, 0.25, depth_limit=5)
    assert composite_sign(0.9, 0.25).degrees == (1,)


@pytest.mark.parametrize(
    ("margin", "error", "noise"),
    [
        (0.0, 0.25, 0.0),
        (1.0, 0.25, 0.0),
        (-0.5, 0.25, 0.0),
        (math.nan, 0.25, 0.0),
        (0.1, 0.0, 0.0),
        (0.1, 1.0, 0.0),
        (0.1, math.nan, 0.0),
        (2.0**-16, 0.25, DEFAULT_NOISE),
        (0.1, 0.25, -1.0),
        (0.1, 0.25, 2.0**-11),
    ],
)
def test_impossible_requests_are_refused(margin: float, error: float, noise: float) -> None:
    with pytest.raises(InputError):
        composite_sign(margin, error, noise=noise)


def test_results_are_values() -> None:
    first = composite_sign(2.0**-4, 0.25)
    assert isinstance(first, CompositeSign) and first == composite_sign(2.0**-4, 0.25) and hash(first) == hash(first)
