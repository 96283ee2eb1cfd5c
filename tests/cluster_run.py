"""`cluster_run.py FOLDER`: work on a Ray cluster of two nodes, as JSON on stdout.

A program of its own, since Ray's libraries warn and a process has one cluster. FOLDER holds what
`service_world.make_material` writes. One cluster serves everything; a node that dies comes last.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from service_world import client, serving, token

from cipherlens.cli.main import main as command
from cipherlens.errors import CipherlensError
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.results import Reply, TrainedModel
from cipherlens.learning.training import Sums
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.keys import EvaluationKeys
from cipherlens.server import classify, train
from cipherlens.server.ray_cluster import RayCluster
from cipherlens.wire.keys import read_evaluation_keys

LOOPBACK = "127.0.0.2"
"""Ray replaces 127.0.0.1 by the machine's own address, which other machines reach."""

NODE = {"num_cpus": 1, "object_store_memory": 400_000_000, "node_ip_address": LOOPBACK}
TIMES = 20
"""How often the images of a file are repeated where the work has to last."""

TASK_TITLE = "ray::_on_node"


class Enough(Exception):
    """The work was stopped on purpose."""


class Kept:
    """Checkpoints in memory."""

    def __init__(self) -> None:
        self.sums: Sums | None = None

    def due(self) -> bool:
        return True

    def save(self, sums: Sums) -> None:
        self.sums = sums

    def load(self) -> Sums | None:
        return self.sums


