"""The demonstration's images: 500 cats and 500 others of CIFAR-10, 32 x 32 RGB. See LICENSE-DATA.txt beside it."""

import json
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DemoImages:
    """One split of the demonstration's images, in official order.

    images: (n, 32, 32, 3) uint8. labels: n of "cat" and "other". originals: the CIFAR-10 class of each.
    indices: (n,) int64, each image's place in CIFAR-10's official training or test set.
    """

    images: NDArray[np.uint8]
    labels: tuple[str, ...]
    originals: tuple[str, ...]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def write(self, folder: Path) -> None:
        """Write the images as PNG files into one folder a class, `cat` and `other`; OSError if that fails."""
        for image, label, index in zip(self.images, self.labels, self.indices, strict=True):
            file = folder / label / f"{index:05d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)


def demo_cats() -> tuple[DemoImages, DemoImages]:
    """800 training and 200 test images, half of each cats."""
    with Image.open(BytesIO((files(__name__) / "demo_cats.png").read_bytes())) as mosaic:
        record = json.loads(str(mosaic.info["labels"]))
        pixels = np.asarray(mosaic)
    side, columns = record["side"], record["columns"]
    tiles = pixels.reshape(-1, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    splits, start = [], 0
    for name in ("train", "test"):
        index, label = record["splits"][name]["index"], record["splits"][name]["label"]
        splits.append(
            DemoImages(
                tiles[start : start + len(index)],
                tuple("cat" if number == record["cat"] else "other" for number in label),
                tuple(record["classes"][number] for number in label),
                np.array(index, dtype=np.int64),
            )
        )
        start += len(index)
    return splits[0], splits[1]
