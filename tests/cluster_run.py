"""Runs in a process of its own, since Ray's libraries warn: `cluster_run.py FOLDER` prints what happened as JSON.

FOLDER holds the files that `service_world.make_material` writes. A cluster of two nodes with one core each does the
same work undisturbed, through the command line, while a process and then a node are killed, and until it is cancelled.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray.cluster_utils import Cluster

from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.results import TrainedModel
from cipherlens.scheme.engine import Engine
from cipherlens.server import classify, train
from cipherlens.server.ray_cluster import RayCluster
from cipherlens.wire.keys import read_evaluation_keys

LOOPBACK = "127.0.0.2"
"""Ray replaces 127.0.0.1 by the machine's own address, which other machines reach."""

STORE = 300_000_000


def start_cluster() -> tuple[Cluster, Any]:
    node = {"num_cpus": 1, "object_store_memory": STORE, "node_ip_address": LOOPBACK}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    return cluster, cluster.add_node(**node)


def main(folder: Path) -> dict[str, Any]:
    t=time.time()
    parts = [EncryptedImages.load(path) for path in sorted(folder.glob("part*.cl"))]
    query = EncryptedImages.load(folder / "query.cl")
    engine = Engine(query.task.parameters)
    keys = read_evaluation_keys(folder / "keys.cl", engine, query.task.circuit.key_requests())
    cluster, second = start_cluster()
    print("started", time.time()-t, file=sys.stderr)
    with RayCluster(cluster.address, shard=4) as ours:
        print("joined", time.time()-t, ours.slots, ours.threads, file=sys.stderr)
        model = train(parts, keys, cluster=ours)
        print("trained", time.time()-t, file=sys.stderr)
        model.save(folder/"m2.cl")
        print((folder/"m2.cl").read_bytes()==(folder/"model.cl").read_bytes())
        reply = classify(model, query, keys, cluster=ours)
        reply.save(folder/"r2.cl")
        print((folder/"r2.cl").read_bytes()==(folder/"reply.cl").read_bytes())
        print("classified", time.time()-t, file=sys.stderr)
    cluster.shutdown()
    print("down", time.time()-t, file=sys.stderr)
    return {}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
