"""Measures training and classifying on encrypted images: `make bench-learning`, `python benchmarks/learning.py`.

Each task runs as its users run it: owner and server are separate processes that exchange files, the server's are the
commands `cipherlens train` and `cipherlens classify`, in a folder without the secret key, timed from process start to
exit. MNIST is not part of the repository:

    python benchmarks/learning.py --mnist ../shared/data/mnist.npz

Writes into benchmarks/results/: learning.json (one record a task), learning_beside.json (what stands beside each of
them), learning.md, learning.png and learning.svg; and ml_confidential.json, the two learners of *ML Confidential* on
WDBC. `python benchmarks/page.py` puts them into the documentation.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import learning_report
import machine
from learning_data import CONFIDENTIAL, LEARNING, TASKS
from rich.console import Console

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
MNIST_VARIABLE = "CIPHERLENS_MNIST"
RUNS = 3
"""Runs of a server's command that takes less than LONG_SECONDS; the median counts."""
LONG_SECONDS = 60


class MeasurementError(Exception):
    """A process of a task failed; the message is its last line."""


@dataclass(frozen=True)
class Record:
    """One task. Seconds of features, keys and encryption are the owner's; upload_bytes is data without keys, training
    images and queries together; clear_seconds is scikit-learn's exact solver on the same features."""

    task: str
    learner: str
    images: int
    clear_subsample: int
    features: str
    ring_dimension: int
    levels: int
    key_switches: int
    threads: int
    accuracy_encrypted: float
    accuracy_clear: float
    accuracy_reference: float
    agreement: float
    max_weight_error: float
    feature_seconds: float
    keygen_seconds: float
    encrypt_seconds: float
    train_seconds: float
    classify_seconds: float
    clear_seconds: float
    slowdown: float
    forecast_seconds: float
    peak_memory_mb: float
    upload_bytes: int
    evaluation_key_bytes: int


@dataclass(frozen=True)
class Beside:
    """What stands beside a record, measured in the same run on the same features.

    Attributes:
        accuracy_linear_means: linear means in the clear, which solve nothing: what training adds stands above it.
        accuracy_exact_ridge: scikit-learn's exact ridge.
        classify_forecast_seconds: what the plan said of classify_seconds.
    """

    task: str
    accuracy_linear_means: float
    accuracy_exact_ridge: float
    classify_forecast_seconds: float


@dataclass(frozen=True)
class Setting:
    """How to run: the command `cipherlens`, threads, and where MNIST is."""

    command: tuple[str, ...]
    threads: int
    mnist: Path | None


@dataclass(frozen=True)
class Finished:
    """A process that ended well: the object that it printed, and its wall time."""

    answer: dict[str, Any]
    seconds: float


