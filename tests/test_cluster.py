"""Shards: cut and put together again without a cluster, and on a real one of two nodes."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from service_world import Material, make_material

from cipherlens.cli.main import main
from cipherlens.errors import FormatError, InputError, ServerError
from cipherlens.learning.classifying import Classifier
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.results import Packed
from cipherlens.learning.training import GROUP, Sums
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.keys import EvaluationKeys
from cipherlens.server import classify, open_cluster, train
from cipherlens.server.shards import Watch, cut, merge_shards, score_shard, shard_size, sum_shard
from cipherlens.wire.keys import read_evaluation_keys


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(tmp_path_factory.mktemp("cluster") / "files", images=4096)


@pytest.fixture(scope="module")
def keys(material: Material) -> EvaluationKeys:
    return read_evaluation_keys(material.keys)


# ---- without a cluster ----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 20), min_size=1, max_size=4), st.integers(0, 90), st.integers(1, 25))
def test_places_cover_everything_once_and_in_order(sizes: list[int], start: int, most: int) -> None:
    everything = [(number, row) for number, size in enumerate(sizes) for row in range(size)]
    places = cut(sizes, start, most)
    assert [(number, row) for number, span in places for row in span] == everything[start:]
    assert all(0 < len(span) <= most for _, span in places)


@given(st.integers(1, 10**7), st.integers(1, 500), st.integers(1, 10**6), st.integers(0, 10**11))
def test_shards_in_flight_fit_their_room(total: int, slots: int, row_bytes: int, room: int) -> None:
    size = shard_size(total, slots, row_bytes, room)
    assert size % GROUP == 0
    assert size == GROUP or 2 * slots * size * row_bytes <= room
    assert size < total / slots + GROUP or size == GROUP  # no slot is left without work that others have twice


class Simulated:
    """A cluster in this process: shards of a few ciphertexts, merged backwards and in unequal numbers."""

    def __init__(self, most: int) -> None:
        self.most, self.given = most, 0

    def sums(
        self,
        sets: Sequence[EncryptedImages],
        counts: NDArray[np.int64],
        evaluation: EvaluationKeys,
        start: int,
        watch: Watch,
    ) -> Iterator[Sums]:
        places = cut([len(s.rows) for s in sets], start, self.most)
        parts = [sum_shard(sets[number].part(span), counts, evaluation, 1) for number, span in places]
        self.given = len(parts)
        yield merge_shards(sets[0].task.parameters, 2, *reversed(parts[:-1]))
        yield parts[-1]

    def scores(
        self, classifier: Classifier, data: EncryptedImages, evaluation: EvaluationKeys, watch: Watch
    ) -> Iterator[Packed]:
        for _, span in cut([len(data.rows)], 0, self.most):
            yield score_shard(data.part(span), classifier, evaluation, 2)


@pytest.mark.parametrize("most", [1, 3, 5])
def test_any_cut_gives_the_bytes_of_one_machine(
    material: Material, keys: EvaluationKeys, most: int, tmp_path: Path
) -> None:
    cluster, seen = Simulated(most), list[float]()
    sets = [EncryptedImages.load(path) for path in material.parts]
    model = train(sets, keys, cluster=cluster, progress=lambda stage, share: seen.append(share))
    assert cluster.given == sum(-(-len(s.rows) // most) for s in sets) > 2
    model.save(tmp_path / "model.cl")
    assert (tmp_path / "model.cl").read_bytes() == material.model
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    classify(model, EncryptedImages.load(material.parts[0]), keys, cluster=cluster).save(tmp_path / "shared.cl")
    classify(model, EncryptedImages.load(material.parts[0]), keys).save(tmp_path / "alone.cl")
    assert (tmp_path / "shared.cl").read_bytes() == (tmp_path / "alone.cl").read_bytes()


def test_sums_do_not_depend_on_order_and_share_no_memory(material: Material, keys: EvaluationKeys) -> None:
    images = EncryptedImages.load(material.parts[0])
    counts, p = images.counts(), images.task.parameters
    parts = [sum_shard(images.part(span), counts, keys, 1) for _, span in cut([len(images.rows)], 0, 3)]
    whole = sum_shard(images, counts, keys, 2)
    for order in (parts, parts[::-1], [merge_shards(p, 1, *parts[1:]), parts[0]]):
        merged = merge_shards(p, 1, *order)
        assert merged.batches == whole.batches == len(images.rows)
        assert len(merged.diagonals) == len(whole.diagonals) == images.task.spec.dimension // 2 + 1
        for one, other in zip(merged.diagonals, whole.diagonals, strict=True):
            assert np.array_equal(one, other)
        for a, b in zip(merged.columns, whole.columns, strict=True):
            assert a.scale == b.scale
            assert np.array_equal(a.data, b.data)
    alone = merge_shards(p, 1, whole)
    assert not any(np.shares_memory(a, b) for a, b in zip(alone.diagonals, whole.diagonals, strict=True))


def test_a_part_of_a_data_set_is_those_of_its_ciphertexts(material: Material) -> None:
    images = EncryptedImages.load(material.parts[0])
    engine = Engine(images.task.parameters)
    part = images.part(range(2, 5))
    assert images.labels is not None
    assert part.names == b""  # what a shard does not need does not travel
    assert part.images == np.count_nonzero(images.labels[2:5] >= 0)
    for i in range(3):
        one, other = part.batch(engine, i), images.batch(engine, 2 + i)
        assert np.array_equal(one.ciphertext.data, other.ciphertext.data)
        assert np.array_equal(one.labels, other.labels)


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "dask", "ray:", "ray://", "ray://host", "ray://host:port", "ray://a b:1", "ray://h:1/x"]
)
def test_names_that_are_no_cluster(name: str) -> None:
    with pytest.raises(InputError, match="say ray for one on this machine, or ray://HOST:PORT"):
        open_cluster(name)


def test_nobody_answers() -> None:
    with pytest.raises(ServerError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 .*ray start --head"):
        open_cluster("ray://127.0.0.1:1")


def test_ray_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cipherlens.server.ray_cluster", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(InputError, match=r"pip install 'cipherlens\[ray\]'"):
        open_cluster("ray")


def test_a_server_decides_itself(material: Material, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--data", str(material.parts[0]), "--evaluation-keys", str(material.keys)]
    arguments += ["--out", str(tmp_path / "m.cl"), "--server", "http://127.0.0.1:1", "--cluster", "ray"]
    assert main(arguments) != 0
    assert "leave --server or --cluster away" in capsys.readouterr().err


# ---- two nodes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def happened(material: Material) -> dict[str, Any]:
    """What `cluster_run.py` saw."""
    folder = material.keys.parent
    environment = {
        **os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }  # fmt: skip
    run = Path(__file__).with_name("cluster_run.py")
    done = subprocess.run(
        [sys.executable, str(run), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_two_nodes_give_the_bytes_of_one_machine(happened: dict[str, Any]) -> None:
    seen = happened["undisturbed"]
    assert (seen["slots"], seen["nodes"]) == (2, 2)
    assert seen["model"]
    assert seen["reply"]


def test_every_node_reads_the_keys_from_its_object_store(happened: dict[str, Any]) -> None:
    assert happened["undisturbed"]["keys in shared memory"]


def test_a_killed_process_changes_no_byte(happened: dict[str, Any]) -> None:
    seen = happened["process killed"]
    assert len(seen["at"]) == 1
    assert seen["at"][0] < 0.6
    assert seen["same"]


def test_a_lost_node_changes_no_byte(happened: dict[str, Any]) -> None:
    seen = happened["node killed"]
    assert len(seen["at"]) == 1
    assert seen["at"][0] < 0.6
    assert seen["same"]


def test_what_is_stopped_stops_everywhere_and_can_go_on_anywhere(happened: dict[str, Any]) -> None:
    seen = happened["stopped"]
    assert seen["left"] == 0
    assert 0 < seen["batches"] < seen["of"]
    assert seen["same"] == [True, True]


def test_the_commands_and_the_service_use_the_cluster(happened: dict[str, Any]) -> None:
    assert happened["commands"] == {"statuses": [0, 0], "same": [True, True]}
    assert happened["service"] == {"state": "done", "same": True, "stopped": 0}


def test_errors_of_nodes_are_those_of_this_machine(happened: dict[str, Any], material: Material) -> None:
    said = happened["refused"]
    images = EncryptedImages.load(material.parts[0])
    damaged = images.part(range(1))
    damaged.rows[0][0][:] = 255
    with pytest.raises(FormatError) as here:
        damaged.batch(Engine(images.task.parameters), 0)
    assert said["damaged"] == f"FormatError: {here.value}"
    assert said["threads"] == "ServerError: no node of the cluster has 2 cores; the largest has 1"
