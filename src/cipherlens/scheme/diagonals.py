"""Rows times a matrix by its diagonals, in baby steps and giant steps.

With x in a row of slots, y[j] = sum_d x[j + d] W[j + d, j], d = -(columns - 1) ... rows - 1 (Halevi and Shoup,
"Algorithms in HElib", 2014). With d = m1 + g m2, 0 <= m1 < g:
y = sum_m2 rot_{g m2}( sum_m1 D[m1, m2] * rot_{m1} x ), D[m1, m2] the diagonal moved by g m2 to the right. The rotations
of x share one decomposition; products are summed before the giant step and rescaled once at the end. No rotation
carries an element into another row, because W has no entry there: no masks, and all rows are served at once. A clear W
runs as a `LinearTransform`; an encrypted one, whose products need relinearising, here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from cipherlens.scheme.array_layout import Floats
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import rotation
from cipherlens.scheme.linear_transform import LinearTransform, baby_steps

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class DiagonalSteps:
    """The steps for matrices of a planned size; smaller ones use some of the same rotations.

    Attributes:
        rows: rows of W, the length of x.
        columns: columns of W, the length of y.
    """

    rows: int
    columns: int

    @property
    def baby(self) -> int:
        """g, a power of two."""
        return baby_steps(self.rows + self.columns - 1)

    def giants(self, rows: int, columns: int) -> range:
        """m2 of every giant step for a matrix of this size."""
        return range(-((columns - 1 + self.baby - 1) // self.baby), (rows - 1) // self.baby + 1)

    def rotations(self, rows: int, columns: int) -> list[int]:
        """Rotations, in slots, that a matrix of this size uses."""
        giants = self.giants(rows, columns)
        return sorted({*range(self.baby), *(self.baby * m for m in giants)} - {0})

    def moved_diagonals(self, matrix: Floats, slots: int, stride: int) -> dict[int, list[tuple[int, Floats]]]:
        """By m2: every m1 with D[m1, m2] in slots, (slots,)."""
        found: dict[int, list[tuple[int, Floats]]] = {}
        for d, diagonal in diagonals(matrix, slots, stride).items():
            giant = d // self.baby
            found.setdefault(giant, []).append((d % self.baby, np.roll(diagonal, self.baby * giant)))
        return found


def diagonals(matrix: Floats, slots: int, stride: int) -> dict[int, Floats]:
    """By d: W[j + d, j] at j of every row, (slots,)."""
    rows, columns = matrix.shape
    found = {}
    for d in range(1 - columns, rows):
        j = np.arange(max(0, -d), min(columns, rows - d))
        row = np.zeros(stride)
        row[j] = matrix[j + d, j]
        found[d] = np.tile(row, slots // stride)
    return found


@dataclass(frozen=True, eq=False)
class EncryptedMatrix:
    """A matrix that only its owner can read, encrypted diagonal by diagonal.

    Attributes:
        shape: (rows, columns).
        stride: slots of a row of the arrays that it multiplies.
        steps: the plan's steps.
        key_id: the secret key that it is encrypted under.
        diagonals: by giant step, the ciphertexts D[m1, m2] with their m1.
    """

    shape: tuple[int, int]
    stride: int
    steps: DiagonalSteps
    key_id: str
    diagonals: dict[int, tuple[tuple[int, Ciphertext], ...]] = field(repr=False)

    @property
    def level(self) -> int:
        """Level of its ciphertexts."""
        return next(iter(self.diagonals.values()))[0][1].level


def for_each(
    evaluator: Evaluator, function: Callable[[Evaluator, Item], Result], items: Sequence[Item]
) -> list[Result]:
    """[function(evaluator, item) ...]: threads over the items, or within the only one."""
    return [function(evaluator, items[0])] if len(items) == 1 else evaluator.map(function, items)


def multiply_matrix(
    evaluator: Evaluator, items: Sequence[Ciphertext], steps: DiagonalSteps, matrix: Floats, stride: int
) -> list[Ciphertext]:
    """Rows times a clear matrix, float64 (rows, columns), in every ciphertext.

    One level. Key switches for each ciphertext: g - 1 and one for each giant step, double-hoisted. The diagonals are
    encoded once for all ciphertexts: rows + columns - 1 plaintexts in memory.
    """
    clear = diagonals(matrix, evaluator.engine.parameters.slots, stride)
    used = {d: v.astype(np.complex128) for d, v in clear.items() if d == 0 or v.any()}
    engine, level, threads = evaluator.engine, items[0].level, evaluator.threads
    transform = LinearTransform.encode(engine, used, level, baby=steps.baby, threads=threads)
    return for_each(evaluator, lambda single, x: single.rescale(transform.apply(single, x)), items)


def multiply_encrypted_matrix(
    evaluator: Evaluator, items: Sequence[Ciphertext], matrix: EncryptedMatrix
) -> list[Ciphertext]:
    """Rows times an encrypted matrix, in every ciphertext.

    One level. Key switches for each ciphertext: g - 1 hoisted and two for each giant step.
    """
    steps, level = matrix.steps, items[0].level
    lowered = {
        giant: [(m1, evaluator.at_level(diagonal, level)) for m1, diagonal in row]
        for giant, row in matrix.diagonals.items()
    }
    babies = [rotation(evaluator.engine.parameters, m1) for m1 in range(steps.baby)]

    def product(single: Evaluator, x: Ciphertext) -> Ciphertext:
        rotated = single.hoisted(x, babies)
        sums = []
        for giant, row in lowered.items():
            inner = single.tensor([rotated[m1] for m1, _ in row], [diagonal for _, diagonal in row])
            sums.append(single.rotate(single.relinearise(inner), steps.baby * giant))
        return single.rescale(single.total(sums))

    return for_each(evaluator, product, items)
