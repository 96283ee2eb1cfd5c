"""The sign of encrypted numbers: compositions of odd minimax polynomials.

`composite_sign(margin, error)` finds p = p_k ∘ … ∘ p_1 with |p(x) - sign(x)| ≤ error for margin ≤ |x| ≤ 1. Composing
was proposed by Cheon, Kim and Kim ("Efficient homomorphic comparison methods with optimal complexity", ASIACRYPT 2020,
ePrint 2019/1234). That the best p of given degrees has for every p_i the minimax approximation of the sign on the
range that p_{i-1} leaves, and that the best degrees follow by dynamic programming, is due to Lee, Lee, No and Kim
("Minimax approximation of sign function by composite polynomial for homomorphic comparison", IEEE TDSC 2022,
ePrint 2020/834).

What is particular here:

- Stages pass values normalised to [-1, 1]: the division by a stage's largest value is part of its coefficients.
- Every stage is made for inputs that are up to `noise` (2^-15) away from what the stage before should have given, and
  the first for inputs up to `noise` away from x; the largest exact output of a stage is 1 - `noise`. So noise neither
  leaves the range where a polynomial is bounded nor spoils the stated error. The noise of the very last sum adds to it.
- Between -margin and margin the value means nothing but stays within ±(1 + error): an odd minimax polynomial
  has all its critical points where it approximates, and is monotone between. Beyond ±1 values grow without bound.
- A polynomial of degree d takes ⌈log2(d+1)⌉ levels (see `cipherlens.scheme.chebyshev_plan`). Degrees go up
  to 255, so that up to 8 levels nothing takes fewer: a composition's degree, too, stays below 2^levels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike, NDArray

from cipherlens.errors import InputError, PlanError
from cipherlens.scheme.chebyshev_plan import PolynomialPlan, plan_polynomial

STAGE_CHOICES: tuple[tuple[int, int, int], ...] = (
    (1, 1, 0), (3, 2, 2), (5, 3, 3), (7, 3, 4), (9, 4, 4), (11, 4, 5), (13, 4, 6), (15, 4, 7), (19, 5, 6),
    (23, 5, 7), (27, 5, 8), (29, 5, 9), (31, 5, 10), (35, 6, 8), (43, 6, 9), (51, 6, 10), (59, 6, 11), (61, 6, 12),
    (63, 6, 13), (71, 7, 11), (87, 7, 12), (103, 7, 13), (119, 7, 14), (123, 7, 15), (125, 7, 16), (127, 7, 17),
    (135, 8, 14), (167, 8, 15), (183, 8, 16), (199, 8, 17), (231, 8, 18), (247, 8, 19), (251, 8, 20), (253, 8, 21),
    (255, 8, 22),
)  # fmt: skip
"""(degree, levels, multiplications) of odd polynomials as `plan_polynomial` makes them; a degree that costs no less
than a higher one is left out."""

DEFAULT_NOISE = 2.0**-15
MOST_NOISE = 2.0**-12
"""Inputs beyond 1 by more would magnify the rounding of coefficients: T_255(1 + 2^-12) = 139."""
LEAST_ERROR, LEAST_MARGIN = 2.0**-30, 2.0**-16
_MOST_LEVELS = 60
_FLOAT_FLOOR = 1e-12  # errors below this are rounding in float64 rather than the polynomial's
_FLOAT_SLACK = 2.0**-36  # by how much rounding in the coefficients may lift the certified error


@dataclass(frozen=True, slots=True)
class CompositeSign:
    """p_k ∘ … ∘ p_1 with |p(x) - sign(x)| ≤ `error` for `margin` ≤ |x| ≤ 1, with stage inputs off by ≤ `noise`.

    `stages[i]` are the Chebyshev coefficients of p_{i+1} (even ones are 0), whose input lies in [-1, 1]; `error` is the
    certified one, at most what was asked for; `depth` and `multiplications` count levels and relinearised products.
    """

    margin: float
    error: float
    noise: float
    stages: tuple[tuple[float, ...], ...]
    depth: int
    multiplications: int

    @property
    def degrees(self) -> tuple[int, ...]:
        """Degree of each stage, in the order of evaluation."""
        return tuple(len(stage) - 1 for stage in self.stages)

    @property
    def greater_stages(self) -> tuple[tuple[float, ...], ...]:
        """The same with (1 + p)/2: near 1 for x ≥ margin, near 0 for x ≤ -margin; half the error, no more levels."""
        half = [coefficient / 2 for coefficient in self.stages[-1]]
        return (*self.stages[:-1], (half[0] + 0.5, *half[1:]))

    def plans(self, kind: Literal["sign", "greater"] = "sign") -> tuple[PolynomialPlan, ...]:
        """How each stage is evaluated on ciphertexts, in order; for `"greater"` with `greater_stages`."""
        stages = self.stages if kind == "sign" else self.greater_stages
        return tuple(plan_polynomial(stage) for stage in stages)

    def __call__(self, x: ArrayLike) -> NDArray[np.float64]:
        """p(x) in the clear: real x of any shape gives float64 of the same shape."""
        values = np.asarray(x, dtype=np.float64)
        for stage in self.stages:
            values = np.asarray(chebyshev.chebval(values, stage), dtype=np.float64)
        return values

    def greater(self, x: ArrayLike) -> NDArray[np.float64]:
        """(1 + p(x))/2 in the clear: real x of any shape gives float64 of the same shape."""
        return (1.0 + self(x)) / 2.0


@lru_cache(maxsize=64)
def composite_sign(
    margin: float,
    error: float,
    *,
    depth_limit: int | None = None,
    fewest: Literal["levels", "multiplications"] = "levels",
    noise: float = DEFAULT_NOISE,
) -> CompositeSign:
    """The cheapest composition that tells signs apart from `margin` (2^-16 … 1) with `error` (2^-30 … 1).

    `fewest="levels"`: the fewest levels, then the fewest multiplications; `fewest="multiplications"` the other way
    round, within `depth_limit`. The search takes up to 0.2 s for margins down to 2^-7, seconds at 2^-12. `noise` is the
    largest absolute error of any stage's input, at most margin/2 and 2^-12.

    Raises InputError for values outside these ranges, PlanError if more than `depth_limit` levels are needed.
    """
    _check(margin, error, noise)
    low = (margin - noise) / (1.0 + noise)
    degrees, reached = _search(low, error, noise, by_levels=True, cap=_MOST_LEVELS)
    depth, multiplications = _cost(degrees)
    if not degrees or (depth_limit is not None and depth > depth_limit):
        takes = f"takes {depth}" if degrees else f"takes more than {_MOST_LEVELS}"
        limit = _MOST_LEVELS if depth_limit is None else depth_limit
        best = min((e for levels, e in reached.items() if levels <= limit), default=1.0)
        raise PlanError(
            f"A sign with margin {margin:.4g} and error {error:.4g} {takes} levels but {limit} are allowed, "
            f"within which the error is {best:.3g}; allow more levels, a larger error or a larger margin."
        )
    if fewest == "multiplications":
        degrees, _ = _search(low, error, noise, by_levels=False, cap=multiplications, other_cap=depth_limit)
        depth, multiplications = _cost(degrees)
    stages, certified = _build(degrees, margin, noise)
    return CompositeSign(margin, certified, noise, stages, depth, multiplications)


def _check(margin: float, error: float, noise: float) -> None:
    if not LEAST_MARGIN <= margin < 1.0:
        raise InputError(f"The margin must lie between 2^-16 and 1, not {margin!r}; give it relative to the bound.")
    if not LEAST_ERROR <= error < 1.0:
        raise InputError(f"The error of a sign must lie between 2^-30 and 1, not {error!r}; 1/4 tells signs apart.")
    most = min(margin / 2, MOST_NOISE)
    if not 0.0 <= noise <= most:
        raise InputError(
            f"The noise must lie between 0 and {most:.3g} (2^-12 and half the margin at most), not be {noise!r}; "
            "use a larger margin, or larger scales and a smaller noise."
        )


def _cost(degrees: tuple[int, ...]) -> tuple[int, int]:
    """Levels and multiplications of a composition."""
    costs = {degree: (levels, multiplications) for degree, levels, multiplications in STAGE_CHOICES}
    return sum(costs[d][0] for d in degrees), sum(costs[d][1] for d in degrees)


@dataclass(frozen=True, slots=True)
class _State:
    """Stages chosen so far: the next one's inputs lie in ±[low, 1]; `other` is the cost that counts second."""

    other: int
    low: float
    degrees: tuple[int, ...]


