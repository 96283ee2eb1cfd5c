"""Where the elements of an encrypted array sit in slots.

Slots are rows of `stride` each, a power of two. A matrix keeps one row in each (C order, short rows followed by unused
slots); rows never straddle two ciphertexts. A vector that fits one ciphertext is repeated in every row, so that
rotations within a row are cyclic and it meets a matrix row by row; a longer one fills ciphertext after ciphertext. What
`sum(axis=1)` leaves, one number a row, sits in the first column. A scalar fills every slot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def power_of_two(n: int) -> int:
    """The least power of two that is at least n >= 1."""
    return 1 << (n - 1).bit_length()


@dataclass(frozen=True)
class ArrayLayout:
    """Positions of one array's elements.

    Attributes:
        slots: slots of a ciphertext.
        stride: slots of a row.
        shape: the array's shape; () is a scalar.
        column: for a vector: one element a row, in the first column.
    """

    slots: int
    stride: int
    shape: tuple[int, ...]
    column: bool = False

    @property
    def rows_per_ciphertext(self) -> int:
        """Rows in one ciphertext."""
        return self.slots // self.stride

    @property
    def ciphertexts(self) -> int:
        """Ciphertexts that hold the array."""
        if not self.shape:
            return 1
        if len(self.shape) == 2 or self.column:
            return -(-self.shape[0] // self.rows_per_ciphertext)
        return -(-self.shape[0] // self.slots)

    @property
    def repeated(self) -> bool:
        """Whether every row holds the same."""
        return not self.shape or (len(self.shape) == 1 and not self.column and self.shape[0] <= self.slots)

    @property
    def full(self) -> bool:
        """Whether every slot holds an element."""
        return bool(self.pack(np.ones(self.shape)).all())

    def pack(self, values: Floats) -> Floats:
        """Values of the array's shape to slots, (ciphertexts, slots); unused ones are zero."""
        if not self.shape:
            return np.full((1, self.slots), float(values))
        if self.repeated:
            return np.tile(np.pad(values, (0, self.stride - self.shape[0])), self.rows_per_ciphertext)[None]
        if len(self.shape) == 1 and not self.column:
            return np.pad(values, (0, self.ciphertexts * self.slots - self.shape[0])).reshape(-1, self.slots)
        table = np.zeros((self.ciphertexts * self.rows_per_ciphertext, self.stride))
        width = 1 if self.column else self.shape[1]
        table[: self.shape[0], :width] = values.reshape(self.shape[0], width)
        return table.reshape(self.ciphertexts, self.slots)

    def unpack(self, slots: Floats) -> Floats:
        """Slots, (ciphertexts, slots), to values of the array's shape."""
        flat = slots.reshape(-1)
        if not self.shape:
            return np.array(flat[0])
        if len(self.shape) == 1 and not self.column:
            return flat[: self.shape[0]].copy()
        width = 1 if self.column else self.shape[1]
        return flat.reshape(-1, self.stride)[: self.shape[0], :width].reshape(self.shape).copy()

    def with_shape(self, shape: tuple[int, ...], *, column: bool = False) -> ArrayLayout:
        """The same rows for an array of another shape."""
        return ArrayLayout(self.slots, self.stride, shape, column)


def powers_below(start: int, end: int) -> list[int]:
    """start, 2 start, 4 start ... below end: the rotations of a doubling sum."""
    steps = []
    while start < end:
        steps.append(start)
        start *= 2
    return steps
