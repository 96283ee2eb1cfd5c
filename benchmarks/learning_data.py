"""The tasks of the learning benchmark and where their data come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cipherlens.data import DemoImages

SPLITS = 10
"""Random splits of WDBC, whose single accuracies vary by percents."""

WDBC_TRAINING = 400


class DataError(Exception):
    """A data set that is not where it was said to be."""


@dataclass(frozen=True)
class Split:
    """Training and test data: images (n, h, w[, c]) uint8 or rows (n, d), and one label each."""

    images: NDArray[Any]
    labels: list[str]
    test_images: NDArray[Any]
    test_labels: list[str]


@dataclass(frozen=True)
class BenchmarkTask:
    """One line of the benchmark.

    Attributes:
        title: for people. learner, features, dimension, steps: as for `cipherlens.plan`; None for its own choice.
        splits: how many times it runs, on data drawn anew.
        load: (split number, file of MNIST) to data.
    """

    title: str
    learner: str
    features: str
    load: Callable[[int, Path | None], Split]
    dimension: int | None = None
    steps: int | None = None
    splits: int = 1


def _wdbc(seed: int, _: Path | None) -> Split:
    return _wdbc_rows(seed, WDBC_TRAINING, 30)


def _wdbc_small(seed: int, _: Path | None) -> Split:
    """The first ten features are the means of the ten measurements; the others their deviations and extremes."""
    return _wdbc_rows(seed, 100, 10)


def _wdbc_rows(seed: int, training: int, features: int) -> Split:
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    labels = [str(table.target_names[number]) for number in table.target]
    order = np.random.default_rng(seed).permutation(len(labels))
    first, rest = order[:training], order[training:]
    rows = table.data[:, :features]
    return Split(rows[first], [labels[i] for i in first], rows[rest], [labels[i] for i in rest])


def _read_mnist(file: Path | None) -> dict[str, NDArray[Any]]:
    if file is None:
        raise DataError("MNIST is not part of this repository; give its file with --mnist or CIPHERLENS_MNIST")
    try:
        with np.load(file) as arrays:
            return {name: arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{file} is no npz file with x_train, y_train, x_test and y_test ({error})") from error


def _mnist_1000(_: int, file: Path | None) -> Split:
    a = _read_mnist(file)
    labels, tests = a["y_train"][:1000], a["y_test"]
    return Split(a["x_train"][:1000], [str(v) for v in labels], a["x_test"], [str(v) for v in tests])


def _mnist_60000(_: int, file: Path | None) -> Split:
    a = _read_mnist(file)
    return Split(a["x_train"], [str(v) for v in a["y_train"]], a["x_test"], [str(v) for v in a["y_test"]])


def _mnist_3v8(_: int, file: Path | None) -> Split:
    a = _read_mnist(file)
    train, test = (np.isin(a[name], (3, 8)) for name in ("y_train", "y_test"))
    return Split(
        a["x_train"][train], [str(v) for v in a["y_train"][train]],
        a["x_test"][test], [str(v) for v in a["y_test"][test]],
    )  # fmt: skip


def _cats(_: int, __: Path | None) -> Split:
    """In the order in which the demonstration's folders list them: it decides which images serve for statistics."""
    from cipherlens.data import demo_cats

    def listed(part: DemoImages) -> tuple[NDArray[Any], list[str]]:
        order = sorted(range(len(part)), key=lambda i: (part.labels[i], part.indices[i]))
        return part.images[order], [part.labels[i] for i in order]

    train, test = demo_cats()
    return Split(*listed(train), *listed(test))


TASKS = {
    "wdbc": BenchmarkTask("WDBC, 400 rows", "fisher", "table", _wdbc, splits=SPLITS),
    "wdbc_linear_means": BenchmarkTask("WDBC, 400 rows", "linear_means", "table", _wdbc, splits=SPLITS),
    "wdbc_small": BenchmarkTask("WDBC, 100 rows, 10 features", "fisher", "table", _wdbc_small, splits=SPLITS),
    "wdbc_small_linear_means": BenchmarkTask(
        "WDBC, 100 rows, 10 features", "linear_means", "table", _wdbc_small, splits=SPLITS
    ),
    "mnist_1000": BenchmarkTask("MNIST, the first 1,000 images", "ridge", "hog2", _mnist_1000, dimension=256),
    "mnist_3v8": BenchmarkTask("MNIST, 3 versus 8, 14x14 pixels", "ridge", "pixels:14x14", _mnist_3v8, dimension=256),
    "cats": BenchmarkTask("CIFAR-10, cats and others", "ridge", "lite0", _cats),
    "mnist_60000": BenchmarkTask("MNIST, all 60,000 images", "ridge", "hog2", _mnist_60000, dimension=512),
}

LEARNING = ("wdbc", "mnist_1000", "mnist_3v8", "cats", "mnist_60000")
"""The tasks of learning.json."""

CONFIDENTIAL = ("wdbc_linear_means", "wdbc", "wdbc_small_linear_means", "wdbc_small")
"""The tasks of ml_confidential.json, the experiment of docs/ml-confidential.md."""
