"""Histograms of oriented gradients, alone and with squared random projections.

Dalal and Triggs, "Histograms of oriented gradients for human detection" (CVPR 2005), in a small form: unsigned
orientations with linear interpolation between bins, overlapping square cells, the square root of every bin, one
L2 norm for the image. Squares of random projections add products of pairs of bins (a random-feature form of the
quadratic kernel, Rahimi and Recht, NIPS 2007), so that a linear classifier sees them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError
from cipherlens.features.pixels import Floats, Image, check_size, resize

ORIENTATIONS = 8
STRIDE = 4
"""Cells are 2*STRIDE = 8 pixels wide and start every STRIDE pixels."""


@dataclass(frozen=True, slots=True)
class Hog:
    """Gradient histograms of the grey image resized to height x width (multiples of 4, at least 8).

    28 x 28 gives 6 * 6 cells of 8 orientations: 288 features.
    """

    height: int
    width: int

    kind: ClassVar[str] = "hog"
    batch: ClassVar[int] = 256
    standardise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_size(self.height, self.width, multiple=STRIDE)
        if min(self.height, self.width) < 2 * STRIDE:
            raise InputError(f"Gradient histograms need at least 8x8 pixels, not {self.height}x{self.width}.")

    @property
    def dimension(self) -> int:
        """d = cells down * cells across * 8."""
        return (self.height // STRIDE - 1) * (self.width // STRIDE - 1) * ORIENTATIONS

    def extractor(self, threads: int = 1) -> Callable[[Sequence[Image]], Floats]:
        """A function from images to (n, d) float64, each row of L2 norm 1 (0 for a flat image)."""
        return lambda images: histograms(resize(images, self.height, self.width, colour=False))

    def settings(self) -> dict[str, object]:
        """What, with `arrays`, makes the same features again."""
        return {"height": self.height, "width": self.width}

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Fitted arrays: none."""
        return {}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class HogSquares:
    """Gradient histograms h, followed by ((h - mean) @ projection)^2.

    mean: (d_hog,), of clear images. projection: (d_hog, m), whose scale gives the squares the spread of h.
    """

    hog: Hog
    mean: Floats
    projection: Floats

    kind: ClassVar[str] = "hog2"
    batch: ClassVar[int] = 256
    standardise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        d = self.hog.dimension
        if self.mean.shape != (d,) or self.projection.ndim != 2 or self.projection.shape[0] != d:
            raise InputError(f"Squares of {d} histogram features need a mean ({d},) and a projection ({d}, m).")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.projection).all()):
            raise InputError("The projection of the histogram features must be finite.")

    def __repr__(self) -> str:
        return f"HogSquares({self.hog!r}, {self.projection.shape[1]} squares)"

    @classmethod
    def fit(cls, hog: Hog, features: Floats, squares: int, seed: int) -> "HogSquares":
        """Squares of `squares` random directions drawn from `seed`, for clear histogram features (n, d_hog)."""
        mean = features.mean(axis=0)
        centred = features - mean
        projection = np.random.default_rng(seed).standard_normal((hog.dimension, squares))
        spread = np.square(centred @ projection).std(axis=0)
        # Squares scale with the square of the projection; without spread (equal images) any scale will do.
        ratio = np.sqrt(np.mean(centred.var(axis=0))) / np.where(spread > 0, spread, 1.0)
        return cls(hog, mean, projection * np.sqrt(ratio))

    @property
    def dimension(self) -> int:
        """d = d_hog + m."""
        return self.hog.dimension + int(self.projection.shape[1])

    def extractor(self, threads: int = 1) -> Callable[[Sequence[Image]], Floats]:
        """A function from images to (n, d) float64."""
        base = self.hog.extractor(threads)

        def extract(images: Sequence[Image]) -> Floats:
            features = base(images)
            return np.hstack([features, np.square((features - self.mean) @ self.projection)])

        return extract

    def settings(self) -> dict[str, object]:
        """What, with `arrays`, makes the same features again."""
        return self.hog.settings()

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Fitted arrays: the mean and the projection."""
        return {"hog_mean": self.mean, "hog_projection": self.projection}


def histograms(grey: Floats) -> Floats:
    """(n, h, w) grey images -> (n, (h/4 - 1) * (w/4 - 1) * 8) normalised gradient histograms."""
    n, height, width = grey.shape
    down, across = np.zeros_like(grey), np.zeros_like(grey)
    down[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    across[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    magnitude = np.hypot(down, across)
    position = (np.arctan2(down, across) % np.pi) * (ORIENTATIONS / np.pi)
    lower = np.floor(position)
    upper_share = magnitude * (position - lower)
    lower_bin = lower.astype(np.intp) % ORIENTATIONS  # an angle just below pi may round to it

    # Each pixel adds to two neighbouring orientations of its 4 x 4 block; a cell is 2 x 2 blocks.
    blocks = (n, height // STRIDE, width // STRIDE)
    block = (
        (np.arange(n)[:, None, None] * blocks[1] + (np.arange(height) // STRIDE)[None, :, None]) * blocks[2]
        + (np.arange(width) // STRIDE)[None, None, :]
    ) * ORIENTATIONS
    count = n * blocks[1] * blocks[2] * ORIENTATIONS
    sums = np.bincount((block + lower_bin).ravel(), (magnitude - upper_share).ravel(), count)
    sums += np.bincount((block + (lower_bin + 1) % ORIENTATIONS).ravel(), upper_share.ravel(), count)
    sums = sums.reshape(*blocks, ORIENTATIONS)
    pairs = sums[:, 1:] + sums[:, :-1]
    cells = np.sqrt(pairs[:, :, 1:] + pairs[:, :, :-1]).reshape(n, -1)
    norm = np.linalg.norm(cells, axis=1, keepdims=True)
    return cells / np.where(norm > 0, norm, 1.0)
