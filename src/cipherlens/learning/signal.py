"""What the clear images say about class means, by which the owner judges those of a decrypted model.

Linear means solve nothing, so they leave no residual, and images that are scaled down or of another kind give a model
that looks like any other. But its right-hand side is made of class means alone, and so is that of the clear images: the
share of one in the other is 1 where both are of a kind, and s where the images were scaled by s.

Squares of noisy means are too large by the noise. Products of means from two halves of the clear images are not, which
gives the size of the signal, and how far they scatter says what it is worth. Measured on 20 splits each of seven tables
(WDBC, digits, wine and normal clouds, 50 to 100 clear images): shares of 0.90 to 1.43, the largest with the fewest
images; of images scaled by 0.5 at most 0.62, by 2 at least 1.80.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cipherlens.learning.learners import LearnerSpec
from cipherlens.learning.twin import fit_clear

Floats = NDArray[np.float64]

HALVINGS = 8
FEWEST_IMAGES = 50
"""Of all classes together; fewer say too little about others."""

FEWEST_OF_A_CLASS = 4
"""Two in each half."""

MOST_VALUES = 1 << 15
"""Of `means`: beyond that (512 columns of 64 classes) they would make the owner's files large, and are left out."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Signal:
    """The class means of the clear images.

    Attributes:
        means: float64 (D - 1, columns), the right-hand side of linear means as `centred` gives it.
        size: their squared length without the noise of a finite sample. spread: standard deviation of `size`.
        images: how many clear images there were.
    """

    means: Floats
    size: float
    spread: float
    images: int


def centred(spec: LearnerSpec, right_hand_side: Floats) -> Floats:
    """(D - 1, columns): without the constant row, and with more than two classes without what they have in common."""
    table = right_hand_side[:-1]
    return table if spec.columns == 1 else np.asarray(table - table.mean(axis=1, keepdims=True))


def measure_signal(spec: LearnerSpec, X: Floats, labels: NDArray[np.int64], *, seed: int = 0) -> Signal | None:
    """From the clear images: X (n, D), whitened, labels (n,). None where they are too few, or the table too large.

    The learner of `spec` does not matter: other learners' tasks may be trained with linear means too.
    """
    counts = np.bincount(labels, minlength=spec.classes)
    if len(X) < FEWEST_IMAGES or counts.min() < FEWEST_OF_A_CLASS or spec.dimension * spec.columns > MOST_VALUES:
        return None
    plain = replace(spec, kind="linear_means")

    def means(chosen: NDArray[np.bool_]) -> Floats:
        return centred(plain, fit_clear(plain, X[chosen], labels[chosen]).right_hand_side)

    rng = np.random.default_rng(seed)
    products = []
    for _ in range(HALVINGS):
        half = np.zeros(len(X), np.bool_)
        for number in range(spec.classes):
            members = rng.permutation(np.flatnonzero(labels == number))
            half[members[: len(members) // 2]] = True
        products.append(float(np.sum(means(half) * means(~half))))
    whole = means(np.ones(len(X), np.bool_))
    return Signal(whole, float(np.mean(products)), float(np.std(products)), len(X))


def signal_share(spec: LearnerSpec, right_hand_side: Floats, images: int, signal: Signal) -> float:
    """How much of the clear images' signal a model's right-hand side (D, columns), of so many images, holds.

    The clear images are usually among the training images, so both have a part of their noise in common, which is taken
    off.
    """
    shared = float(np.sum(signal.means**2) - signal.size) * min(signal.images / images, 1.0)
    return (float(np.sum(signal.means * centred(spec, right_hand_side))) - shared) / signal.size