def _search(
    low: float, error: float, noise: float, *, by_levels: bool, cap: int, other_cap: int | None = None
) -> tuple[tuple[int, ...], dict[int, float]]:
    """Degrees of the composition of least cost, () if none up to `cap`; and the least error seen at every cost.

    For each total of the cost that counts first, the states that no other one beats in both the second cost and the
    remaining margin are kept.
    """
    frontier: dict[int, list[_State]] = {0: [_State(0, low, ())]}
    reached: dict[int, float] = {}
    for total in range(cap + 1):
        found: list[_State] = []
        finished: list[_State] = []
        for degree, levels, multiplications in STAGE_CHOICES:
            cost, other = (levels, multiplications) if by_levels else (multiplications, levels)
            for state in frontier.get(total - cost, []):
                spent = state.other + other
                if other_cap is not None and spent > other_cap:
                    continue
                _, deviation = odd_minimax(degree, state.low)
                reached[total] = min(deviation, reached.get(total, 1.0))
                after = _State(spent, _next_low(deviation, noise), (*state.degrees, degree))
                (finished if deviation + _FLOAT_SLACK <= error else found).append(after)
        if finished:
            return min(finished, key=lambda state: (state.other, -state.low)).degrees, reached
        earlier = [state for states in frontier.values() for state in states]
        frontier.setdefault(total, []).extend(_unbeaten(found, earlier))
    return (), reached


