"""Evaluation keys between the jobs of a worker: kept while there is room and use for them, and never beyond."""

from __future__ import annotations

import numpy as np
import pytest
from toy import toy_parameters

from cipherlens.scheme.engine import Engine
from cipherlens.scheme.keys import EvaluationKeys, SwitchingKey
from cipherlens.service import key_cache
from cipherlens.service.key_cache import KeyCache

SIZE = 8 * 2 * 3 * 64
"""Bytes of one set below."""


class World:
    """A cache, and how often which set was read."""

    def __init__(self) -> None:
        self.cache, self.read = KeyCache(), list[str]()

    def take(self, name: str, room: int) -> EvaluationKeys:
        def read() -> tuple[Engine, EvaluationKeys]:
            self.read.append(name)
            engine = Engine(toy_parameters(64, (30, 26), (33,), 1))
            key = SwitchingKey(np.zeros((1, 2, 3, 64)), bytes(32))
            return engine, EvaluationKeys(engine.parameters, name, {0: key})

        return self.cache.take((name, "task", True), room, read)[1]


def test_keys_are_read_once_while_there_is_room() -> None:
    world = World()
    for name in "abcabcabc":
        assert world.take(name, 2 * SIZE).key_id == name
    assert world.read == ["a", "b", "c"]
    assert world.cache.size == 3 * SIZE


def test_what_was_used_least_recently_goes_first() -> None:
    world = World()
    for name in ("a", "b", "a", "c", "a", "b"):
        world.take(name, SIZE)
        assert world.cache.size <= 2 * SIZE
    assert world.read == ["a", "b", "c", "b"]


def test_a_large_job_leaves_no_room() -> None:
    world = World()
    world.take("a", SIZE)
    world.take("b", 0)
    assert world.cache.size == SIZE
    world.take("a", SIZE)
    assert world.read == ["a", "b", "a"]


def test_what_nobody_uses_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.take("a", SIZE)
    world.cache.forget_unused()
    assert world.cache.size == SIZE
    monkeypatch.setattr(key_cache, "KEPT_SECONDS", -1.0)
    world.cache.forget_unused()
    assert world.cache.size == 0
