"""What 10^6 and 10^8 images need, worked out from measured costs; and how training scales over two nodes.

    python benchmarks/scaling.py              # prints the tables of docs/scaling.md from results/learning.json
    python benchmarks/scaling.py --page       # writes them into docs/scaling.md; --check only compares
    python benchmarks/scaling.py --measure    # trains on one and on two local nodes of one core: results/scaling.json

Counts (key switches, products, bytes) come from the package's own formulas, seconds from the benchmark of learning.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cipherlens as cl
from cipherlens.learning.circuit import Circuit
from cipherlens.learning.encrypted_images import row_bytes
from cipherlens.learning.learners import LearnerSpec
from cipherlens.learning.results import score_bytes
from cipherlens.learning.task import PublicTask
from cipherlens.planning.calibration import USUAL_START
from cipherlens.planning.cost import HASHING, count_key_switches
from cipherlens.planning.rings import parameters_for

HERE = Path(__file__).resolve().parent
LEARNING, SCALING = HERE / "results" / "learning.json", HERE / "results" / "scaling.json"
PAGE = HERE.parent / "docs" / "scaling.md"
BEGIN, END = "<!-- tables of benchmarks/scaling.py -->\n", "<!-- end of tables -->\n"

HOISTED = 0.5
"""A further rotation of one decomposition, in full key switches (results/engine.json: 0.47 to 0.52 at N = 2^14)."""

NODE_CORES, SHARD_CORES = 16, 4
LINK = 1.25e9
"""Bytes a second of one node: 10 Gbit/s."""

SHARDS_IN_FLIGHT, FAN_IN = 2, 4
DIMENSIONS, CLASSES, IMAGES = (128, 256, 512), (2, 10), (10**6, 10**8)
RIDGE, UPPER, STEPS = 0.2, 5.0, 5


def circuit_of(kind: Any, classes: int, dimension: int, images: int = 1) -> Circuit:
    """A task's circuit with STEPS steps, for as many training images."""
    spec = LearnerSpec(kind, classes, dimension, RIDGE, UPPER, STEPS)
    return Circuit(parameters_for(spec, images), spec)


