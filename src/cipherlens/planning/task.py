"""A task as its owner and contributors hold it: the public half, and the feature map and class names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import FormatError
from cipherlens.features.feature_map import FeatureMap
from cipherlens.learning.learners import LearnerSpec
from cipherlens.learning.signal import Signal
from cipherlens.learning.task import PublicTask
from cipherlens.planning.cost import Cost
from cipherlens.scheme.notebook import NotebookRepr
from cipherlens.wire.container import Kind, Reader, Writer

LARGEST_CLASSES = 1 << 15
LONGEST_NAME = 1000


@dataclass(frozen=True, eq=False)
class PrivateNotes:
    """What decrypting needs beside the key: for the owner alone.

    Attributes:
        classes: names of the classes, in the order of their numbers.
        moments: float64 (D,), mean squares of the clear images' columns, or None with too few of them.
        signal: their class means, or None with too few of them, or in files from before these were kept.
    """

    classes: tuple[str, ...]
    moments: NDArray[np.float64] | None
    signal: Signal | None = None

    def __repr__(self) -> str:
        return f"PrivateNotes({len(self.classes)} classes)"

    def to_dict(self) -> dict[str, object]:
        """A JSON-able description; `from_dict` is its inverse."""
        described: dict[str, object] = {
            "classes": list(self.classes), "moments": None if self.moments is None else self.moments.tolist(),
        }  # fmt: skip
        if self.signal is not None:
            s = self.signal
            described["signal"] = {
                "means": s.means.tolist(), "size": s.size, "spread": s.spread, "images": s.images,
            }  # fmt: skip
        return described

    @classmethod
    def from_dict(cls, values: object, task: PublicTask) -> PrivateNotes:
        """Notes from a stored description. Raises FormatError when they do not fit the task."""
        if not isinstance(values, dict):
            raise FormatError("the private half of the task is missing")
        classes, moments = values.get("classes"), values.get("moments")
        if (
            not isinstance(classes, list)
            or len(classes) != task.spec.classes
            or not all(isinstance(c, str) and len(c) <= LONGEST_NAME for c in classes)
        ):
            raise FormatError(f"the task does not name its {task.spec.classes} classes")
        spec = task.spec
        table = None if moments is None else _numbers(moments, (spec.dimension,))
        return cls(tuple(classes), table, _signal(values["signal"], spec) if "signal" in values else None)


def _numbers(values: object, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        table = np.array(values, np.float64) if isinstance(values, list) else np.empty(0)
    except (TypeError, ValueError, OverflowError):
        table = np.empty(0)
    if table.shape != shape or not np.isfinite(table).all():
        raise FormatError("the task's statistics are damaged")
    return table


def _signal(values: object, spec: LearnerSpec) -> Signal:
    if not isinstance(values, dict) or set(values) != {"means", "size", "spread", "images"}:
        raise FormatError("the task's statistics are damaged")
    size, spread, images = _numbers([values["size"], values["spread"], values["images"]], (3,))
    if spread < 0 or images < 1:
        raise FormatError("the task's statistics are damaged")
    means = _numbers(values["means"], (spec.dimension - 1, spec.columns))
    return Signal(means, float(size), float(spread), int(images))


@dataclass(frozen=True, eq=False)
class Task(NotebookRepr):
    """A planned task, private half included. Give the server `public` alone.

    Attributes:
        public: parameters and learner.
        feature_map: from images to the columns that are encrypted; statistics of the owner's images.
        notes: class names and what decryption checks.
        cost: what the task was forecast to cost, None when it was read from a file.
    """

    public: PublicTask
    feature_map: FeatureMap
    notes: PrivateNotes
    cost: Cost | None = None

    def __repr__(self) -> str:
        text = f"Task({self.public.spec.kind}, {len(self.notes.classes)} classes, {self.feature_map!r})"
        return text if self.cost is None else f"{text}\n{self.cost}"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the task, mode 0600, and its public half beside it; returns the public half's path."""
        arrays, settings = self.feature_map.to_arrays()
        header = {"task": self.public.to_dict(), "features": settings, "notes": self.notes.to_dict()}
        shapes = {name: (array.dtype.type, array.shape) for name, array in arrays.items()}
        public = public_path(Path(path))
        with Writer(Path(path), Kind.TASK, header, shapes, private=True) as writer:
            for name, array in arrays.items():
                writer.write(name, array)
            with Writer(public, Kind.PUBLIC_TASK, {"task": self.public.to_dict()}, {}):
                pass  # inside, so that neither file appears when there is no room for one of them
        return public

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Task:
        """Read a file of kind TASK. Raises FormatError."""
        with Reader.open(Path(path), Kind.TASK) as reader:
            public = PublicTask.from_dict(reader.header.get("task"))
            notes = PrivateNotes.from_dict(reader.header.get("notes"), public)
            settings = reader.header.get("features")
            if not isinstance(settings, dict):
                raise FormatError(f"{path} holds no feature map")
            arrays: Mapping[str, NDArray[np.generic]] = {name: reader.read(name) for name in reader.shapes}
            feature_map = FeatureMap.from_arrays(arrays, settings)
        if feature_map.dimension != public.spec.dimension:
            raise FormatError(f"{path}: the feature map gives {feature_map.dimension} columns, not the task's")
        return cls(public, feature_map, notes)


def public_path(path: Path) -> Path:
    """task.cl -> task.public.cl."""
    return path.with_name(f"{path.stem}.public{path.suffix}")
