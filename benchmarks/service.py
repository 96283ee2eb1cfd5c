"""Measures the service: `make bench-service`, `python benchmarks/service.py`.

1. The demonstration's task, from planning to decrypted answers, by files and through HTTP on loopback. Every run has
   fresh keys and ciphertexts, so that nothing is found on the server from the run before.
2. Owners, each a tenant with keys of their own, who classify without a pause for a minute; against one owner alone.
   Queries are encrypted before and replies decrypted after that minute: both are counted with the right labels.
3. `kill -9` of the service's processes at random moments, while an owner uploads, trains and classifies.

Writes into benchmarks/results/: service.json, service.md, service-load.png and service-load.svg. To see that it works:

    python benchmarks/service.py --runs 1 --owners 4 --seconds 5 --kills 4 --images 2048 --results /tmp/service
"""

from __future__ import annotations

import argparse
import math
import random
import shlex
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
import numpy as np
import service_report
import service_server
from learning import RESULTS, run
from rich.console import Console
from service_kills import measure_kills
from service_report import Load, Report, Whole

import cipherlens as cl
from cipherlens.data import DemoImages, demo_cats
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.results import Reply
from cipherlens.learning.twin import fit_clear

PARTS = ("whole", "owners", "kills")
CATS = ("--features", "lite0", "--learner", "ridge")
TRAINING, QUERIES = 160, 16
"""Images of each owner in the second part: few, so that what is measured is the service."""


# ---- the demonstration's task ----------------------------------------------------------------------------------------


def whole_workflow(command: Sequence[str], folder: Path, remote: Sequence[str]) -> tuple[float, float]:
    """All commands once, in a new folder: seconds in all, and of training and classifying."""

    def step(*arguments: str) -> float:
        return run([*command, *arguments, "--json"], folder).seconds

    start = time.perf_counter()
    step("plan", "--images", "../train", *CATS, "--out", "task.cl")
    step("keys", "create", "--task", "task.cl", "--no-passphrase", "--out", "KEYS")
    step("encrypt", "--task", "task.cl", "--keys", "KEYS", "--images", "../train", "--out", "data.cl")
    step("encrypt", "--task", "task.cl", "--keys", "KEYS", "--images", "../new", "--no-labels", "--out", "query.cl")
    keys = ("--evaluation-keys", "KEYS/evaluation.cl", *remote)
    server = step("train", "--data", "data.cl", "--out", "model.cl", *keys)
    server += step("classify", "--model", "model.cl", "--data", "query.cl", "--out", "reply.cl", *keys)
    step("decrypt", "--reply", "reply.cl", "--keys", "KEYS", "--out", "predictions.csv")
    return time.perf_counter() - start, server


def measure_whole(command: Sequence[str], runs: int, base: Path) -> Whole:
    """The first part; both ways in turn, after one run of each that does not count."""
    training, new = demo_cats()
    training.write(base / "train")
    new.write(base / "new")
    by_files: list[tuple[float, float]] = []
    by_service: list[tuple[float, float]] = []
    with service_server.running(command, base / "provider") as service:
        token = base / "token"
        token.write_text(service.token("owner"))
        remote = ("--server", service.url, "--token-file", str(token))
        for number in range(runs + 1):
            for times, more in ((by_files, ()), (by_service, remote)):
                folder = base / f"run-{number}-{len(more)}"
                folder.mkdir()
                times.append(whole_workflow(command, folder, more))
        uploads = sum((folder / name).stat().st_size for name in ("data.cl", "query.cl", "KEYS/evaluation.cl"))
    whole = [statistics.median(pair[0] for pair in times[1:]) for times in (by_files, by_service)]
    server = [statistics.median(pair[1] for pair in times[1:]) for times in (by_files, by_service)]
    return Whole(
        runs, whole[0], whole[1], whole[1] / whole[0], server[0], server[1], server[1] / server[0], uploads, service.peak_mb
    )  # fmt: skip


# ---- many owners -----------------------------------------------------------------------------------------------------


@dataclass
class Owner:
    """A tenant: keys, a model on the server, queries that are ready, and what came back for each."""

    keys: cl.owner.Keys
    server: Any
    evaluation: Any
    model: Any
    images: DemoImages
    expected: np.ndarray[Any, Any]
    queries: list[EncryptedImages] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def encrypt(self, count: int) -> None:
        """Have so many queries ready."""
        while len(self.queries) < count:
            self.queries.append(self.keys.encrypt(self.images.images[:QUERIES]))

    def classify_until(self, end: float) -> None:
        """One query after the other; the last may come back after the end, and counts."""
        while time.perf_counter() < end:
            self.encrypt(1)
            start = time.perf_counter()
            try:
                self.replies.append(self.server.predict(self.model, self.queries.pop(), self.evaluation))
            except cl.errors.CipherlensError as error:
                self.errors.append(str(error))
                return
            self.latencies.append(time.perf_counter() - start)

    def mixed_up(self) -> int:
        """Replies that this owner's key does not decrypt to the labels that the clear algorithm gives."""
        wrong = 0
        for reply in self.replies:
            try:
                wrong += not np.array_equal(self.keys.decrypt(reply).numbers, self.expected)
            except cl.errors.CipherlensError:
                wrong += 1
        return wrong


