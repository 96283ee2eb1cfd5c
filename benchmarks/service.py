"""Measures the service: `make bench-service`, `python benchmarks/service.py`.

1. The demonstration's task, from planning to decrypted answers, by files and through HTTP on loopback. Every run has
   fresh keys and ciphertexts, so that nothing is found on the server from the run before.
2. Owners, each a tenant with keys of their own, who classify without a pause for a minute; against one owner alone.
   Queries are encrypted before and replies decrypted after that minute: both are counted with the right labels.

Writes into benchmarks/results/: service.json and service.md.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import service_server
from learning import RESULTS, run
from learning_report import machine, markdown_table, seconds
from rich.console import Console

import cipherlens as cl
from cipherlens.data import DemoImages, demo_cats
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.results import Reply
from cipherlens.learning.twin import fit_clear

CATS = ("--features", "lite0", "--learner", "ridge")
MOST_RATIO = 1.15
LEAST_THROUGHPUT = 0.9
TRAINING, QUERIES = 160, 16
"""Images of each owner in the second part: few, so that what is measured is the service."""


@dataclass(frozen=True)
class Whole:
    """The first part. Seconds are medians; *whole* is from planning to decrypted answers, *server* the two commands
    `train` and `classify`, which with the service upload, wait and download."""

    runs: int
    files_whole_seconds: float
    service_whole_seconds: float
    whole_ratio: float
    files_server_seconds: float
    service_server_seconds: float
    server_ratio: float
    uploaded_bytes: int
    service_memory_mb: float


@dataclass(frozen=True)
class Load:
    """The second part, for a number of owners. A reply under another key, or with another label than the same algorithm
    gives in the clear, is mixed up."""

    owners: int
    seconds: float
    classifications: int
    errors: int
    mixed_up: int
    throughput: float
    median_seconds: float
    p99_seconds: float
    service_memory_mb: float


# ---- the demonstration's task ----------------------------------------------------------------------------------------


def whole_workflow(command: Sequence[str], folder: Path, remote: Sequence[str]) -> tuple[float, float]:
    """All commands once, in a new folder: seconds in all, and of training and classifying."""

    def step(*arguments: str) -> float:
        return run([*command, *arguments], folder).seconds

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
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    latencies = sorted(latency for owner in owners for latency in owner.latencies)
    if not latencies:
        raise RuntimeError(
            f"nothing was classified: {next((e for owner in owners for e in owner.errors), 'no reason')}"
        )
    return Load(
        len(owners), took, len(latencies), sum(len(owner.errors) for owner in owners),
        sum(owner.mixed_up() for owner in owners), len(latencies) / took, statistics.median(latencies),
        latencies[math.ceil(0.99 * len(latencies)) - 1], service.peak_mb,
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


# ---- report ----------------------------------------------------------------------------------------------------------


def markdown(whole: Whole | None, loads: Sequence[Load], where: str) -> str:
    """Both parts as tables."""
    parts = [f"Measured by `make bench-service`: {where}.\n"]
    if whole is not None:
        columns = ("cats, 800 training and 200 test images", "files", "service", "ratio")
        rows = [
            ["from planning to answers", seconds(whole.files_whole_seconds), seconds(whole.service_whole_seconds),
             f"{whole.whole_ratio:.2f} (at most {MOST_RATIO})"],
            ["train and classify alone", seconds(whole.files_server_seconds), seconds(whole.service_server_seconds),
             f"{whole.server_ratio:.2f}"],
        ]  # fmt: skip
        parts.append(markdown_table(columns, rows))
        parts.append(
            f"Medians of {whole.runs} runs, each with fresh keys; {whole.uploaded_bytes / 1e6:.0f} MB are uploaded. "
            f"The server's processes took {whole.service_memory_mb:,.0f} MB together at most.\n"
        )
    if loads:
        columns = ("owners", "replies", "a second", "median", "p99", "errors", "mixed up", "server's memory")
        rows = [
            [str(load.owners), f"{load.classifications:,}", f"{load.throughput:.2f}", seconds(load.median_seconds),
             seconds(load.p99_seconds), str(load.errors), str(load.mixed_up), f"{load.service_memory_mb:,.0f} MB"]
            for load in loads
        ]  # fmt: skip
        parts.append(markdown_table(columns, rows))
        share = loads[-1].throughput / loads[0].throughput
        parts.append(
            f"Each owner classifies {QUERIES} images at a time, without a pause, for {loads[-1].seconds:.0f} s; together "
            f"they get {share:.0%} of one owner's throughput (at least {LEAST_THROUGHPUT:.0%}).\n"
        )
    return "\n".join(parts)


def main() -> None:
    """Command line. Exit status 1 when a figure misses its bound."""
    parser = argparse.ArgumentParser(description="Measures the service against files, and under load.")
    parser.add_argument("--part", choices=("whole", "owners"), action="append", help="only this part")
    parser.add_argument("--runs", type=int, default=3, help="of the first part")
    parser.add_argument("--owners", type=int, default=32, help="in the second part")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the second part")
    parser.add_argument("--workers", type=int, help="of the server in the second part (default: the server's)")
    parser.add_argument("--command", help="how to start cipherlens (default: the one beside this Python)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    chosen = parser.parse_args()
    beside = str(Path(sys.executable).with_name("cipherlens"))
    command, parts = shlex.split(chosen.command or beside), chosen.part or ["whole", "owners"]
    base = Path(tempfile.mkdtemp(prefix="cipherlens-benchmark-"))
    try:
        whole = measure_whole(command, chosen.runs, base) if "whole" in parts else None
        loads = (
            measure_owners(command, chosen.owners, chosen.seconds, chosen.workers, base) if "owners" in parts else []
        )
    finally:
        shutil.rmtree(base, ignore_errors=True)
    where = machine()
    chosen.results.mkdir(parents=True, exist_ok=True)
    record = {
        "where": where,
        "whole": None if whole is None else asdict(whole),
        "loads": [asdict(load) for load in loads],
    }
    (chosen.results / "service.json").write_text(json.dumps(record, indent=1) + "\n")
    text = markdown(whole, loads, where)
    (chosen.results / "service.md").write_text(text)
    Console().print(text, markup=False, highlight=False)
    good = whole is None or whole.whole_ratio <= MOST_RATIO
    for load in loads:
        good &= load.errors == 0 and load.mixed_up == 0
    if loads:
        good &= loads[-1].throughput >= LEAST_THROUGHPUT * loads[0].throughput
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
