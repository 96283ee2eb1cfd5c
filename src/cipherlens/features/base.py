"""Base features by name: what is computed from each image before projection and whitening."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import FormatError, InputError
from cipherlens.features.backbone import Backbone
from cipherlens.features.hog import STRIDE, Hog, HogSquares
from cipherlens.features.images import ImageSource
from cipherlens.features.pixels import Floats, Pixels
from cipherlens.features.whitening import check_features

Progress = Callable[[int, int], None]
"""Called with the number of images done and their total."""

SAMPLE = 16
"""As many images are looked at to choose between grey and colour where neither is asked for."""

SQUARES = 700
"""Squares that "hog2" draws, whatever the number of columns; the projection on principal directions decides what is
kept. Measured on MNIST, 1,000 training images of which 250 are clear, T = 5: histograms alone 94.8 %, with 224 squares
95.9 %, with 700 96.0 %, with 1,400 95.7 %, at a bound of 3.7 on the spectrum or below. As many columns as features
(223 squares in D = 512) keep the directions too in which the clear images do not vary: a bound of 22, and 94.5 %."""

LARGEST_SIDE = 32
"""Unless a size is asked for, larger images are averaged to 32 x 32."""

BATCH_PIXELS = 4_000_000
"""A batch is cut before its images hold more pixels together than this, unless one alone does."""


class BaseFeatures(Protocol):
    """A fixed function from images to (n, d) float64, with what is needed to make it again.

    kind: its name in files. batch: images at a time. standardise: whether its columns are in unlike units.
    """

    kind: ClassVar[str]
    batch: ClassVar[int]
    standardise: ClassVar[bool]

    def extractor(self, threads: int = 1) -> Callable[[Sequence[Any]], Floats]:
        """The function, computing on `threads` threads."""
        ...

    def settings(self) -> dict[str, object]:
        """Json-able settings and ..."""
        ...

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """... arrays, from which `restore` makes the same features."""
        ...


@dataclass(frozen=True, slots=True)
class Table:
    """No images but rows of numbers, taken as they are."""

    kind: ClassVar[str] = "table"
    batch: ClassVar[int] = 4096
    standardise: ClassVar[bool] = True

    def extractor(self, threads: int = 1) -> Callable[[Sequence[Floats]], Floats]:
        """Stacks rows."""
        return np.stack

    def settings(self) -> dict[str, object]:
        """Settings: none."""
        return {}

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Fitted arrays: none."""
        return {}


def choose(features: str | Path | BaseFeatures, images: Any, seed: int = 0, threads: int = 1) -> BaseFeatures:
    """Base features from a name, settled on the owner's clear images.

    features: "pixels", "hog" or "hog2", each optionally followed by ":HEIGHTxWIDTH", and "pixels" by ":grey" or
    ":rgb"; "lite0"; "table"; the path of an ONNX model (ending in .onnx); or base features, returned as they are.
    Without a size, small images (no side above 32) keep the first one's, and others are averaged to 32 x 32.
    seed: draws the 700 random projections of "hog2".

    Raises InputError for another name or a size that does not fit.
    """
    if not isinstance(features, (str, Path)):
        return features
    spec = str(features)
    if spec == "table":
        return Table()
    if spec == "lite0":
        return Backbone.lite0()
    if spec.lower().endswith(".onnx"):
        return Backbone.load(spec)
    match = re.fullmatch(r"(pixels|hog2?)(?::(\d+)x(\d+))?(?::(grey|rgb))?", spec)
    if match is None or (match[1] != "pixels" and match[4]):
        raise InputError(
            f"There are no features '{spec}'; choose lite0, hog, hog2, pixels, table or the path of an ONNX model "
            "(sizes: pixels:14x14, pixels:32x32:rgb, hog:28x28)."
        )
    source = ImageSource.of(images)
    size = (int(match[2]), int(match[3])) if match[2] else _default_size(source, match[1])
    if match[1] == "pixels":
        sample = range(min(SAMPLE, len(source)))
        return Pixels(*size, match[4] == "rgb" if match[4] else any(source.read(i).ndim == 3 for i in sample))
    hog = Hog(*size)
    if match[1] == "hog":
        return hog
    return HogSquares.fit(hog, extract(hog, source, threads), SQUARES, seed)


