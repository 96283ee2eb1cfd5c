"""The owner's side of the learning benchmark, each step a process of its own that prints one JSON object.

    python benchmarks/learning_owner.py plan|encrypt|judge FOLDER TASK SPLIT [--mnist FILE] [--threads N]

plan makes the task, encrypt the server's input, judge decrypts its reply and compares it with the twin, with linear
means and with scikit-learn. Making keys and the server's own steps are commands of `cipherlens`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from learning_data import TASKS, BenchmarkTask, Split

import cipherlens as cl
from cipherlens.learning.reference import reference_accuracy
from cipherlens.learning.results import Reply, TrainedModel
from cipherlens.learning.twin import fit_clear
from cipherlens.owner.encryption import SecretEncryptor
from cipherlens.planning.plan import CLEAR_SHARE, MOST_CLEAR, STEPS
from cipherlens.planning.task import Task
from cipherlens.report.stopwatch import time_encryption


def plan(folder: Path, task: BenchmarkTask, data: Split, threads: int) -> dict[str, Any]:
    """task.cl, and what training is forecast to cost."""
    planned = cl.plan(
        data.images, data.labels, learner=task.learner, features=task.features, dimension=task.dimension,
        steps=task.steps or STEPS, queries=len(data.test_images), threads=threads,
    )  # fmt: skip
    planned.save(folder / "task.cl")
    n = len(data.images)
    return {
        "cost": asdict(planned.cost), "dimension": planned.public.spec.dimension, "images": n,
        "clear_subsample": min(int(CLEAR_SHARE * n), MOST_CLEAR),
    }  # fmt: skip


def encrypt(folder: Path, data: Split, threads: int) -> dict[str, Any]:
    """data.cl and query.cl."""
    task = Task.load(folder / "task.cl")
    keys = cl.owner.Keys.load(task, folder / "keys")
    encryptor = SecretEncryptor(keys.secrets.secret)
    portions = [(folder / "data.cl", data.images, data.labels), (folder / "query.cl", data.test_images, None)]
    timed = time_encryption(task, encryptor, keys.public.sealing_key, portions, threads=threads)
    return {
        "feature_seconds": timed.feature_seconds,
        "encrypt_seconds": timed.encrypt_seconds,
        "upload_bytes": sum(path.stat().st_size for path, _, _ in portions),
    }


def judge(folder: Path, data: Split, threads: int) -> dict[str, Any]:
    """Accuracy of the reply, of the twin, of linear means, of the exact solver and of exact ridge; how far reply and
    twin are apart."""
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
    means = fit_clear(replace(spec, kind="linear_means"), columns, labels)
    ridge = reference_accuracy(replace(spec, kind="ridge"), columns, labels, queries, tests, runs=1)
    return {
        "accuracy_encrypted": float(np.mean(answers.numbers == tests)),
        "accuracy_clear": float(np.mean(predicted == tests)),
        "accuracy_reference": exact.accuracy,
        "accuracy_linear_means": float(np.mean(means.predict(queries) == tests)),
        "accuracy_exact_ridge": ridge.accuracy,
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
