"""Sums over the positions of a feature, and copies to all of them."""

from __future__ import annotations

from cipherlens.learning.circuit import Circuit
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.scheme.evaluator import Evaluator


def fold_positions(circuit: Circuit, evaluator: Evaluator, c: Ciphertext) -> Ciphertext:
    """Sum over positions; only b = 0 is meaningful afterwards. log2 B key switches, no level."""
    for shift in circuit.fold_shifts:
        c = evaluator.add(c, evaluator.rotate(c, shift))
    return c


def spread_positions(circuit: Circuit, evaluator: Evaluator, c: Ciphertext) -> Ciphertext:
    """Copy b = 0, the only non-zero position, to every b. log2 B key switches, no level."""
    for shift in circuit.fold_shifts:
        c = evaluator.add(c, evaluator.rotate(c, -shift))
    return c
