"""The owner's feature map: from images to the columns that are encrypted.

Base features, projection on principal directions, whitening, clipping; fitted once from clear images, then fixed.
It holds statistics of the owner's images and belongs to the private half of a task.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import FormatError, InputError
from cipherlens.features.base import BaseFeatures, Progress, extract_batches, floats, restore
from cipherlens.features.pixels import Floats
from cipherlens.features.whitening import Whitening

_VERSION = 1


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FeatureMap:
    """Base features followed by a whitening. Deterministic: equal images give equal columns, whatever the batch."""

    base: BaseFeatures
    whitening: Whitening

    def __repr__(self) -> str:
        return f"FeatureMap({self.base.kind}, {self.whitening.features} features -> {self.dimension} columns)"

    @property
    def dimension(self) -> int:
        """D, the number of columns, the constant included."""
        return self.whitening.dimension

    def transform(self, images: Any, progress: Progress | None = None, *, threads: int = 1) -> Floats:
        """(n, D) float64 within [-8, 8]: column D-1 is 1, unused columns are 0.

        Raises InputError for images that cannot be read or a table of another width.
        """
        return np.concatenate([columns for _, columns in self.batches(images, progress, threads=threads)])

    def batches(
        self, images: Any, progress: Progress | None = None, *, threads: int = 1
    ) -> Iterator[tuple[tuple[str, ...], Floats]]:
        """As `transform`, (names, columns) batch by batch, so that memory does not grow with the images."""
        for names, features in extract_batches(self.base, images, threads, progress):
            yield names, self.whitening.apply(features)

    @property
    def identity(self) -> str:
        """SHA-256, in hexadecimal, of everything that decides the columns. It is as private as the map itself."""
        arrays, settings = self.to_arrays()
        digest = sha256(json.dumps(settings, sort_keys=True).encode())
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
            digest.update(array.data)
        return digest.hexdigest()

    def to_arrays(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, object]]:
        """Arrays (float64, and uint8 for a user's model) and json-able settings for storing; see `from_arrays`."""
        whitening = {"whitening_mean": self.whitening.mean, "whitening_matrix": self.whitening.matrix}
        return {**whitening, **self.base.arrays()}, {
            "version": _VERSION,
            "kind": self.base.kind,
            "base": self.base.settings(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], settings: Mapping[str, object]) -> "FeatureMap":
        """The stored map; FormatError if anything is missing, of a wrong shape or type, or not finite."""
        version, kind, base = settings.get("version"), settings.get("kind"), settings.get("base")
        if version != _VERSION:
            raise FormatError(
                f"The stored features are not of version {_VERSION}, which this Cipherlens reads; update it."
            )
        if not isinstance(kind, str) or not isinstance(base, dict):
            raise FormatError("The stored features do not say what they are.")
        try:
            whitening = Whitening(floats(arrays, "whitening_mean"), floats(arrays, "whitening_matrix"))
            return cls(restore(kind, base, arrays), whitening)
        except InputError as error:
            raise FormatError(f"The stored features are damaged: {error}") from error
