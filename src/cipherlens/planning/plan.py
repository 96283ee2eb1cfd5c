"""From images and labels to a task: features, bounds, learner, parameters and their cost."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError, PlanError
from cipherlens.features.base import BaseFeatures, Progress, choose, extract
from cipherlens.features.feature_map import FeatureMap
from cipherlens.features.images import ImageSource
from cipherlens.features.labels import Labels, label_names, number_labels, read_labels
from cipherlens.features.whitening import check_features
from cipherlens.learning.bounds import FEWEST_IMAGES, RIDGE, SHRINKAGE, choose_bounds, clear_subsample
from cipherlens.learning.circuit import Circuit
from cipherlens.learning.learners import LearnerKind, LearnerSpec
from cipherlens.learning.signal import measure_signal
from cipherlens.learning.task import PublicTask
from cipherlens.planning.calibration import speed
from cipherlens.planning.cost import forecast
from cipherlens.planning.rings import parameters_for, score_bits
from cipherlens.planning.task import PrivateNotes, Task
from cipherlens.scheme.arguments import whole_number
from cipherlens.scheme.engine import Engine, usable_cores

STEPS = 5
"""Chebyshev steps unless asked otherwise: within half a percent of the exact solution on every task we measured."""

CLEAR_SHARE = 0.25
"""At most this share of the training images serves, in the clear and on the owner's machine, for statistics."""

MOST_CLEAR = 2000
"""More clear images cost time and gain nothing."""

DIMENSIONS = {"lite0": 128, "hog": 256, "hog2": 256, "pixels": 256}
"""Columns for each kind of features unless asked otherwise; a table takes as many as it has, and the constant."""

WIDEST_TABLE = 512
"""Columns of a wide table unless asked otherwise: its principal directions."""


def default_dimension(features: str | Path | BaseFeatures, width: int | None) -> int:
    """Columns D for these features; width: of a table of numbers."""
    if width is not None:
        return min(max(4, 1 << width.bit_length()), WIDEST_TABLE)
    kind = str(features).split(":")[0] if isinstance(features, str | Path) else features.kind
    return DIMENSIONS.get(kind, 128)