# ---- what one operation takes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """Core-seconds of a full key switch and of a tensor product in a long sum, with what goes along with them, and how
    well they explain each record: computed over measured."""

    key_switch: float
    product: float
    explained: dict[str, float]


def unit_costs(records: Sequence[dict[str, Any]]) -> Unit:
    """Least squares of relative errors over the records of results/learning.json. RuntimeError if counts differ."""
    counts, seconds = [], []
    for record in records:
        dimension = int(record["features"].rpartition("= ")[2])
        classes = 10 if record["task"] in ("mnist_1000", "mnist_60000") else 2
        circuit = circuit_of(record["learner"], classes, dimension)
        stages = count_key_switches(circuit, circuit.layout.ciphertexts(record["images"]))
        if (circuit.top, stages.total) != (record["levels"], record["key_switches"]):
            raise RuntimeError(f"{record['task']} was measured on another circuit; measure it again")
        products = circuit.layout.ciphertexts(record["images"]) * (dimension // 2 + 1) + dimension * STEPS
        counts.append((HOISTED * stages.hoisted + stages.full + stages.solve, products))
        reading = USUAL_START + record["evaluation_key_bytes"] / HASHING
        seconds.append(record["threads"] * (record["train_seconds"] - reading))
    table, took = np.array(counts, float), np.array(seconds)
    (key_switch, product), *_ = np.linalg.lstsq(table / took[:, None], np.ones(len(took)), rcond=None)
    found = table @ np.array([key_switch, product]) / took
    names = [str(record["task"]) for record in records]
    return Unit(float(key_switch), float(product), dict(zip(names, map(float, found), strict=True)))


# ---- what a task takes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Need:
    """One task at one number of images. Hours are core-hours, sizes bytes. level: whether one more was added, without
    which 1/n would round away."""

    images: int
    dimension: int
    classes: int
    ring_dimension: int
    levels: int
    more_level: bool
    ciphertexts: int
    pass_hours: float
    solve_hours: float
    classify_hours: float
    upload: int
    replies: int
    packed_keys: int
    expanded_keys: int
    sums: int
    node_memory: int
    network: int


def need(images: int, dimension: int, classes: int, unit: Unit) -> Need:
    """Everything about one task."""
    circuit = circuit_of("ridge", classes, dimension, images)
    more = images > circuit.most_in_one_division
    spec, p = circuit.spec, circuit.parameters
    # Measured at 8 limbs of N = 2^14; a key switch grows as N log N times limbs times digits, a product as N times limbs.
    size = p.ring_dimension * (circuit.top + 1) / (2**14 * 8)
    switch = unit.key_switch * size * max(1.0, p.digits(circuit.top + 1) / 3)
    product = unit.product * size
    task = PublicTask(p, spec, "0" * 32)
    ciphertexts = circuit.layout.ciphertexts(images)
    stages, half = count_key_switches(circuit, ciphertexts), dimension // 2
    row = sum(row_bytes(task, True))
    limb = 8 * p.ring_dimension
    packed = sum(p.switching_key_bytes(r.level) for r in circuit.key_requests())
    expanded = sum(
        p.digits(r.level + 1) * 2 * (r.level + 1 + len(p.special_primes)) * limb for r in circuit.key_requests()
    )
    sums = (3 * (half + 1) + 2 * spec.columns) * (circuit.top + 1) * limb
    rotated = 2 * 4 * (circuit.baby + circuit.giant - 1) * 2 * (circuit.top + 1) * limb
    shards = NODE_CORES // SHARD_CORES
    # In the store: keys, finished and merged sums; in processes: sums under way and the rotations of a group.
    memory = (
        expanded + (shards + FAN_IN + 1) * sums + shards * (sums + rotated) + SHARDS_IN_FLIGHT * shards * 1000 * row
    )
    period, folds = circuit.padded_columns, len(circuit.score_shifts)
    each = (HOISTED * period if classes > 2 else 0) + 1 + folds
    parts = max(1, ciphertexts // 1000)
    return Need(
        images, dimension, classes, p.ring_dimension, circuit.top, more, ciphertexts,
        (HOISTED * stages.hoisted * switch + ciphertexts * (half + 1) * product) / 3600,
        ((stages.full + stages.solve) * switch + dimension * STEPS * product) / 3600,
        ciphertexts * (each * switch + period * product) / 3600, ciphertexts * row, ciphertexts * score_bytes(task),
        packed, expanded, sums, memory, ciphertexts * row + parts * sums,
    )  # fmt: skip


def tables() -> str:
    """The tables, in Markdown."""
    unit = unit_costs(json.loads(LEARNING.read_text()))
    needs = [need(n, d, k, unit) for n in IMAGES for d in DIMENSIONS for k in CLASSES]
    explained = ", ".join(f"{name} {share:.2f}" for name, share in unit.explained.items())
    lines = [
        f"A key switch takes {1e3 * unit.key_switch:.2f} core-milliseconds and a product {1e6 * unit.product:.0f} "
        f"core-microseconds, reading, writing and idle time included. Computed over measured: {explained}.", "",
        "### Training and classifying", "",
        "| images | D | classes | ring, levels | ciphertexts | pass, core-hours | solve, core-seconds | 100 cores, pass "
        "| classify, core-hours |",
        "| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    for x in needs:
        ring = f"2^{x.ring_dimension.bit_length() - 1}, {x.levels}" + (" *" if x.more_level else "")
        lines.append(
            f"| {_count(x.images)} | {x.dimension} | {x.classes} | {ring} | {x.ciphertexts:,} | {x.pass_hours:,.1f} | "
            f"{3600 * x.solve_hours:.0f} | {_time(36 * x.pass_hours)} | {x.classify_hours:,.1f} |"
        )
    lines += [
        "", "\\* one level more than the learner needs, for the division by n: see below.", "",
        "### Bytes", "",
        "| images | D | classes | upload | an image | replies to as many | keys to upload | keys on a node | sums of a "
        "shard | memory of a node | network | at 10 Gbit/s |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    lines += [
        f"| {_count(x.images)} | {x.dimension} | {x.classes} | {_size(x.upload)} | {_size(x.upload / x.images)} | "
        f"{_size(x.replies)} | {_size(x.packed_keys)} | {_size(x.expanded_keys)} | {_size(x.sums)} | "
        f"{_size(x.node_memory)} | {_size(x.network)} | {_time(x.network / LINK)} |"
        for x in needs
    ]
    lines += [
        "",
        "### Images that one training averages without the level",
        "",
        "| D | two classes | ten classes |",
        "| ---: | ---: | ---: |",
    ]
    for d in (32, *DIMENSIONS):
        lines.append(
            f"| {d} | " + " | ".join(f"{circuit_of('ridge', k, d).most_in_one_division:,}" for k in CLASSES) + " |"
        )
    return "\n".join(lines) + "\n"


def _count(n: int) -> str:
    return f"10^{len(str(n)) - 1}"


def _size(size: float) -> str:
    for unit, power in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= power:
            return f"{size / power:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"


def _time(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


# ---- one node and two ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scaled:
    """A training on so many local nodes of one core each: seconds of the pass over the images, and of all of it."""

    nodes: int
    images: int
    ciphertexts: int
    pass_seconds: float
    seconds: float
    same_bytes: bool


def measure(images: int, runs: int) -> list[Scaled]:
    """D = 128, two classes; the median of the runs, after one that starts the nodes' processes."""
    from ray.cluster_utils import Cluster

    from cipherlens.server.ray_cluster import RayCluster

    rng = np.random.default_rng(0)
    numbers = np.arange(images) % 2
    rows = rng.normal(size=(images, 100)) + rng.normal(size=(2, 100))[numbers]
    task = cl.plan(rows[:2000], numbers[:2000], features="table", dimension=128)
    keys = cl.owner.Keys.create(task)
    data = keys.encrypt(rows, numbers)
    alone = cl.server.train(data, keys.evaluation).tables
    found = []
    node = {"num_cpus": 1, "object_store_memory": 2_000_000_000, "node_ip_address": "127.0.0.2"}
    for nodes in (1, 2):
        with tempfile.TemporaryDirectory(prefix="ray-") as logs:
            os.environ["RAY_TMPDIR"] = logs  # where Ray notes a cluster's address, in a folder that must be there
            (Path(logs) / "ray").mkdir()
            ray = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False, "temp_dir": logs})
            for _ in range(1, nodes):
                ray.add_node(**node)
            with RayCluster(ray.address) as cluster:
                passes, totals = [], []
                for _ in range(1 + runs):
                    ended: list[float] = []

                    def progress(stage: str, share: float, ended: list[float] = ended) -> None:
                        if stage != "images" and not ended:
                            ended.append(time.perf_counter())

                    began = time.perf_counter()
                    model = cl.server.train(data, keys.evaluation, cluster=cluster, progress=progress)
                    totals.append(time.perf_counter() - began)
                    passes.append(ended[0] - began)
            ray.shutdown()
        same = all(np.array_equal(table, alone[name]) for name, table in model.tables.items())
        seconds = statistics.median(passes[1:]), statistics.median(totals[1:])
        found.append(Scaled(nodes, images, len(data.rows), *seconds, same))
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="What many images need, and how training scales over nodes.")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/scaling.md")
    parser.add_argument("--check", action="store_true", help="fail if docs/scaling.md holds other tables")
    parser.add_argument("--measure", action="store_true", help="measure one node and two; on a quiet machine")
    parser.add_argument("--images", type=int, default=65536, help="images to train on")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, the median counts")
    chosen = parser.parse_args()
    if chosen.measure:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        found = measure(chosen.images, chosen.runs)
        SCALING.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
        for one in found:
            print(
                f"{one.nodes} nodes: pass {one.pass_seconds:.2f} s, all {one.seconds:.2f} s, same bytes: {one.same_bytes}"
            )
        print(f"the pass on two nodes is {found[0].pass_seconds / found[1].pass_seconds:.2f} times as fast as on one")
    elif chosen.page or chosen.check:
        text = PAGE.read_text()
        before, _, rest = text.partition(BEGIN)
        wanted = before + BEGIN + tables() + END + rest.partition(END)[2]
        if chosen.page:
            PAGE.write_text(wanted)
        elif wanted != text:
            sys.exit(f"the tables of {PAGE.name} are not those of {LEARNING.name}; run benchmarks/scaling.py --page")
    else:
        print(tables(), end="")


if __name__ == "__main__":
    main()
