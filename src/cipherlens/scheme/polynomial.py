"""Polynomials of ciphertexts: plans of `chebyshev_plan` run by an `Evaluator`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cipherlens.scheme.chebyshev_plan import PolynomialPlan, evaluate
from cipherlens.scheme.ciphertext import Ciphertext, Plaintext
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.evaluator import Evaluator

_SAME_SCALE = 2.0**-44
"""Relative distance below which two scales are one: what float64 rounds away on the way, far below any noise."""


def constant_plaintext(engine: Engine, value: float, level: int, scale: float) -> Plaintext:
    """A real number in every slot: the constant polynomial round(value * scale), at any scale that the level holds."""
    residues = engine.constant(value, scale, level + 1)
    # The transform of a constant polynomial has the constant everywhere.
    return Plaintext(np.repeat(np.array(residues)[:, None], engine.parameters.ring_dimension, axis=1), scale)


@dataclass(frozen=True)
class CiphertextBackend:
    """Ciphertexts as the number system of `chebyshev_plan.Backend`. Pending products have three parts.

    Attributes:
        evaluator: with a relinearisation key.
    """

    evaluator: Evaluator

    def level(self, value: Ciphertext) -> int:
        """Rescales that are left."""
        return value.level

    def scale(self, value: Ciphertext) -> float:
        """The ciphertext's scale."""
        return value.scale

    def divisor(self, level: int) -> float:
        """The prime that a rescale at this level drops."""
        return float(self.evaluator.engine.parameters.primes[level])

    def drop(self, value: Ciphertext, level: int) -> Ciphertext:
        """Fewer primes, the same scale; no key switch."""
        return self.evaluator.truncate(value, level)

    def multiply(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Three parts, neither relinearised nor rescaled."""
        return self.evaluator.tensor([left], [right])

    def multiply_constant(self, value: Ciphertext, constant: float, scale: float) -> Ciphertext:
        """The constant becomes the integer that leads to `scale`; not rescaled."""
        return self.evaluator.combine([(value, constant)], scale)

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """left + right."""
        return self.evaluator.add(left, _with_scale(right, left.scale))

    def subtract(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """left - right."""
        return self.evaluator.subtract(left, _with_scale(right, left.scale))

    def add_constant(self, value: Ciphertext, constant: float) -> Ciphertext:
        """value + constant."""
        plain = constant_plaintext(self.evaluator.engine, constant, value.level, value.scale)
        return self.evaluator.add_plain(value, plain)

    def rescale(self, value: Ciphertext) -> Ciphertext:
        """One level; one key switch if the value has three parts, in the same division."""
        if value.parts == 3:
            return self.evaluator.relinearise(value, rescale=True)
        return self.evaluator.rescale(value)


def _with_scale(value: Ciphertext, scale: float) -> Ciphertext:
    """`value` with exactly this scale if its own differs by rounding only; else unchanged, for the sum to refuse."""
    return replace(value, scale=scale) if abs(value.scale - scale) <= scale * _SAME_SCALE else value


def evaluate_polynomial(evaluator: Evaluator, plan: PolynomialPlan, value: Ciphertext) -> Ciphertext:
    """p(value), `plan.depth` levels lower and at that level's own scale; `plan.multiplications` key switches.

    Slot values must lie in [-1, 1]; outside, the result grows without bound.

    Raises:
        PlanError: the ciphertext has fewer levels left than the plan takes.
        KeyMismatch: there is no relinearisation key.
    """
    own = evaluator.scale(max(value.level - plan.depth, 0))  # too few levels are refused by `evaluate`
    return _with_scale(evaluate(plan, value, CiphertextBackend(evaluator), scale=own), own)