def plan(
    images: Any,
    labels: Any = None,
    *,
    learner: LearnerKind = "ridge",
    features: str | Path | BaseFeatures = "lite0",
    dimension: int | None = None,
    ridge: float = RIDGE,
    steps: int = STEPS,
    shrinkage: float = SHRINKAGE,
    clear: int | None = None,
    queries: int | None = None,
    most_images: int | None = None,
    ring_dimension: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Task:
    """Plan the training of a classifier on encrypted images; print the result to see its cost.

    images: a folder, paths, PIL images, (n, h, w[, c]) uint8 arrays, NCHW tensors, or with features="table" an (n, d)
    table of numbers. labels: names or numbers (n,), or a CSV file; by default the folder's subfolders.
    learner: "ridge", "fisher" or "linear_means". features: "lite0", "hog", "hog2", "pixels" (each with options, see
    `cipherlens.features.base.choose`), "table" or an ONNX model's path. dimension: columns D, a power of two.
    ridge: lambda. steps: Chebyshev steps T. shrinkage: of the whitening. clear: how many training images serve for
    statistics, at most (and by default) a quarter of them. queries: images to forecast classifying for.
    most_images: training images that there will ever be, contributors' among them; by default as many as are given, and
    up to a million in any case.
    ring_dimension: instead of the smallest that fits. seed: of every random choice. threads: cores by default.

    Nothing leaves the machine. Raises InputError for images, labels or numbers that cannot be used, PlanError when no
    ring fits.
    """
    threads = usable_cores() if threads is None else whole_number(threads, "The number of threads", least=1)
    clear = None if clear is None else whole_number(clear, "The number of clear images")
    queries = None if queries is None else whole_number(queries, "The number of queries", least=0)
    most_images = None if most_images is None else whole_number(most_images, "The most images", least=1)
    ring_dimension = None if ring_dimension is None else whole_number(ring_dimension, "The ring dimension")
    examples = read_examples(images, labels, table=features == "table")
    count = len(examples.labels.numbers)
    most = int(CLEAR_SHARE * count)
    if clear is not None and not FEWEST_IMAGES <= clear <= most:
        raise InputError(f"statistics may use 4 to {most} of the {count} training images (a quarter), not {clear}")
    feature_map, spec, notes = fit_features(
        examples, min(most, MOST_CLEAR if clear is None else clear), learner=learner, features=features,
        dimension=dimension, ridge=ridge, steps=steps, shrinkage=shrinkage, seed=seed, threads=threads,
        progress=progress,
    )  # fmt: skip
    counts = np.bincount(examples.labels.numbers, minlength=spec.classes)
    most = max(count, most_images or 0)
    parameters = parameters_for(spec, most, ring_dimension, room=score_bits(spec, counts))
    if most > (limit := Circuit(parameters, spec).most_images):
        raise PlanError(f"one training averages up to {limit:,} images, not {most:,}; use fewer")
    public = PublicTask(parameters, spec, os.urandom(16).hex())
    measured = speed(Engine(parameters), threads)
    cost = forecast(public, count, count if queries is None else queries, measured, threads)
    return Task(public, feature_map, notes, cost)


@dataclass(frozen=True)
class Examples:
    """Training data, checked: images or a table (n, d), and one label each."""

    source: ImageSource | NDArray[Any]
    labels: Labels

    @property
    def width(self) -> int | None:
        """Columns of a table; None for images."""
        return None if isinstance(self.source, ImageSource) else int(self.source.shape[1])


def read_examples(images: Any, labels: Any, *, table: bool) -> Examples:
    """Images or a table with their labels, as for `plan`. Raises InputError when they cannot be used."""
    if not table:
        source = ImageSource.of(images)
        return Examples(source, read_labels(source, labels))
    rows = check_features(images)
    if labels is None:
        raise InputError("a table of numbers needs labels; give one for each row")
    named = number_labels(label_names(labels))
    if len(named.numbers) != len(rows):
        raise InputError(f"{len(rows)} images need {len(rows)} labels, not {len(named.numbers)}")
    return Examples(rows, named)


def fit_features(
    examples: Examples,
    clear: int,
    *,
    learner: LearnerKind,
    features: str | Path | BaseFeatures,
    dimension: int | None,
    ridge: float,
    steps: int,
    shrinkage: float,
    seed: int,
    threads: int,
    progress: Progress | None = None,
) -> tuple[FeatureMap, LearnerSpec, PrivateNotes]:
    """Everything that depends on images: the feature map, the learner with its bounds, and what decrypting needs.

    clear: how many of the training images serve for it. Other arguments and errors as for `plan`.
    """
    steps, seed = whole_number(steps, "The number of steps"), whole_number(seed, "The seed", least=0)
    dimension = None if dimension is None else whole_number(dimension, "The dimension")
    numbers = examples.labels.numbers
    # Half an image more, so that rounding cannot lose one.
    chosen = clear_subsample(numbers, share=min(1.0, (clear + 0.5) / len(numbers)), seed=seed)
    source = examples.source
    subset = source.subset(chosen) if isinstance(source, ImageSource) else source[chosen]
    padded = 1 << (len(examples.labels.classes) - 1).bit_length()  # a column of scores for each class
    size = max(default_dimension(features, examples.width), padded) if dimension is None else dimension
    base = choose(features, subset, seed, threads)
    extracted = extract(base, subset, threads, progress)
    bounds = choose_bounds(
        extracted, size, shrinkage=shrinkage, ridge=ridge, steps=steps, standardise=base.standardise, seed=seed
    )
    classes = examples.labels.classes
    spec = LearnerSpec(learner, len(classes), size, float(ridge), float(bounds.upper), steps)
    signal = measure_signal(spec, bounds.whitening.apply(extracted), numbers[chosen], seed=seed)
    notes = PrivateNotes(tuple(str(c) for c in classes), bounds.moments, signal)
    return FeatureMap(base, bounds.whitening), spec, notes
