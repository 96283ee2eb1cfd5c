"""Chebyshev iteration with fixed coefficients, for a positive definite A whose spectrum lies within known bounds.

To solve A W = R with the spectrum of A inside [low, high], let M = sigma I - 2 A/(high - low) with
sigma = (high + low)/(high - low), so that the spectrum of M is inside [-1, 1]. Then

    tau_0 = 1, tau_1 = sigma, tau_{t+1} = 2 sigma tau_t - tau_{t-1}
    u_0 = 0,   u_1 = 2 R/(high - low)
    u_{t+1} = 2 M u_t - u_{t-1} + 4 tau_t/(high - low) R
    W = u_T / tau_T

has the residual R - A W = T_T(M) R / tau_T, where T_T is the Chebyshev polynomial: at most |R| / tau_T inside the
bounds, the smallest that any polynomial of degree T can promise, and growing steeply above them (Golub & Varga,
"Chebyshev semi-iterative methods", Numerische Mathematik 3, 1961). Below `low`, down to zero, it never exceeds |R|.
No division, no comparison: T steps are T - 1 products with A, additions, and products with public numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import PlanError

Floats = NDArray[np.float64]

MAX_STEPS = 64
"""More steps than any planned depth reaches; keeps tau_T far from overflow for every sane condition number."""

LARGEST = 1e150
"""Beyond this, products of two coefficients overflow a float."""


@dataclass(frozen=True)
class ChebyshevSchedule:
    """The public numbers of the recurrence for A = G + ridge I with G's spectrum inside [0, high - ridge].

    low = ridge, high: bounds on the spectrum of A, 0 < low < high. steps: T, 1 to 64.
    Raises PlanError for anything else.

    With the properties below a step reads  u_{t+1} = current u_t + gram (G u_t) - u_{t-1} + right_hand_side[t] R,
    from u_1 = right_hand_side[0] R, and the weights are W = final u_T. An evaluator may fold `gram` into the mask of
    G's diagonals and add `current` to diagonal 0: then each step is one product, one addition, one subtraction.
    """

    low: float
    high: float
    steps: int

    def __post_init__(self) -> None:
        if not (np.isfinite(self.high) and 0 < self.low < self.high):
            raise PlanError(
                f"The spectrum bounds must satisfy 0 < low < high, not low = {self.low:g} and high = {self.high:g}; "
                "give a positive ridge and a positive upper bound."
            )
        if not 1 <= self.steps <= MAX_STEPS:
            raise PlanError(f"The solve takes 1 to {MAX_STEPS} steps, not {self.steps}.")
        sizes = (self.scale, 1 / self.scale, *self.tau, *self.right_hand_side)
        if not all(size <= LARGEST for size in sizes):  # false for NaN as well
            raise PlanError(
                f"{self.steps} steps with the spectrum within {self.low:g} and {self.high:g} need numbers beyond "
                f"{LARGEST:.0e}; use fewer steps, or a ridge and a bound nearer to each other and to 1."
            )

    @cached_property
    def sigma(self) -> float:
        """(high + low)/(high - low)."""
        return (self.high + self.low) / (self.high - self.low)

    @cached_property
    def scale(self) -> float:
        """2/(high - low), the factor on R in the first step."""
        return 2 / (self.high - self.low)

    @cached_property
    def tau(self) -> tuple[float, ...]:
        """tau_0 ... tau_T."""
        values = [1.0, self.sigma]
        while len(values) <= self.steps:
            values.append(2 * self.sigma * values[-1] - values[-2])
        return tuple(values)

    @cached_property
    def current(self) -> float:
        """2 (sigma - 2 low/(high - low)), the factor on u_t; the ridge is in here."""
        return 2 * (self.sigma - self.scale * self.low)

    @cached_property
    def gram(self) -> float:
        """-4/(high - low), the factor on G u_t."""
        return -2 * self.scale

    @cached_property
    def right_hand_side(self) -> tuple[float, ...]:
        """The factor on R in each of the T steps; steps use R at its own (high) level, so they cost no depth."""
        return (self.scale, *(2 * self.scale * t for t in self.tau[1:-1]))

    @property
    def final(self) -> float:
        """1/tau_T, which an evaluator puts into the scale."""
        return 1 / self.tau[-1]

    @property
    def residual_bound(self) -> float:
        """|R - A W| / |R| is at most this, 1/tau_T, for every R if the spectrum of A is within the bounds."""
        return 1 / self.tau[-1]

    @property
    def products(self) -> int:
        """Products with G, one level each: T - 1."""
        return self.steps - 1


def chebyshev(
    schedule: ChebyshevSchedule,
    multiply: Callable[[Floats], Floats],
    right_hand_side: Floats,
    disturb: Callable[[Floats], Floats] = lambda u: u,
) -> Floats:
    """The weights W (D, columns) from R (D, columns) and `multiply`, which gives G u for u (D, columns).

    disturb: applied to every u_t with t >= 2; models the noise of a step.
    """
    previous = np.zeros_like(right_hand_side)
    u = schedule.right_hand_side[0] * right_hand_side
    for factor in schedule.right_hand_side[1:]:
        step = schedule.current * u + schedule.gram * multiply(u) - previous + factor * right_hand_side
        previous, u = u, disturb(step)
    return schedule.final * u


def choose_steps(low: float, high: float, target: float, most: int = MAX_STEPS) -> int:
    """The fewest steps T whose residual bound 1/tau_T is at most `target`, or `most` if that is not enough.

    Stopping early is no failure: directions of small variance are then shrunk more, as a larger ridge would.
    target: relative residual, 0 < target < 1.
    """
    if not 0 < target < 1:
        raise PlanError(f"The target for the relative residual must lie between 0 and 1, not at {target:g}.")
    tau = ChebyshevSchedule(low, high, most).tau
    return next((t for t in range(1, most + 1) if 1 / tau[t] <= target), most)