def _unbeaten(found: list[_State], earlier: list[_State]) -> Iterator[_State]:
    kept = list(earlier)
    for state in sorted(found, key=lambda state: (state.other, -state.low)):
        if all(state.other < rival.other or state.low > rival.low for rival in kept):
            kept.append(state)
            yield state


def _next_low(deviation: float, noise: float) -> float:
    """Least input of a stage after one whose values lie in 1 ± deviation, normalised to at most 1 - noise."""
    return (1.0 - noise) * (1.0 - deviation) / (1.0 + deviation) - noise


def _build(degrees: tuple[int, ...], margin: float, noise: float) -> tuple[tuple[tuple[float, ...], ...], float]:
    """Coefficients of all stages and the certified error of the last."""
    low, high = margin - noise, 1.0 + noise
    stages: list[tuple[float, ...]] = []
    for degree in degrees[:-1]:
        stage = _rescaled_argument(odd_minimax(degree, low / high)[0], high)
        least, greatest = value_range(stage, low, high)
        stage *= (1.0 - noise) / greatest
        stages.append(tuple(map(float, stage)))
        low, high = (1.0 - noise) * least / greatest - noise, 1.0
    stage = _rescaled_argument(odd_minimax(degrees[-1], low / high)[0], high)
    least, greatest = value_range(stage, low, high)
    stages.append(tuple(map(float, stage)))
    return tuple(stages), max(1.0 - least, greatest - 1.0)


