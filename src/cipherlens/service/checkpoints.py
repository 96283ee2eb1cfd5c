"""Where a long training leaves its sums, so that another worker goes on from there and comes to the same bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cipherlens import __version__
from cipherlens.learning.training import Sums
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.service.logging import defect, say
from cipherlens.service.pieces import Incoming


class FileCheckpoints:
    """One job's checkpoint: a file of arrays in numpy's format, one after the other, replaced as a whole.

    In order: the version of Cipherlens as text, [batches, diagonals, columns], the columns' scales, the diagonals, the
    columns.
    """

    def __init__(self, path: Path, seconds: float, stopping: Callable[[], bool], saved: Callable[[], bool]) -> None:
        """path: of the file. seconds: of work between two. stopping: whether to save at once.

        saved: called after it; False when the job is over, and nothing of it is to stay.
        """
        self._path, self._seconds, self._stopping, self._saved = path, seconds, stopping, saved
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether so many seconds passed, or the worker is about to stop."""
        return self._stopping() or time.monotonic() - self._last >= self._seconds

    def save(self, sums: Sums) -> None:
        """Replace the checkpoint, durably; where the disk does not take it, the work goes on without."""
        try:
            self._write(sums)
        except OSError as error:
            defect("no checkpoint", error, job=self._path.stem)
        else:
            if not self._saved():
                self._path.unlink(missing_ok=True)
        self._last = time.monotonic()

    def _write(self, sums: Sums) -> None:
        with Incoming(self._path) as incoming:
            sizes = [sums.batches, len(sums.diagonals), len(sums.columns)]
            first = [np.frombuffer(__version__.encode(), np.uint8), np.array(sizes, np.int64)]
            scales = np.array([column.scale for column in sums.columns])
            for array in (*first, scales, *sums.diagonals, *(column.data for column in sums.columns)):
                np.lib.format.write_array(incoming.file, np.asarray(array), allow_pickle=False)
            incoming.keep()

    def load(self) -> Sums | None:
        """The checkpoint; None when there is none, or one of another version, which may have summed otherwise."""
        try:
            with self._path.open("rb") as file:
                if np.lib.format.read_array(file, allow_pickle=False).tobytes() != __version__.encode():
                    return None
                batches, diagonals, columns = np.lib.format.read_array(file, allow_pickle=False).tolist()
                scales = np.lib.format.read_array(file, allow_pickle=False).tolist()
                arrays = [np.lib.format.read_array(file, allow_pickle=False) for _ in range(diagonals + columns)]
        except (FileNotFoundError, ValueError):  # a damaged one costs time, not the job
            return None
        sums = [Ciphertext(data, scale) for data, scale in zip(arrays[diagonals:], scales, strict=True)]
        say("goes on from a checkpoint", job=self._path.stem, batches=batches)
        return Sums(batches, arrays[:diagonals], sums)
