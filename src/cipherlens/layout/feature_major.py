"""Feature-major layout: feature f of image b sits in slot f * B + b; two images share a slot as real and imaginary.

Rotating by m * B slots shifts the features cyclically and keeps the images apart, so sums over features and products
with shifted features need no masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import PlanError
from cipherlens.scheme.types import Slots

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureMajor:
    """Sizes of the layout.

    Attributes:
        slots: complex slots of a ciphertext, S.
        dimension: features D, a power of two.

    Raises:
        PlanError: the features do not divide the slots.
    """

    slots: int
    dimension: int

    def __post_init__(self) -> None:
        if self.dimension < 2 or self.slots % self.dimension:
            raise PlanError(f"{self.dimension} features do not divide {self.slots} slots")

    @property
    def batch(self) -> int:
        """Positions B of a feature; a ciphertext carries 2 B images."""
        return self.slots // self.dimension

    @property
    def images(self) -> int:
        """Images in one ciphertext."""
        return 2 * self.batch

    def ciphertexts(self, images: int) -> int:
        """Ciphertexts that this many images take."""
        return -(-images // self.images)

    def pack(self, features: Floats) -> Slots:
        """(n <= 2B, D) features to slots; absent images are zero. The first B images are real parts."""
        full = np.zeros((self.images, self.dimension))
        full[: len(features)] = features
        first, second = full[: self.batch], full[self.batch :]
        return (first.T + 1j * second.T).reshape(self.slots)

    def per_image(self, values: NDArray[np.complex128]) -> Slots:
        """(B,) values, one for each position, repeated for every feature."""
        return np.tile(values, self.dimension)

    def at_first_position(self, value: complex, *, period: int = 1, offset: int = 0) -> Slots:
        """`value` at position b = 0 of the features f = offset modulo period, zero elsewhere."""
        mask = np.zeros((self.dimension, self.batch), np.complex128)
        mask[offset % period :: period, 0] = value
        return mask.reshape(self.slots)

    def table(self, slots: Slots) -> NDArray[np.complex128]:
        """Slots as (D, B)."""
        return slots.reshape(self.dimension, self.batch)