def _rescaled_argument(coefficients: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Chebyshev coefficients of x ↦ p(x / factor) for an odd p."""
    if factor == 1.0:
        return coefficients
    count = len(coefficients)
    nodes = chebyshev.chebpts1(count)
    at_nodes = chebyshev.chebval(nodes / factor, coefficients)
    result = np.asarray(chebyshev.chebvander(nodes, count - 1).T @ at_nodes * (2.0 / count), dtype=np.float64)
    result[0::2] = 0.0
    return result


def value_range(coefficients: ArrayLike, low: float, high: float) -> tuple[float, float]:
    """Least and greatest value of a Chebyshev series on [low, high], 0 < low < high.

    A grid of 64 points per degree, dense towards both ends, then Newton's iteration to each critical point from the
    nearest of the grid, widened by the rounding of the evaluation.
    """
    series = np.asarray(coefficients, dtype=np.float64)
    angles = np.linspace(0.0, np.pi, 64 * len(series) + 1)
    x = np.sqrt((low**2 + high**2) / 2 - (high**2 - low**2) / 2 * np.cos(angles))
    values = chebyshev.chebval(x, series)
    slopes = np.diff(values)
    turns = np.flatnonzero(slopes[1:] * slopes[:-1] <= 0.0) + 1
    critical, first = x[turns], chebyshev.chebder(series)
    second = chebyshev.chebder(first)
    for _ in range(3):
        curvature = chebyshev.chebval(critical, second)
        step = np.divide(
            chebyshev.chebval(critical, first), curvature, out=np.zeros_like(critical), where=curvature != 0.0
        )
        critical = np.clip(critical - step, x[turns - 1], x[turns + 1])
    everything = np.concatenate([values, chebyshev.chebval(critical, series)])
    rounding = 1e-15 * float(np.abs(series).sum())
    return float(everything.min()) - rounding, float(everything.max()) + rounding


def odd_minimax(degree: int, low: float) -> tuple[NDArray[np.float64], float]:
    """The odd polynomial of odd `degree` nearest to 1 on [low, 1], 0 < low < 1, and its largest deviation there.

    Remez' exchange with the basis T_1, T_3, …: these with the constant are a Haar system on (0, 1], so the best
    approximation deviates with alternating signs at (degree + 3)/2 points and is unique. Returns Chebyshev coefficients
    of shape (degree + 1,) and the deviation, exact to about 1e-12. Raises InputError outside the ranges given.
    """
    if degree < 1 or degree % 2 == 0 or not 0.0 < low < 1.0:
        raise InputError(f"An odd degree and 0 < low < 1 are needed, not degree {degree} and low {low!r}; change them.")
    count = (degree + 1) // 2
    odd = np.arange(1, degree + 1, 2)
    density = 10
    # Squares spaced like a half circle's projection: as dense everywhere as the extrema of odd polynomials.
    squares = (low**2 + 1.0) / 2 - (1.0 - low**2) / 2 * np.cos(np.linspace(0.0, np.pi, density * count + 1))
    grid = np.arccos(np.clip(np.sqrt(squares), low, 1.0))  # angles t: x = cos t, T_n(x) = cos n·t
    on_grid = np.cos(np.outer(grid, odd))
    points = grid[::density]
    signs = (-1.0) ** np.arange(count + 1)
    coefficients, deviation = np.zeros(degree + 1), 1.0
    for _ in range(50):
        matrix = np.column_stack([np.cos(np.outer(points, odd)), signs])
        *solution, levelled = np.linalg.solve(matrix, np.ones(count + 1))
        coefficients[1::2] = solution
        residual = on_grid @ coefficients[1::2] - 1.0
        deviation = float(np.abs(residual).max())
        peaks = _peaks(residual)
        if len(peaks) != count + 1:
            break  # only where the deviation is no more than the rounding of float64
        points = _nearest_extrema(grid, peaks, coefficients[1::2], odd)
        deviation = max(deviation, float(np.abs(np.cos(np.outer(points, odd)) @ coefficients[1::2] - 1.0).max()))
        if deviation - abs(levelled) <= 1e-10 * deviation + _FLOAT_FLOOR:
            break
    return coefficients, max(deviation, _FLOAT_FLOOR)


def _peaks(residual: NDArray[np.float64]) -> NDArray[np.intp]:
    """Index of the largest |residual| in every run of one sign."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(residual > 0.0)) + 1, [residual.size]])
    return np.array([a + np.abs(residual[a:b]).argmax() for a, b in pairwise(starts)], dtype=np.intp)


def _nearest_extrema(
    grid: NDArray[np.float64], peaks: NDArray[np.intp], coefficients: NDArray[np.float64], odd: NDArray[np.int_]
) -> NDArray[np.float64]:
    """Angles of the extrema of Σ c_n·cos n·t next to the peaks, by Newton's iteration; the ends of the grid stay."""
    points = grid[peaks]
    inner = (peaks > 0) & (peaks < grid.size - 1)
    t, after, before = points[inner], grid[peaks[inner] + 1], grid[peaks[inner] - 1]
    for _ in range(3):
        slope = np.sin(np.outer(t, odd)) @ (odd * coefficients)
        curvature = np.cos(np.outer(t, odd)) @ (odd**2 * coefficients)
        t = np.clip(t - np.divide(slope, curvature, out=np.zeros_like(t), where=curvature != 0.0), after, before)
    points[inner] = t
    return points