class World:
    """The files, what one machine makes of them, and the cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = [EncryptedImages.load(path) for path in sorted(folder.glob("part*.cl"))]
        self.query = EncryptedImages.load(folder / "query.cl")
        self.engine = Engine(self.query.task.parameters)
        self.keys = read_evaluation_keys(folder / "keys.cl", self.engine, self.query.task.circuit.key_requests())
        one = self.parts[0]
        assert one.labels is not None
        rows = [one.rows[i] for i in range(len(one.rows))] * TIMES
        self.long = replace(one, images=one.images * TIMES, labels=np.tile(one.labels, (TIMES, 1)), rows=rows)
        self.expected = self.bytes_of(train(self.long, self.keys, engine=self.engine))
        self.logs = tempfile.TemporaryDirectory(prefix="ray-")  # pytest's folders are too deep for sockets
        os.environ["RAY_TMPDIR"] = self.logs.name  # where Ray notes a cluster's address, in a folder that must be there
        (Path(self.logs.name) / "ray").mkdir()
        head = {**NODE, "include_dashboard": False, "temp_dir": self.logs.name}
        self.ray = Cluster(initialize_head=True, head_node_args=head)
        self.second = self.ray.add_node(**NODE)
        self.name = f"ray://{self.ray.address}"

    def bytes_of(self, result: TrainedModel | Reply) -> bytes:
        path = self.folder / "result"
        result.save(path)
        return path.read_bytes()

    def file(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def disturbed(self, cluster: RayCluster, disturb: Callable[[], bool]) -> dict[str, Any]:
        """Train, and disturb it once while shards are under way; how often, and whether the bytes are right."""
        disturbed: list[float] = []

        def progress(stage: str, share: float) -> None:
            if stage == "images" and not disturbed and disturb():
                disturbed.append(share)

        model = train(self.long, self.keys, engine=self.engine, cluster=cluster, progress=progress)
        return {"at": disturbed, "same": self.bytes_of(model) == self.expected}


def tasks() -> list[int]:
    """Processes that compute a shard."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(TASK_TITLE.encode()):
                found.append(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return found


def kill_a_task() -> bool:
    """kill -9 of one process that computes a shard, if there is one."""
    for process in tasks()[:1]:
        os.kill(process, signal.SIGKILL)
        return True
    return False


def in_shared_memory(keys: EvaluationKeys) -> tuple[str, bool]:
    """On a node: which, and whether all keys lie in the mapped object store."""
    regions = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "plasma" in line:
            start, end = line.split()[0].split("-")
            regions.append((int(start, 16), int(end, 16)))
    places = [key.data.ctypes.data for key in keys.keys.values()]
    return ray.get_runtime_context().get_node_id(), all(any(a <= p < b for a, b in regions) for p in places)


def undisturbed(world: World, cluster: RayCluster) -> dict[str, Any]:
    model = train(world.parts, world.keys, engine=world.engine, cluster=cluster)
    reply = classify(model, world.query, world.keys, engine=world.engine, cluster=cluster)
    shared = ray.put(world.keys)
    look = ray.remote(num_cpus=1)(in_shared_memory)
    nodes = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
    seen = ray.get([look.options(scheduling_strategy=node).remote(shared) for node in nodes])
    return {
        "slots": cluster.slots,
        "model": world.bytes_of(model) == world.file("model.cl"),
        "reply": world.bytes_of(reply) == world.file("reply.cl"),
        "nodes": len({node for node, _ in seen}),
        "keys in shared memory": all(shared for _, shared in seen),
    }


def stopped(world: World, cluster: RayCluster) -> dict[str, Any]:
    """Stopped after the first sums arrived, then taken up again on the cluster and on this machine alone."""
    kept = Kept()

    def progress(stage: str, share: float) -> None:
        if kept.sums is not None:
            raise Enough

    try:
        train(world.long, world.keys, engine=world.engine, cluster=cluster, progress=progress, checkpoints=kept)
        raise AssertionError("it was not stopped")
    except Enough:
        began = time.monotonic()
    while tasks() and time.monotonic() < began + 10:
        time.sleep(0.05)
    left, batches = len(tasks()), kept.sums.batches if kept.sums else 0
    alone = train(world.long, world.keys, engine=world.engine, checkpoints=Halfway(kept))
    again = train(world.long, world.keys, engine=world.engine, checkpoints=Halfway(kept), cluster=cluster)
    same = [world.bytes_of(model) == world.expected for model in (alone, again)]
    return {"left": left, "batches": batches, "of": len(world.long.rows), "same": same}


class Halfway:
    """Goes on from what was kept, and keeps nothing itself."""

    def __init__(self, kept: Kept) -> None:
        assert kept.sums is not None
        copies = [np.array(diagonal) for diagonal in kept.sums.diagonals]
        self._sums = Sums(kept.sums.batches, copies, kept.sums.columns)

    def due(self) -> bool:
        return False

    def save(self, sums: Sums) -> None:
        raise AssertionError("nothing is due")

    def load(self) -> Sums:
        return self._sums


def refused(world: World, cluster: RayCluster) -> dict[str, str]:
    """What a user reads."""
    said: dict[str, str] = {}

    def note(what: str, refused: Callable[[], object]) -> None:
        try:
            refused()
        except CipherlensError as error:
            said[what] = f"{type(error).__name__}: {error}"

    damaged = replace(world.parts[0], rows=[(np.full_like(m, 255), o) for m, o in (world.parts[0].rows[0],)] * 8)
    note("damaged", lambda: train(damaged, world.keys, engine=world.engine, cluster=cluster))
    cluster.close()
    note("threads", lambda: RayCluster(world.ray.address, threads=2))
    return said


def commands(world: World) -> dict[str, Any]:
    folder = world.folder
    options = ["--evaluation-keys", str(folder / "keys.cl"), "--cluster", world.name, "--json"]
    data = [word for path in sorted(folder.glob("part*.cl")) for word in ("--data", str(path))]
    statuses = [
        command(["train", *data, *options, "--out", str(folder / "m.cl")]),
        command(["classify", "--model", str(folder / "m.cl"), "--data", str(folder / "query.cl"), *options,
                 "--out", str(folder / "r.cl")]),
    ]  # fmt: skip
    same = [world.file("m.cl") == world.file("model.cl"), world.file("r.cl") == world.file("reply.cl")]
    return {"statuses": statuses, "same": same}


def service(world: World) -> dict[str, Any]:
    """The same over HTTP, by a service whose worker uses the cluster."""
    data = world.folder / "service"
    with serving(data, cluster=world.name) as running, client(running.url, token(data)) as owner:
        files = [owner.upload(path) for path in sorted(world.folder.glob("part*.cl"))]
        made = owner.done("POST", "/v1/datasets", json={"file_ids": files}, headers={"Idempotency-Key": "all"})
        keys = owner.upload(world.folder / "keys.cl", "evaluation_keys")
        job = owner.wait(owner.submit("t", kind="train", dataset_id=made["dataset_id"], keys_file_id=keys))
        same = job["result_file_id"] is not None and owner.download(job["result_file_id"]) == world.file("model.cl")
        return {"state": job["state"], "same": same, "stopped": running.stop()}


def main(folder: Path) -> dict[str, Any]:
    """Everything, one after the other."""
    world = World(folder)
    cluster = RayCluster(world.ray.address, shard=16)
    happened: dict[str, Any] = {
        "undisturbed": undisturbed(world, cluster),
        "stopped": stopped(world, cluster),
        "process killed": world.disturbed(cluster, kill_a_task),
        "refused": refused(world, cluster),
        "commands": commands(world),
        "service": service(world),
    }
    with RayCluster(world.ray.address, shard=16) as cluster:
        happened["node killed"] = world.disturbed(
            cluster, lambda: bool(tasks()) and not world.ray.remove_node(world.second, allow_graceful=False)
        )
    world.ray.shutdown()
    world.logs.cleanup()
    return happened


if __name__ == "__main__":
    sys.stdout, printed = sys.stderr, sys.stdout
    result = main(Path(sys.argv[1]))
    printed.write(json.dumps(result))