def _default_size(source: ImageSource, name: str) -> tuple[int, int]:
    height, width = source.read(0).shape[:2]
    if max(height, width) > LARGEST_SIDE:
        return LARGEST_SIDE, LARGEST_SIDE
    if name == "pixels":
        return height, width
    return max(height // STRIDE, 2) * STRIDE, max(width // STRIDE, 2) * STRIDE


def extract(base: BaseFeatures, images: Any, threads: int = 1, progress: Progress | None = None) -> Floats:
    """All base features, (n, d) float64, unwhitened."""
    return np.concatenate([features for _, features in extract_batches(base, images, threads, progress)])


def extract_batches(
    base: BaseFeatures, images: Any, threads: int = 1, progress: Progress | None = None
) -> Iterator[tuple[tuple[str, ...], Floats]]:
    """(names, base features) batch by batch, in order; images are read as they are needed.

    Raises InputError for images that cannot be read, for a table with NaN or infinite numbers, and without a row.
    """
    function = base.extractor(threads)
    items: Iterator[tuple[str, Any]]
    if isinstance(base, Table):
        rows = check_features(images)
        if len(rows) == 0:
            raise InputError("The table has zero rows; give at least one.")
        total, items = len(rows), ((str(i), row) for i, row in enumerate(rows))
    else:
        source = ImageSource.of(images)
        total, items = len(source), iter(source)
    done = 0
    for names, batch in _batches(items, base.batch):
        features = function(batch)
        done += len(batch)
        if progress is not None:
            progress(done, total)
        yield names, features


def _batches(items: Iterator[tuple[str, Any]], count: int) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    names: list[str] = []
    batch: list[Any] = []
    held = 0
    for name, item in items:
        if batch and (len(batch) == count or held + item.size > BATCH_PIXELS):
            yield tuple(names), batch
            names, batch, held = [], [], 0
        names.append(name)
        batch.append(item)
        held += item.size
    if batch:
        yield tuple(names), batch


def restore(kind: str, settings: Mapping[str, object], arrays: Mapping[str, NDArray[np.generic]]) -> BaseFeatures:
    """The features that `settings` and `arrays` were taken from; FormatError or InputError if they do not fit."""
    if kind == "table":
        return Table()
    height, width = _whole(settings, "height"), _whole(settings, "width")
    if kind == "pixels":
        colour = settings.get("colour")
        if not isinstance(colour, bool):
            raise FormatError("The stored pixel features do not say whether they are in colour.")
        return Pixels(height, width, colour)
    if kind == "hog":
        return Hog(height, width)
    if kind == "hog2":
        return HogSquares(Hog(height, width), floats(arrays, "hog_mean"), floats(arrays, "hog_projection"))
    if kind == "onnx":
        return _restore_backbone(height, width, settings, arrays)
    raise FormatError("The stored features are of a kind that this version does not know; update Cipherlens.")


def _restore_backbone(
    height: int, width: int, settings: Mapping[str, object], arrays: Mapping[str, NDArray[np.generic]]
) -> Backbone:
    name, root, stored = settings.get("name"), settings.get("root"), arrays.get("onnx_model")
    if (
        not isinstance(name, str)
        or not isinstance(root, bool)
        or (stored is not None and (stored.dtype != np.uint8 or stored.ndim != 1))
    ):
        raise FormatError("The stored network features have no name or a damaged model.")
    model = Backbone.lite0().model if stored is None else stored.tobytes()
    if sha256(model).hexdigest() != settings.get("sha256"):
        raise FormatError("The stored features need another model than the one at hand; plan the task again.")
    return Backbone(model, height, width, _numbers(settings, "mean"), _numbers(settings, "deviation"), name, root)


def floats(arrays: Mapping[str, NDArray[np.generic]], name: str) -> Floats:
    """A stored float64 array; FormatError if it is missing or of another type."""
    array = arrays.get(name)
    if array is None or array.dtype != np.float64:
        raise FormatError(f"The stored features lack the float64 array '{name}'.")
    return array.astype(np.float64)


def _whole(settings: Mapping[str, object], name: str) -> int:
    value = settings.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise FormatError(f"The stored features lack the whole number '{name}'.")
    return value


def _numbers(settings: Mapping[str, object], name: str) -> tuple[float, ...]:
    values = settings.get(name)
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise FormatError(f"The stored features lack the numbers '{name}'.")
    try:
        return tuple(float(value) for value in values)
    except OverflowError:
        raise FormatError(f"The stored features hold numbers '{name}' that are too large.") from None
