"""From images and labels to a task: features, bounds, learner, parameters and their cost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from cipherlens.errors import InputError
from cipherlens.features.base import BaseFeatures, Progress, choose, extract
from cipherlens.features.feature_map import FeatureMap
from cipherlens.features.images import ImageSource
from cipherlens.features.labels import label_names, number_labels, read_labels
from cipherlens.learning.bounds import RIDGE, SHRINKAGE, choose_bounds, clear_subsample
from cipherlens.learning.learners import LearnerKind, LearnerSpec
from cipherlens.learning.task import PublicTask
from cipherlens.planning.calibration import speed
from cipherlens.planning.cost import forecast
from cipherlens.planning.rings import choose_parameters
from cipherlens.planning.task import PrivateNotes, Task
from cipherlens.scheme.engine import Engine, usable_cores

STEPS = 5
"""Chebyshev steps unless asked otherwise: within half a percent of the exact solution on every task we measured."""

CLEAR_SHARE = 0.25
"""At most this share of the training images serves, in the clear and on the owner's machine, for statistics."""

MOST_CLEAR = 2000
"""More clear images cost time and gain nothing."""

DIMENSIONS = {"lite0": 128, "hog": 256, "hog2": 256, "pixels": 256}
"""Columns for each kind of features unless asked otherwise; a table takes as many as it has, and the constant."""


def default_dimension(features: str | Path | BaseFeatures, width: int | None) -> int:
    """Columns D for these features; width: of a table of numbers."""
    if width is not None:
        return max(4, 1 << width.bit_length())
    name = features if isinstance(features, str) else ""
    return DIMENSIONS.get(name.split(":")[0], 128)


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
    ring_dimension: instead of the smallest that fits. seed: of every random choice. threads: cores by default.

    Nothing leaves the machine. Raises InputError for images, labels or numbers that cannot be used, PlanError when no
    ring fits.
    """
    threads = threads or usable_cores()
    table = features == "table"
    source = np.asarray(images) if table else ImageSource.of(images)
    if table or not isinstance(source, ImageSource):
        if labels is None:
            raise InputError("a table of numbers needs labels; give one for each row")
        named = number_labels(label_names(labels))
        width: int | None = int(np.asarray(images).shape[1]) if np.asarray(images).ndim == 2 else None
        count = len(np.asarray(images))
    else:
        named = read_labels(source, labels)
        width, count = None, len(source)
    if len(named.numbers) != count:
        raise InputError(f"{count} images need {count} labels, not {len(named.numbers)}")
    most = int(CLEAR_SHARE * count)
    if clear is not None and not 4 <= clear <= most:
        raise InputError(f"statistics may use 4 to {most} of the {count} training images (a quarter), not {clear}")
    share = min(most, MOST_CLEAR if clear is None else clear) / count
    chosen = clear_subsample(named.numbers, share=share, seed=seed)
    subset = source[chosen] if isinstance(source, np.ndarray) else source.subset(chosen)
    size = dimension or default_dimension(features, width)
    base = choose(features, subset, seed, threads)
    bounds = choose_bounds(
        extract(base, subset, threads, progress), size, shrinkage=shrinkage, ridge=ridge, steps=steps,
        standardise=base.standardise, seed=seed,
    )  # fmt: skip
    spec = LearnerSpec(learner, len(named.classes), size, float(ridge), float(bounds.upper), steps)
    parameters = choose_parameters(spec, ring_dimension)
    public = PublicTask(parameters, spec, os.urandom(16).hex())
    measured = speed(Engine(parameters), threads)
    cost = forecast(public, count, count if queries is None else queries, measured, threads)
    notes = PrivateNotes(tuple(str(c) for c in named.classes), bounds.moments)
    return Task(public, FeatureMap(base, bounds.whitening), notes, cost)
