"""Scores of encrypted queries under encrypted weights.

With k columns padded to K, a power of two, score c of an image is sum_f W[f, c] x[f]. One ciphertext of 2B queries
takes K hoisted rotations, one sum of K tensor products, one relinearisation and log2(D / K) rotations, and gives all
columns in one ciphertext: slot f * B + b holds score f mod K of image b (the diagonals of a wide matrix; Juvekar,
Vaikuntanathan, Chandrakasan, "GAZELLE", 2018, section 4). The diagonals are made once for a model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cipherlens.learning.circuit import Circuit
from cipherlens.learning.positions import spread_positions
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.types import Slots


@dataclass(frozen=True, eq=False)
class Classifier:
    """A model made ready for queries.

    Attributes:
        circuit: sizes and levels.
        diagonals: d_m with d_m[f] = W[f + m, f mod K] at every position, one level above the scores.
    """

    circuit: Circuit
    diagonals: tuple[Ciphertext, ...]

    @classmethod
    def prepare(cls, circuit: Circuit, evaluator: Evaluator, weights: Ciphertext) -> Classifier:
        """One level with several columns, none with one. Key switches: k + K (1 + log2 B)."""
        if circuit.spec.columns == 1:
            return cls(circuit, (spread_positions(circuit, evaluator, weights),))
        layout, period = circuit.layout, circuit.padded_columns
        columns = [weights]
        while len(columns) < circuit.spec.columns:
            columns.append(evaluator.rotate(columns[-1], 1))
        level = weights.level
        # The product with this scale ends, rescaled, at the next level's own scale, whatever that of the weights is.
        scale = evaluator.scale(level - 1) * circuit.parameters.primes[level] / weights.scale

        def diagonal(single: Evaluator, m: int) -> Ciphertext:
            masks = [
                single.encode(layout.at_first_position(1.0, period=period, offset=c + m), level, scale)
                for c in range(len(columns))
            ]
            chosen = single.plain_products(columns, masks)
            # Real values, so rotate-and-conjugate is a rotation.
            moved = single.hoisted(chosen, [circuit.conjugate_shift(m)])[0] if m else chosen
            return single.rescale(spread_positions(circuit, single, moved))

        return cls(circuit, tuple(evaluator.map(diagonal, range(period))))

    def scores(self, evaluator: Evaluator, query: Ciphertext) -> Ciphertext:
        """Scores of one ciphertext of queries, at the circuit's score level."""
        z = evaluator.at_level(query, self.diagonals[0].level)
        elements = [self.circuit.conjugate_shift(m) for m in range(len(self.diagonals))]
        rotated = [z] if len(self.diagonals) == 1 else evaluator.hoisted(z, elements)
        score = evaluator.relinearise(evaluator.tensor(list(self.diagonals), rotated), rescale=True)
        for shift in self.circuit.score_shifts:
            moved = evaluator.hoisted(score, [self.circuit.feature_shift(shift)])[0]
            score = evaluator.add(score, moved)
        return score


def read_scores(circuit: Circuit, slots: Slots) -> NDArray[np.float64]:
    """Decrypted slots to (2B, k) scores without bias, in the order in which the images were packed."""
    table = circuit.layout.table(slots)[: circuit.spec.columns]
    # With several columns the queries were conjugated, so the second half of the images comes back negated.
    sign = 1.0 if circuit.spec.columns == 1 else -1.0
    return np.ascontiguousarray(np.concatenate([table.real, sign * table.imag], axis=1).T)