def make_owner(service: service_server.Service, number: int) -> Owner:
    """Every owner has other images, and a task, keys and a model of their own."""
    training, new = demo_cats()
    order = np.random.default_rng(number).permutation(len(training.images))[:TRAINING]
    images, labels = training.images[order], [training.labels[i] for i in order]
    task = cl.plan(images, labels, features="hog", dimension=64)
    keys = cl.owner.Keys.create(task)
    numbers = np.array([task.notes.classes.index(label) for label in labels])
    twin = fit_clear(task.public.spec, task.feature_map.transform(images), numbers)
    server = cl.connect(service.url, service.token(f"owner-{number}"))
    evaluation = server.upload_keys(keys.evaluation)
    model = server.fit(keys.encrypt(images, labels), evaluation)
    expected = twin.predict(task.feature_map.transform(new.images[:QUERIES]))
    return Owner(keys, server, evaluation, model, new, expected)


def measure_load(owners: Sequence[Owner], length: float, service: service_server.Service) -> Load:
    """All these owners at once."""
    for owner in owners:
        owner.replies, owner.latencies, owner.errors = [], [], []
    service.peak_mb = 0.0
    start = time.perf_counter()
    threads = [threading.Thread(target=owner.classify_until, args=(start + length,)) for owner in owners]
    for thread in threads:
        thread.start()
    time.sleep(length / 2)
    first, service.peak_mb = service.peak_mb, 0.0
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    latencies = sorted(latency for owner in owners for latency in owner.latencies)
    if not latencies:
        raise RuntimeError(
            f"nothing was classified: {next((e for owner in owners for e in owner.errors), 'no reason')}"
        )
    return Load(
        len(owners), QUERIES, took, len(latencies), sum(len(owner.errors) for owner in owners),
        sum(owner.mixed_up() for owner in owners), len(latencies) / took, statistics.median(latencies),
        latencies[math.ceil(0.99 * len(latencies)) - 1], first, service.peak_mb,
    )  # fmt: skip


def measure_owners(command: Sequence[str], count: int, length: float, workers: int | None, base: Path) -> list[Load]:
    """One owner alone, then all of them."""
    with service_server.running(command, base / "many", workers) as service:
        with ThreadPoolExecutor(2) as pool:
            owners = list(pool.map(lambda number: make_owner(service, number), range(count)))
        trial = measure_load(owners[:1], min(5.0, length), service)
        ready = 1 + math.ceil(1.5 * trial.throughput * length)
        owners[0].encrypt(ready)
        alone = measure_load(owners[:1], length, service)
        for owner in owners:
            owner.encrypt(2 + math.ceil(1.5 * ready / count))
        together = measure_load(owners, length, service)
        for owner in owners:
            owner.server.close()
    return [alone, together]


# ---- all together ----------------------------------------------------------------------------------------------------


def main() -> None:
    """Command line. Exit status 1 when a figure misses its bound."""
    parser = argparse.ArgumentParser(description="Measures the service against files, and under load.")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part")
    parser.add_argument("--runs", type=int, default=3, help="of the first part")
    parser.add_argument("--owners", type=int, default=32, help="in the second part")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the second part")
    parser.add_argument("--kills", type=int, default=30, help="in the third part")
    parser.add_argument("--images", type=int, default=8192, help="to train on in each session of the third part")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of the kills")
    parser.add_argument("--workers", type=int, help="of the server in the second part (default: the server's)")
    parser.add_argument("--command", help="how to start cipherlens (default: the one beside this Python)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    chosen = parser.parse_args()
    beside = str(Path(sys.executable).with_name("cipherlens"))
    command, parts = shlex.split(chosen.command or beside), chosen.part or PARTS
    base = Path(tempfile.mkdtemp(prefix="cipherlens-benchmark-"))
    try:
        whole = measure_whole(command, chosen.runs, base) if "whole" in parts else None
        loads = (
            measure_owners(command, chosen.owners, chosen.seconds, chosen.workers, base) if "owners" in parts else []
        )
        kills = measure_kills(chosen.kills, chosen.images, chosen.seed, base) if "kills" in parts else None
    finally:
        shutil.rmtree(base, ignore_errors=True)
    report = Report(machine.describe(), whole, loads, kills)
    service_report.write(report, chosen.results)
    Console().print(service_report.markdown(report), markup=False, highlight=False)
    sys.exit(0 if report.good else 1)


if __name__ == "__main__":
    main()
