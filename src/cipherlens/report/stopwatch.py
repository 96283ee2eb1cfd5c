"""What encrypting takes, features apart: one definition for the demonstration and the benchmarks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipherlens.features.base import Progress, extract_batches
from cipherlens.features.feature_map import FeatureMap
from cipherlens.owner.encryption import Encryptor, encrypt_images, prepare
from cipherlens.planning.task import Task


@dataclass
class Timed:
    """Seconds of one pass.

    Attributes:
        feature_seconds: reading images, their features, whitening.
        encrypt_seconds: everything else, from names and labels to the finished files.
        features: (n, d) base features of each portion, before whitening, where they were asked for.
    """

    feature_seconds: float = 0.0
    encrypt_seconds: float = 0.0
    features: list[NDArray[np.float64]] = field(default_factory=list, repr=False)


def time_encryption(
    task: Task,
    encryptor: Encryptor,
    sealing_key: bytes,
    portions: Sequence[tuple[Path, Any, Any]],
    *,
    threads: int,
    keep: bool = False,
) -> Timed:
    """Encrypt each portion (file, images, labels or None) as `encrypt` does; keep: collect the features too."""
    timed = Timed()
    started = time.perf_counter()
    for path, images, labels in portions:
        watched = _watched(task, timed, keep)
        prepared = prepare(task, images, labels, labels is not None)
        encrypt_images(watched, encryptor, sealing_key, prepared, path=path, threads=threads)
    timed.encrypt_seconds = time.perf_counter() - started - timed.feature_seconds
    return timed


def _watched(task: Task, timed: Timed, keep: bool) -> Task:
    """The same task, whose features are timed and, with `keep`, collected as one more portion."""
    kept: list[NDArray[np.float64]] = []

    class Watched(FeatureMap):
        def batches(
            self, images: Any, progress: Progress | None = None, *, threads: int = 1
        ) -> Iterator[tuple[tuple[str, ...], NDArray[np.float64]]]:
            batches = extract_batches(self.base, images, threads, progress)
            while True:
                start = time.perf_counter()
                batch = next(batches, None)
                columns = None if batch is None else self.whitening.apply(batch[1])
                timed.feature_seconds += time.perf_counter() - start
                if batch is None or columns is None:
                    break
                if keep:
                    kept.append(batch[1])
                yield batch[0], columns
            if keep:
                timed.features.append(np.concatenate(kept))

    return replace(task, feature_map=Watched(task.feature_map.base, task.feature_map.whitening))
