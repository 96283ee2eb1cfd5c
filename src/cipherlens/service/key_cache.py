"""Evaluation keys that a worker keeps between jobs: reading them takes longer than a small classification."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from cipherlens.scheme.engine import Engine
from cipherlens.scheme.keys import EvaluationKeys

KEPT_SECONDS = 60.0
"""Keys that no job has used for so long are let go, so that deleted ones do not stay in memory."""


@dataclass
class _Kept:
    """A set of keys: its size in memory, bytes, and when a job used it last, of the monotonic clock."""

    engine: Engine
    keys: EvaluationKeys
    size: int
    used: float


class KeyCache:
    """Sets of evaluation keys by name, the one used last at the end."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, bool], _Kept] = {}

    @property
    def size(self) -> int:
        """Bytes of all keys that are kept."""
        return sum(kept.size for kept in self._kept.values())

    def take(
        self, name: tuple[str, str, bool], room: int, read: Callable[[], tuple[Engine, EvaluationKeys]]
    ) -> tuple[Engine, EvaluationKeys]:
        """The keys of this name, read when they are not here.

        Args:
            name: of the file and of the task, and whether it is for training, which say which of its keys are read.
            room: bytes that all other sets may take meanwhile; those used least recently go first.
            read: how to read the set.
        """
        kept = self._kept.pop(name, None)
        while self.size > room:
            del self._kept[next(iter(self._kept))]
        if kept is None:
            engine, keys = read()
            kept = _Kept(engine, keys, sum(key.data.nbytes for key in keys.keys.values()), 0.0)
        kept.used = time.monotonic()
        self._kept[name] = kept
        return kept.engine, kept.keys

    def forget_unused(self) -> None:
        """Let go of what was not used for long."""
        late = time.monotonic() - KEPT_SECONDS
        for name in [name for name, kept in self._kept.items() if kept.used < late]:
            del self._kept[name]
