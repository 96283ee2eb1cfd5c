"""Area-averaged pixels, and the resizing that other features start from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pixels:
    """The image averaged down to height x width, in [0, 1]; row by row, colour channels last.

    Averages are exact area means: 28 x 28 to 14 x 14 is the mean of each 2 x 2 square.
    """

    height: int
    width: int
    colour: bool = False

    kind: ClassVar[str] = "pixels"
    batch: ClassVar[int] = 256
    standardise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_size(self.height, self.width, multiple=1)

    @property
    def dimension(self) -> int:
        """d = height * width, times 3 in colour."""
        return self.height * self.width * (3 if self.colour else 1)

    def extractor(self, threads: int = 1) -> Callable[[Sequence[Image]], Floats]:
        """A function from images to (n, d) float64."""

        def extract(images: Sequence[Image]) -> Floats:
            means = resize(images, self.height, self.width, self.colour)
            return means.reshape(len(images), -1) / 255.0

        return extract

    def settings(self) -> dict[str, object]:
        """What, with `arrays`, makes the same features again."""
        return {"height": self.height, "width": self.width, "colour": self.colour}

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Fitted arrays: none."""
        return {}


def check_size(height: int, width: int, multiple: int) -> None:
    """InputError unless both are multiples of `multiple` between it and 1024."""
    if not all(isinstance(side, int) and multiple <= side <= 1024 and side % multiple == 0 for side in (height, width)):
        step = f" and a multiple of {multiple}" if multiple > 1 else ""
        raise InputError(f"The image size {height}x{width} must be within {multiple}..1024{step}; choose another size.")


def resize(images: Sequence[Image], height: int, width: int, colour: bool) -> Floats:
    """(n, height, width[, 3]) float64 in 0..255: area means of uint8 images (h, w[, 3]) of any sizes.

    Grey from colour by ITU-R BT.601 luma, after averaging: both are linear.
    """
    out = np.empty((len(images), height, width, 3) if colour else (len(images), height, width))
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        by_shape.setdefault(image.shape, []).append(index)
    for shape, indices in by_shape.items():
        stack = np.stack([images[index] for index in indices])
        rows, columns = _area_weights(shape[0], height), _area_weights(shape[1], width).T
        # One channel at a time: a large photograph in float64 is eight times its file in memory.
        channels = [stack[..., c] for c in range(3)] if stack.ndim == 4 else [stack]
        means = [
            channel.astype(np.float64) if shape[:2] == (height, width) else rows @ channel.astype(np.float64) @ columns
            for channel in channels
        ]
        if colour:
            out[indices] = np.stack(means if len(means) == 3 else means * 3, axis=-1)
        elif len(means) == 3:
            # Weights in thousandths keep r = g = b exact.
            out[indices] = (299.0 * means[0] + 587.0 * means[1] + 114.0 * means[2]) / 1000.0
        else:
            out[indices] = means[0]
    return out


def _area_weights(source: int, target: int) -> Floats:
    """(target, source): the share of each source pixel in each target pixel's area; rows sum to 1."""
    edges = np.arange(target + 1) * (source / target)
    starts = np.arange(source)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    shares: Floats = np.maximum(overlap, 0.0) * (target / source)
    return shares
