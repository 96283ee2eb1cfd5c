"""Timing the machine: what is remembered, what is not believed, and how long it takes."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from toy import toy_parameters

from cipherlens.planning import calibration
from cipherlens.planning.calibration import Speed, speed
from cipherlens.scheme.engine import Engine

KNOWN = Speed((2, 3), (1e-3, 2e-3), (5e-4, 1e-3), (1e-5, 2e-5), 1e-4, 1e-4, 1e-4, 1e-6, 1e-6, 1e-3, 1.5, 0.3)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "cipherlens" / "speed.json"


@pytest.fixture
def engine() -> Engine:
    return Engine(toy_parameters(1 << 12, (40, 34, 34), (41,), 1))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts measurements, which take no time."""
    calls: list[int] = []

    def measure(engine: Engine, threads: int) -> Speed:
        calls.append(threads)
        return KNOWN

    monkeypatch.setattr(calibration, "measure", measure)
    return calls


def test_the_machine_is_timed_once(cache: Path, engine: Engine, measured: list[int]) -> None:
    assert [speed(engine, 2) for _ in range(3)] == [KNOWN] * 3
    assert measured == [2]
    assert speed(engine, 1) == KNOWN
    assert measured == [2, 1]
    assert len(json.loads(cache.read_text())) == 2
    assert [file.name for file in cache.parent.iterdir()] == ["speed.json"]


DAMAGES: dict[str, Any] = {
    "a text": "x",
    "nothing": None,
    "not a number": asdict(KNOWN) | {"touch": float("nan")},
    "infinite": asdict(KNOWN) | {"touch": float("inf")},
    "negative": asdict(KNOWN) | {"touch": -1.0},
    "zero": asdict(KNOWN) | {"parallel": 0.0},
    "true": asdict(KNOWN) | {"touch": True},
    "a text for a number": asdict(KNOWN) | {"touch": "1"},
    "a list for a number": asdict(KNOWN) | {"touch": [1.0]},
    "a number for a list": asdict(KNOWN) | {"tensors": 1.0},
    "a bad number in a list": asdict(KNOWN) | {"tensors": [1.0, None]},
    "lists of unlike lengths": asdict(KNOWN) | {"tensors": [1.0]},
    "empty lists": asdict(KNOWN) | {name: [] for name in ("limbs", "key_switches", "hoisted", "tensors")},
    "a field too many": asdict(KNOWN) | {"more": 1.0},
    "a field too few": {name: value for name, value in asdict(KNOWN).items() if name != "touch"},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_measured_anew_and_replaced(
    damage: str, cache: Path, engine: Engine, measured: list[int]
) -> None:
    speed(engine, 1)
    known = json.loads(cache.read_text())
    (name,) = known
    cache.write_text(json.dumps({name: DAMAGES[damage], "another": 1}))
    assert speed(engine, 1) == KNOWN
    assert measured == [1, 1]
    assert json.loads(cache.read_text()) == known | {"another": 1}


@pytest.mark.parametrize("content", ["", "{", '"x"', "null", "[1]", "NaN", "\udcff"])
def test_a_damaged_file_is_replaced(content: str, cache: Path, engine: Engine, measured: list[int]) -> None:
    cache.parent.mkdir()
    cache.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert speed(engine, 1) == speed(engine, 1) == KNOWN
    assert measured == [1]


def test_a_cache_that_cannot_be_replaced_leaves_nothing_behind(
    cache: Path, engine: Engine, measured: list[int]
) -> None:
    cache.mkdir(parents=True)  # a folder in its place
    assert speed(engine, 1) == KNOWN
    assert [file.name for file in cache.parent.iterdir()] == ["speed.json"]


def test_parameters_of_one_shape_share_a_timing(cache: Path, engine: Engine, measured: list[int]) -> None:
    p = engine.parameters
    other = replace(p, scale_bits=p.scale_bits - 1)
    assert other.id != p.id
    assert speed(engine, 1) == speed(Engine(other), 1)
    assert measured == [1]


def test_a_measurement_gives_positive_times_and_ends_when_its_budget_is_spent(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "BUDGET", 0.0)
    started = time.process_time()
    found = calibration.measure(engine, 2)
    assert time.process_time() - started < 2
    assert calibration._from_cache(json.loads(json.dumps(asdict(found)))) == found
    assert 1 <= found.parallel <= 2
