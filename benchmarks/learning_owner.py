"""The owner's side of the learning benchmark, each step a process of its own that prints one JSON object.

    python benchmarks/learning_owner.py plan|encrypt|judge FOLDER TASK SPLIT [--mnist FILE] [--threads N]

plan makes the task and the keys, encrypt the server's input, judge decrypts its reply and compares it with the twin
and with scikit-learn. The server's own steps are the commands `cipherlens train` and `cipherlens classify`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from learning_data import TASKS, BenchmarkTask, Split

import cipherlens as cl
from cipherlens.features.feature_map import FeatureMap
from cipherlens.learning.reference import reference_accuracy
from cipherlens.learning.results import Reply, TrainedModel
from cipherlens.learning.twin import fit_clear
from cipherlens.owner.encryption import SecretEncryptor, encrypt_images, prepare
from cipherlens.planning.plan import CLEAR_SHARE, MOST_CLEAR, STEPS
from cipherlens.planning.task import Task


@dataclass
class Stopwatch:
    """Seconds spent in the features of a task, apart from their encryption."""

    seconds: float = field(default=0.0)

    def watch(self, task: Task) -> Task:
        """The same task, whose features are timed."""
        stopwatch = self

        class Timed(FeatureMap):
            def batches(self, *arguments: Any, **named: Any) -> Iterator[Any]:
                batches = super().batches(*arguments, **named)
                while True:
                    start = time.perf_counter()
                    batch = next(batches, None)
                    stopwatch.seconds += time.perf_counter() - start
                    if batch is None:
                        return
                    yield batch

        return replace(task, feature_map=Timed(task.feature_map.base, task.feature_map.whitening))


def plan(folder: Path, task: BenchmarkTask, data: Split, threads: int) -> dict[str, Any]:
    """task.cl and keys/; what they cost and what training is forecast to cost."""
    planned = cl.plan(
        data.images, data.labels, learner=task.learner, features=task.features, dimension=task.dimension,
        steps=task.steps or STEPS, queries=len(data.test_images), threads=threads,
    )  # fmt: skip
    start = time.perf_counter()
    keys = cl.owner.Keys.create(planned, threads=threads)
    seconds = time.perf_counter() - start
    planned.save(folder / "task.cl")
    keys.save(folder / "keys", None)
    n = len(data.images)
    return {
        "cost": asdict(planned.cost), "keygen_seconds": seconds, "dimension": planned.public.spec.dimension,
        "clear_subsample": min(int(CLEAR_SHARE * n), MOST_CLEAR), "images": n,
        "evaluation_key_bytes": (folder / "keys" / "evaluation.cl").stat().st_size,
    }  # fmt: skip


def encrypt(folder: Path, data: Split, threads: int) -> dict[str, Any]:
    """data.cl and query.cl."""
    task = Task.load(folder / "task.cl")
    keys = cl.owner.Keys.load(task, folder / "keys")
    encryptor, stopwatch = SecretEncryptor(keys.secrets.secret), Stopwatch()
    timed = stopwatch.watch(task)
    start = time.perf_counter()
    for name, images, labels in (("data.cl", data.images, data.labels), ("query.cl", data.test_images, None)):
        prepared = prepare(task, images, labels, labels is not None)
        encrypt_images(timed, encryptor, keys.public.sealing_key, prepared, path=folder / name, threads=threads)
    seconds = time.perf_counter() - start
    return {
        "feature_seconds": stopwatch.seconds,
        "encrypt_seconds": seconds - stopwatch.seconds,
        "upload_bytes": sum((folder / name).stat().st_size for name in ("data.cl", "query.cl")),
    }


def judge(folder: Path, data: Split, threads: int) -> dict[str, Any]:
    """Accuracy of the reply, of the twin and of the exact solver, and how far reply and twin are apart."""
    task = Task.load(folder / "task.cl")
    keys = cl.owner.Keys.load(task, folder / "keys")
    answers = keys.decrypt(Reply.load(folder / "reply.cl"))
    opened = keys.secrets.open(TrainedModel.load(folder / "model.cl"))
    spec, classes = task.public.spec, task.notes.classes
    labels, tests = (np.array([classes.index(name) for name in names]) for names in (data.labels, data.test_labels))
    columns = task.feature_map.transform(data.images, threads=threads)
    queries = task.feature_map.transform(data.test_images, threads=threads)
    twin = fit_clear(spec, columns, labels)
    predicted = twin.predict(queries)
    exact = reference_accuracy(spec, columns, labels, queries, tests, runs=9)
    return {
        "accuracy_encrypted": float(np.mean(answers.numbers == tests)),
        "accuracy_clear": float(np.mean(predicted == tests)),
        "accuracy_reference": exact.accuracy,
        "agreement": float(np.mean(answers.numbers == predicted)),
        "max_weight_error": float(np.abs(opened.weights - twin.weights).max()),
        "clear_seconds": exact.seconds,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="One step of the owner's side; see the module's text.")
    parser.add_argument("step", choices=("plan", "encrypt", "judge"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("task", choices=tuple(TASKS))
    parser.add_argument("split", type=int)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    chosen = parser.parse_args()
    task = TASKS[chosen.task]
    data = task.load(chosen.split, chosen.mnist)
    if chosen.step == "plan":
        result = plan(chosen.folder, task, data, chosen.threads)
    else:
        result = {"encrypt": encrypt, "judge": judge}[chosen.step](chosen.folder, data, chosen.threads)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
