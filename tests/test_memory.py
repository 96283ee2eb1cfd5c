"""Memory of encrypting into a file, training and classifying, which must not depend on the number of images."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cipherlens as cl

FEW, MANY = 1_280, 12_800
"""10 and 100 ciphertexts of 128 rows."""

QUERIES = 64_000
"""500 ciphertexts, whose scores take 44 MB."""

MOST_GROWTH = 16e6
"""Bytes. The 90 ciphertexts more take 18 MB in the file and 70 MB expanded; labels and names take 6, and
glibc may open one more arena for a thread (4 MB were seen on a busy machine)."""


def peak(folder: Path, *arguments: str) -> int:
    """Largest resident memory of one command in a process of its own, in bytes."""
    command = [sys.executable, "-m", "cipherlens.cli.main", *arguments, "--threads", "2", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: int = json.loads(done.stdout)["peak_memory_bytes"]
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its largest resident memory")
def test_memory_does_not_depend_on_the_number_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(MANY, 3)), np.arange(MANY) % 2
    rows[:, 0] += labels
    task = cl.plan(rows[:FEW], labels[:FEW], features="table", dimension=64, steps=1, ring_dimension=1 << 13)
    task.save(tmp_path / "task.cl")
    cl.owner.Keys.create(task).save(tmp_path / "KEYS", None)
    encrypting, training = [], []
    for n in (FEW, MANY):
        np.save(tmp_path / "rows.npy", rows[:n])
        with (tmp_path / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("file", "label"), *enumerate(labels[:n].tolist())])
        what = ("--images", "rows.npy", "--labels", "labels.csv", "--out", f"{n}.cl")
        encrypting.append(peak(tmp_path, "encrypt", "--task", "task.cl", "--keys", "KEYS", *what))
        keys = ("--evaluation-keys", "KEYS/evaluation.cl", "--out", "model.cl")
        training.append(peak(tmp_path, "train", "--data", f"{n}.cl", *keys))
    assert (tmp_path / f"{MANY}.cl").stat().st_size > 8 * (tmp_path / f"{FEW}.cl").stat().st_size > 1e6
    assert encrypting[1] - encrypting[0] < MOST_GROWTH
    assert training[1] - training[0] < MOST_GROWTH
    classifying = []
    for n in (FEW, QUERIES):
        np.save(tmp_path / "rows.npy", np.resize(rows, (n, 3)))
        peak(tmp_path, "encrypt", "--task", "task.cl", "--keys", "KEYS", "--images", "rows.npy", "--out", "query.cl")
        files = ("--model", "model.cl", "--data", "query.cl", "--evaluation-keys", "KEYS/evaluation.cl")
        classifying.append(peak(tmp_path, "classify", *files, "--out", f"{n}-reply.cl"))
    assert (tmp_path / f"{QUERIES}-reply.cl").stat().st_size > 2 * MOST_GROWTH
    assert classifying[1] - classifying[0] < MOST_GROWTH