def run(command: Sequence[str], folder: Path) -> Finished:
    """Run a process that prints one JSON object to its end. Raises MeasurementError when it fails."""
    start = time.perf_counter()
    done = subprocess.run(list(command), cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise MeasurementError(lines[-1] if lines else f"exit status {done.returncode}")
    return Finished(json.loads(done.stdout), seconds)


def measure_split(name: str, split: int, folder: Path, setting: Setting) -> dict[str, Any]:
    """One run of a task through all roles."""

    def owner(step: str) -> dict[str, Any]:
        mnist = ["--mnist", str(setting.mnist)] if setting.mnist else []
        script = [sys.executable, str(HERE / "learning_owner.py"), step, str(folder), name, str(split)]
        return run([*script, "--threads", str(setting.threads), *mnist], folder).answer

    def command(arguments: Sequence[str], where: Path) -> Finished:
        return run([*setting.command, *arguments, "--threads", str(setting.threads), "--json"], where)

    server = folder / "server"
    server.mkdir()

    def serve(arguments: Sequence[str]) -> tuple[float, float]:
        """Seconds, and the largest resident memory that the process itself reports (VmHWM), in MB."""
        runs = [command([*arguments, "--evaluation-keys", "evaluation.cl"], server)]
        while TASKS[name].splits == 1 and len(runs) < RUNS and runs[0].seconds < LONG_SECONDS:
            runs.append(command([*arguments, "--evaluation-keys", "evaluation.cl"], server))
        peak = max(r.answer["peak_memory_bytes"] for r in runs)
        return statistics.median(r.seconds for r in runs), peak / 1e6

    facts = owner("plan")
    made = command(["keys", "create", "--task", "task.cl", "--no-passphrase", "--out", "keys"], folder)
    facts |= owner("encrypt")
    for file in ("keys/evaluation.cl", "data.cl", "query.cl"):
        shutil.move(folder / file, server / Path(file).name)
    train, train_memory = serve(["train", "--data", "data.cl", "--out", "model.cl"])
    classify, classify_memory = serve(["classify", "--model", "model.cl", "--data", "query.cl", "--out", "reply.cl"])
    shutil.move(server / "evaluation.cl", folder / "keys" / "evaluation.cl")
    for file in ("model.cl", "reply.cl"):
        shutil.move(server / file, folder / file)
    measured = {
        "keygen_seconds": made.seconds, "evaluation_key_bytes": made.answer["bytes"]["evaluation.cl"],
        "train_seconds": train, "classify_seconds": classify, "peak_memory_mb": max(train_memory, classify_memory),
    }  # fmt: skip
    return facts | owner("judge") | measured


def measure(name: str, setting: Setting) -> tuple[Record, Beside]:
    """One task, over all its splits: means of accuracies, medians of seconds.

    Raises MeasurementError.
    """
    task, splits = TASKS[name], []
    for split in range(task.splits):
        with tempfile.TemporaryDirectory(prefix="cipherlens-benchmark-") as folder:
            splits.append(measure_split(name, split, Path(folder), setting))

    def mean(key: str) -> float:
        return statistics.fmean(facts[key] for facts in splits)

    def median(key: str) -> float:
        return statistics.median(facts[key] for facts in splits)

    first = splits[0]
    train, clear = median("train_seconds"), median("clear_seconds")
    record = Record(
        task=name, learner=task.learner, images=first["images"], clear_subsample=first["clear_subsample"],
        features=f"{task.features}, D = {first['dimension']}", ring_dimension=first["cost"]["ring_dimension"],
        levels=first["cost"]["levels"], key_switches=first["cost"]["key_switches"], threads=setting.threads,
        accuracy_encrypted=mean("accuracy_encrypted"), accuracy_clear=mean("accuracy_clear"),
        accuracy_reference=mean("accuracy_reference"), agreement=mean("agreement"),
        max_weight_error=max(facts["max_weight_error"] for facts in splits),
        feature_seconds=median("feature_seconds"), keygen_seconds=median("keygen_seconds"),
        encrypt_seconds=median("encrypt_seconds"), train_seconds=train, classify_seconds=median("classify_seconds"),
        clear_seconds=clear, slowdown=train / clear,
        forecast_seconds=statistics.median(facts["cost"]["train_seconds"] for facts in splits),
        peak_memory_mb=max(facts["peak_memory_mb"] for facts in splits),
        upload_bytes=first["upload_bytes"], evaluation_key_bytes=first["evaluation_key_bytes"],
    )  # fmt: skip
    beside = Beside(
        name, mean("accuracy_linear_means"), mean("accuracy_exact_ridge"),
        statistics.median(facts["cost"]["classify_seconds"] for facts in splits),
    )  # fmt: skip
    return record, beside


def setting_from(chosen: argparse.Namespace) -> Setting:
    """How to run, from the command line and the environment."""
    command = shlex.split(chosen.command) if chosen.command else [str(Path(sys.executable).with_name("cipherlens"))]
    mnist = chosen.mnist or os.environ.get(MNIST_VARIABLE)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Setting(tuple(command), chosen.threads or cores, Path(mnist).resolve() if mnist else None)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measures training and classifying on encrypted images.")
    names = tuple(dict.fromkeys((*LEARNING, *CONFIDENTIAL)))
    parser.add_argument("--task", action="append", choices=names, help="only this task, may be repeated")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    parser.add_argument("--remark", default="", help="words added to the line that names machine and day")
    parser.add_argument("--threads", type=int, help="threads of every process (default: the cores)")
    parser.add_argument("--command", help="how to start cipherlens (default: the one beside this Python)")
    parser.add_argument("--mnist", type=Path, help=f"MNIST as an npz file (default: ${MNIST_VARIABLE})")
    chosen = parser.parse_args()
    setting, console = setting_from(chosen), Console()
    measured: dict[str, tuple[Record, Beside]] = {}
    remarks: list[str] = []
    for name in chosen.task or names:
        console.print(f"{name}: {TASKS[name].title}, {TASKS[name].learner}", markup=False, highlight=False)
        try:
            measured[name] = measure(name, setting)
        except MeasurementError as failure:
            remarks.append(f"{name}: not measured: {failure}")
    where = "; ".join(part for part in (machine.describe(), chosen.remark) if part)
    groups = {
        group: [measured[name] for name in tasks if name in measured]
        for group, tasks in (("learning", LEARNING), ("ml_confidential", CONFIDENTIAL))
    }
    for group, found in groups.items():
        rows, beside = [asdict(record) for record, _ in found], {b.task: asdict(b) for _, b in found}
        if not rows:
            console.print(f"Nothing was measured for {group}.json, which is left as it was.", markup=False)
            continue
        told = [*remarks, *learning_report.wrong_forecasts(rows, beside)]
        for path in learning_report.write(group, rows, beside, told, where, chosen.results):
            console.print(f"wrote {path}", markup=False, highlight=False)
        learning_report.show(rows, beside, told, where, console)
    if not measured:
        sys.exit(1)


if __name__ == "__main__":
    main()
