"""A small task on synthetic images, run by the real commands, that the tests of the command line share."""

from __future__ import annotations

import csv
import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("northern-goldfinch", "upland-sandpiper")
"""Long enough that neither occurs by chance in megabytes of ciphertext."""

SIDE = 12

EVALUATION = "KEYS/evaluation.cl"


def environment(cache: Path) -> dict[str, str]:
    """What a command needs, with the installed commands first on the path and a cache of its own."""
    return {
        **{name: os.environ[name] for name in ("HOME", "LANG", "PYTHONPATH", "TMPDIR") if name in os.environ},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(cache),
        "COLUMNS": "120",
        "PYTHONWARNINGS": "error",
    }


def draw_images(folder: Path, count: int, seed: int, classes: tuple[str, ...] = CLASSES) -> None:
    """`count` images a class, one folder a class: waves that run in a direction of their own, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        angle = np.pi * number / len(classes)
        for i in range(count):
            wave = np.sin(6 * (np.cos(angle) * x + np.sin(angle) * y) + rng.uniform(-0.5, 0.5))
            pixels = 128 + 70 * wave + rng.normal(scale=25, size=wave.shape)
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(folder / name / f"holiday-snapshot-{number}{i:04d}.png")


def flatten(folder: Path, flat: Path, labels: Path) -> None:
    """The same images in one folder, with their labels in a CSV file."""
    flat.mkdir()
    rows = []
    for file in sorted(folder.rglob("*.png")):
        (flat / file.name).write_bytes(file.read_bytes())
        rows.append((file.name, file.parent.name))
    with labels.open("w", newline="") as out:
        csv.writer(out).writerows([("file", "label"), *rows])


@dataclass(frozen=True)
class Workflow:
    """A folder in which every command has run once.

    Attributes:
        root: holds train/, test/, task.cl, KEYS/, data.cl, model.cl, query.cl, reply.cl, OTHER/ (a second key pair of
            the same task, without a passphrase, as KEYS) and other.cl (a second task on the same images).
    """

    root: Path

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    def run(self, *arguments: str | Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """The real command in a process of its own, in this folder."""
        done = subprocess.run(
            ["cipherlens", *map(str, arguments)],
            cwd=self.root,
            env=environment(self.root / "cache"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if ok:
            assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done


@functools.cache
def workflow(base: Path) -> Workflow:
    """Made once for all tests of a run."""
    root = base / "workflow"
    draw_images(root / "train", 120, seed=1)
    draw_images(root / "test", 8, seed=2)
    w = Workflow(root)
    plan = ("plan", "--images", "train", "--features", "pixels:8x8", "--dimension", "64", "--json", "--out")
    w.run(*plan, "task.cl")
    w.run(*plan, "other.cl", "--learner", "linear_means")
    for folder in ("KEYS", "OTHER"):
        w.run("keys", "create", "--task", "task.cl", "--no-passphrase", "--out", folder)
    w.run("encrypt", "--task", "task.cl", "--keys", "KEYS", "--images", "train", "--out", "data.cl")
    w.run("train", "--data", "data.cl", "--evaluation-keys", "KEYS/evaluation.cl", "--out", "model.cl")
    w.run("encrypt", "--task", "task.cl", "--keys", "KEYS", "--images", "test", "--no-labels", "--out", "query.cl")
    w.run(
        "classify", "--model", "model.cl", "--data", "query.cl", "--evaluation-keys", "KEYS/evaluation.cl",
        "--out", "reply.cl",
    )  # fmt: skip
    return w


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file under a folder with its size and time of change."""
    files = (path for path in folder.rglob("*") if path.is_file() and "cache" not in path.parts)
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def one_sentence(stderr: str) -> str:
    """Check the form of a refusal: one line, no traceback, no defect."""
    assert stderr.startswith("cipherlens: ") and stderr.count("\n") == 1, stderr
    assert "Traceback" not in stderr and "defect" not in stderr, stderr
    return stderr
