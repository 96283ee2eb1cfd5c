"""Signs and comparisons of encrypted numbers, by the composite minimax polynomials of `minimax`.

A polynomial cannot jump. So every comparison has a *bound* on |a - b| and a *margin*, relative to the bound: the result
is right where margin * bound <= |a - b| <= bound. Nearer than that it lies somewhere between 0 and 1; beyond the bound
it grows without limit and may spoil the other slots of its ciphertext too.
"""

from __future__ import annotations

from math import isfinite

from cipherlens.errors import InputError, PlanError
from cipherlens.scheme.chebyshev_plan import plan_polynomial
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.minimax import CompositeSign, composite_sign
from cipherlens.scheme.polynomial import evaluate_polynomial

DEFAULT_ERROR = 0.25
"""Largest error of a comparison's 0 or 1: enough to tell them apart."""

LEAST_MARGIN = 2.0**-14
"""Twice the noise that composites are made for."""


def plan_comparison(margin: float, error: float = DEFAULT_ERROR, *, levels: int | None = None) -> CompositeSign:
    """The composite for `greater` with this margin and this largest error of its 0 or 1, in the fewest levels.

    4 levels for a margin of 2^-5 and an error of 1/4, 5 for 1/8; 7 and 8 for a margin of 2^-8.

    Raises:
        PlanError: it takes more than `levels`; the message says how many.
        InputError: a margin outside [2^-14, 1) or an error outside [2^-31, 1/2).
    """
    if not 0.0 < error < 0.5:
        raise InputError(f"The error of a comparison must lie between 0 and 1/2, not {error!r}; 1/4 tells 0 from 1.")
    if not LEAST_MARGIN <= margin < 1.0:
        raise InputError(f"The margin must lie between 2^-14 and 1, relative to the bound, not {margin!r}; change it.")
    composite = composite_sign(margin, 2.0 * error)
    if levels is not None and composite.depth > levels:
        raise PlanError(
            f"A comparison with margin {margin:.4g} and error {error:.4g} takes {composite.depth} levels but {levels} "
            f"are left; plan for {composite.depth - levels} more, a larger margin or a larger error."
        )
    return composite


def rounding_noise(ring_dimension: int, scale: float) -> float:
    """Largest error that a rescale leaves in a slot, but for one key in a million.

    A rounding error has variance 1/12 in each coefficient of the two parts, one of which meets a ternary secret: N / 18.
    A slot sums N of them: its error is the real part of a product of two complex Gaussians, of deviation 0.24 N, and
    exceeds t deviations with probability e^-2t only. Twelve are 2.8 N, and a ciphertext has up to 2^14 slots.
    """
    return 3.0 * ring_dimension / scale


def polynomial_noise(ring_dimension: int, scale: float, degree: int) -> float:
    """Largest error of an encrypted odd minimax polynomial with values near 1, about.

    T_n has slopes up to n^2, so basis values magnify rounding by about as much. Measured under 60 keys at degrees 3 to
    127 in a ring of dimension 2^14, the largest errors were 0.03 to 0.47 of this, the medians 0.02 to 0.31; by the
    spread of those maxima less than one key in a million goes beyond.
    """
    return (1.0 + degree**2 / 3.0) * rounding_noise(ring_dimension, scale)


def sign(evaluator: Evaluator, value: Ciphertext, composite: CompositeSign) -> Ciphertext:
    """Near 1 where value >= margin, near -1 where value <= -margin, within `composite.error`.

    `composite.depth` levels, `composite.multiplications` key switches. Undefined for |value| < margin (but within
    ±(1 + error)) and for |value| > 1.

    Raises:
        PlanError: too few levels are left.
    """
    for plan in composite.plans("sign"):
        value = evaluate_polynomial(evaluator, plan, value)
    return value


def positive(evaluator: Evaluator, value: Ciphertext, composite: CompositeSign, *, one: float = 1.0) -> Ciphertext:
    """Near `one` where value >= margin, near 0 where value <= -margin, within `one * composite.error / 2`.

    Levels, key switches, what is undefined and errors are those of `sign`; a value of exactly 0 gives `one` / 2.
    """
    *first, last = composite.plans("greater")
    for plan in first:
        value = evaluate_polynomial(evaluator, plan, value)
    if one != 1.0:
        last = plan_polynomial([one * coefficient for coefficient in last.coefficients])
    return evaluate_polynomial(evaluator, last, value)


def greater(
    evaluator: Evaluator,
    a: Ciphertext,
    b: Ciphertext,
    *,
    bound: float,
    margin: float,
    error: float = DEFAULT_ERROR,
) -> Ciphertext:
    """Near 1 where a > b and near 0 where a < b, within `error`, if margin * bound <= |a - b| <= bound.

    Inside the margin the value is undefined between -error and 1 + error; outside the bound it is undefined altogether.
    Takes the levels of `plan_comparison(margin, error)`, and one more if the bound is not 1 (encrypt values divided by
    the bound to save it). Operands may stand at different levels.

    Raises:
        PlanError: too few levels are left, with how many it takes.
        InputError: a bound that is not positive, or a margin or error out of range.
    """
    if not (isfinite(bound) and bound > 0.0):
        raise InputError(f"The bound on |a - b| must be positive, not {bound!r}; give the largest difference there is.")
    level = min(a.level, b.level)
    scaling = 0 if bound == 1.0 else 1
    composite = plan_comparison(margin, error, levels=max(level - scaling, 0))
    difference = evaluator.subtract(evaluator.at_level(a, level), evaluator.at_level(b, level))
    if scaling:
        difference = evaluator.at_level(difference, level - 1, 1.0 / bound)
    return positive(evaluator, difference, composite)
