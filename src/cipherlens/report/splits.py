"""The demonstration's question asked ten times: random divisions of all its images, in the clear.

200 test images tell learners apart by chance as much as by merit. Here the twin, linear means and exact ridge see ten
random divisions, whitening and bounds fitted anew each time from a quarter of the training images, as a plan does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cipherlens.learning.bounds import choose_bounds, clear_subsample
from cipherlens.learning.learners import LearnerSpec
from cipherlens.learning.reference import reference_accuracy
from cipherlens.learning.twin import fit_clear

SPLITS: Final = 10


@dataclass(frozen=True)
class Splits:
    """Mean accuracies over the divisions, 0 to 1.

    Attributes:
        clear, linear_means, reference: of the twin, of linear means and of scikit-learn's exact solver.
        gain: mean of (twin - linear means). error: its standard error over the divisions.
    """

    clear: float
    linear_means: float
    reference: float
    gain: float
    error: float


def random_splits(features: NDArray[np.float64], labels: NDArray[np.int64], spec: LearnerSpec, training: int) -> Splits:
    """features: (n, d), before whitening. labels: (n,). spec: the task's. training: images to train on each time."""
    found = []
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(len(labels))
        first, rest = order[:training], order[training:]
        clear = first[clear_subsample(labels[first], seed=seed)]
        bounds = choose_bounds(features[clear], spec.dimension, ridge=spec.ridge, steps=spec.steps, seed=seed)
        X, X_test = (bounds.whitening.apply(features[part]) for part in (first, rest))
        y, y_test = labels[first], labels[rest]
        fitted = replace(spec, upper=bounds.upper)
        accuracies = [
            float(np.mean(fit_clear(each, X, y).predict(X_test) == y_test))
            for each in (fitted, replace(fitted, kind="linear_means"))
        ]
        found.append([*accuracies, reference_accuracy(fitted, X, y, X_test, y_test, runs=1).accuracy])
    table = np.array(found)
    gains = table[:, 0] - table[:, 1]
    clear_mean, means, exact = table.mean(axis=0).tolist()
    return Splits(clear_mean, means, exact, float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(SPLITS)))
