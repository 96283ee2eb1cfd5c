"""Rows times a matrix by its diagonals, in baby steps and giant steps.

With x in a row of slots, y[j] = sum_d x[j + d] W[j + d, j], d = -(columns - 1) ... rows - 1 (Halevi and Shoup,
"Algorithms in HElib", 2014). With d = m1 + g m2, 0 <= m1 < g:
y = sum_m2 rot_{g m2}( sum_m1 D[m1, m2] * rot_{m1} x ), D[m1, m2] the diagonal moved by g m2 to the right. The rotations
of x share one decomposition; products are summed before the giant step and rescaled once at the end. No rotation
carries an element into another row, because W has no entry there: no masks, and all rows are served at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isqrt
from typing import TypeVar

import numpy as np

from cipherlens.scheme.array_layout import Floats
from cipherlens.scheme.ciphertext import Ciphertext, Plaintext
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import rotation

Factor = TypeVar("Factor")
Item = TypeVar("Item")
Result = TypeVar("Result")

_GROUP = 8
"""Ciphertexts whose rotations are kept at a time."""


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
        """g. A baby step costs about half a giant step, so there are about twice as many."""
        return max(1, isqrt(2 * (self.rows + self.columns - 1)))

    def giants(self, rows: int, columns: int) -> range:
        """m2 of every giant step for a matrix of this size."""
        return range(-((columns - 1 + self.baby - 1) // self.baby), (rows - 1) // self.baby + 1)

    def rotations(self, rows: int, columns: int) -> list[int]:
        """Rotations, in slots, that a matrix of this size uses."""
        giants = self.giants(rows, columns)
        return sorted({*range(self.baby), *(self.baby * m for m in giants)} - {0})

    def diagonals(self, matrix: Floats, slots: int, stride: int, giant: int) -> list[Floats | None]:
        """Slot values of D[m1, giant], m1 = 0 ... g - 1, each (slots,); None where W has no entry."""
        rows, columns = matrix.shape
        found: list[Floats | None] = []
        for m1 in range(self.baby):
            d = m1 + self.baby * giant
            j = np.arange(max(0, -d), min(columns, rows - d))
            if j.size == 0:
                found.append(None)
                continue
            row = np.zeros(stride)
            row[j] = matrix[j + d, j]
            found.append(np.roll(np.tile(row, slots // stride), self.baby * giant))
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


def for_each(evaluator: Evaluator, function: Callable[[Evaluator, Item], Result], items: Sequence[Item]) -> list[Result]:
    """[function(evaluator, item) ...]: threads over the items, or within the only one."""
    return [function(evaluator, items[0])] if len(items) == 1 else evaluator.map(function, items)


def multiply_matrix(
    evaluator: Evaluator, items: Sequence[Ciphertext], steps: DiagonalSteps, matrix: Floats, stride: int
) -> list[Ciphertext]:
    """Rows times a clear matrix, float64 (rows, columns), in every ciphertext.

    One level. Key switches for each ciphertext: g - 1 hoisted and one for each giant step.
    """
    level, parameters = items[0].level, evaluator.engine.parameters

    def encoded(giant: int) -> list[tuple[int, Plaintext]]:
        diagonals = steps.diagonals(matrix, parameters.slots, stride, giant)
        return [
            (m1, evaluator.encode(d.astype(np.complex128), level)) for m1, d in enumerate(diagonals) if d is not None
        ]

    def product(single: Evaluator, rotated: Sequence[Ciphertext], factors: list[tuple[int, Plaintext]]) -> Ciphertext:
        return single.plain_products([rotated[m1] for m1, _ in factors], [factor for _, factor in factors])

    return _run(evaluator, items, steps, steps.giants(*matrix.shape), encoded, product)


def multiply_encrypted_matrix(
    evaluator: Evaluator, items: Sequence[Ciphertext], matrix: EncryptedMatrix
) -> list[Ciphertext]:
    """Rows times an encrypted matrix, in every ciphertext.

    One level. Key switches for each ciphertext: g - 1 hoisted and two for each giant step.
    """
    level = items[0].level

    def lowered(giant: int) -> list[tuple[int, Ciphertext]]:
        return [(m1, evaluator.at_level(diagonal, level)) for m1, diagonal in matrix.diagonals[giant]]

    def product(single: Evaluator, rotated: Sequence[Ciphertext], factors: list[tuple[int, Ciphertext]]) -> Ciphertext:
        three = single.tensor([rotated[m1] for m1, _ in factors], [factor for _, factor in factors])
        return single.relinearise(three)

    return _run(evaluator, items, matrix.steps, matrix.diagonals, lowered, product)


def _run(
    evaluator: Evaluator,
    items: Sequence[Ciphertext],
    steps: DiagonalSteps,
    giants: Iterable[int],
    factors_of: Callable[[int], list[tuple[int, Factor]]],
    product: Callable[[Evaluator, Sequence[Ciphertext], list[tuple[int, Factor]]], Ciphertext],
) -> list[Ciphertext]:
    """Baby steps, products, giant steps, one rescale. Factors are made once for a group of ciphertexts."""
    parameters = evaluator.engine.parameters
    babies = [rotation(parameters, m1) for m1 in range(steps.baby)]
    results: list[Ciphertext] = []
    for start in range(0, len(items), _GROUP):
        rotated = for_each(evaluator, lambda single, x: single.hoisted(x, babies), items[start : start + _GROUP])
        sums: list[Ciphertext] = []
        for giant in giants:
            factors = factors_of(giant)
            shift = steps.baby * giant
            moved = for_each(evaluator, partial(_moved, product, factors, shift), rotated)
            sums = moved if not sums else [evaluator.add(a, b) for a, b in zip(sums, moved, strict=True)]
        results += [evaluator.rescale(x) for x in sums]
    return results


def _moved(
    product: Callable[[Evaluator, Sequence[Ciphertext], list[tuple[int, Factor]]], Ciphertext],
    factors: list[tuple[int, Factor]],
    shift: int,
    single: Evaluator,
    rotated: Sequence[Ciphertext],
) -> Ciphertext:
    return single.rotate(product(single, rotated, factors), shift)
