"""Whitening, bounds on the spectrum and the number of steps, from the owner's clear images alone.

A sample whitened by its own statistics has a largest eigenvalue of 1 at most; fresh images whitened by the same
statistics had 1.1 to 30 in our measurements, and an iteration planned for 1 diverges. So the bound is measured by
two-fold cross-fitting: whiten by one half of the clear images, take the largest eigenvalue of the other half. That
errs twice on the safe side: half the images make a poorer whitening than all of them, and the largest eigenvalue of a
small sample lies above that of a large one. More folds would whiten better but leave each measured sample so small
that the second error outgrows the gain. A bound that is too large by a factor of two costs little (the directions of
least variance are solved less exactly); one that is too small by a quarter spoils everything. So the splits are
repeated and the largest value counts, which catches heavy-tailed features, times a margin that shrinks with n. On 200
random splits of a heavy-tailed table (WDBC, 100 of 400 rows clear) the bound was never below 1.5 times the need.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError
from cipherlens.features.whitening import Whitening, check_features, fit_whitening
from cipherlens.learning.chebyshev import choose_steps

Floats = NDArray[np.float64]

SHRINKAGE = 1.0
"""Share of the mean eigenvalue added to all eigenvalues before whitening; smaller values only widen the spectrum."""

RIDGE = 0.2
"""Added to the spectrum of whitened features, most of which lies between 0.1 and 1."""

REPEATS = 4
"""Random splits into halves; each gives two eigenvalues."""

MARGIN = 1.2
"""Factor on the largest measured eigenvalue, besides the sampling error."""

TARGET = 0.25
"""Relative residual that the number of steps aims at; below that no accuracy was gained."""

MOST_STEPS = 6
"""The largest number of steps that is chosen unasked: what the ring of dimension 2^14 has room for."""

FEWEST_IMAGES = 4
"""Two images in each half."""

FEWEST_FOR_MOMENTS = 50
"""Below that the mean squares of the clear images say too little about others to judge them by."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Bounds:
    """What the clear images say; private, except `upper` and `steps`, which the server needs.

    whitening: fitted to all clear images. upper: bound on the largest eigenvalue of G = X^T X / n of fresh images,
    the constant column included. steps: T. moments: (D,) float64, the mean square of each column of X over the clear
    images, for `check_energy`; None with fewer than 50 of them.
    """

    whitening: Whitening
    upper: float
    steps: int
    moments: Floats | None

    def __repr__(self) -> str:
        return f"Bounds(dimension={self.whitening.dimension}, upper={self.upper:.3g}, steps={self.steps})"


def choose_bounds(
    features: NDArray[np.floating],
    dimension: int,
    *,
    shrinkage: float = SHRINKAGE,
    ridge: float = RIDGE,
    steps: int | None = None,
    standardise: bool = False,
    repeats: int = REPEATS,
    margin: float = MARGIN,
    seed: int = 0,
) -> Bounds:
    """Fit the whitening to (n, d) clear features and bound the spectrum of fresh images of the same kind.

    dimension: D, a power of two, the constant included. shrinkage, standardise: as for `fit_whitening`.
    ridge: the learner's. steps: T, or None to choose it from the condition number (at most 6).
    repeats: random splits into halves. margin: factor on the largest measured eigenvalue, at least 1.

    Raises InputError for fewer than 4 images, NaN, or features that are constant in half of the images.
    """
    table = check_features(features)
    n = len(table)
    if n < FEWEST_IMAGES:
        raise InputError(f"Measuring the bounds needs {FEWEST_IMAGES} clear images or more, not {n}; give more.")
    if not (np.isfinite(margin) and margin >= 1) or repeats < 1:
        raise InputError(f"The margin must be at least 1 and the repeats at least 1, not {margin} and {repeats}.")
    rng = np.random.default_rng(seed)
    measured = []
    for _ in range(repeats):
        order = rng.permutation(n)
        halves = table[order[: n // 2]], table[order[n // 2 :]]
        for fitted, held_out in (halves, halves[::-1]):
            whitening = fit_whitening(fitted, dimension, shrinkage, standardise=standardise)
            measured.append(largest_eigenvalue(whitening.apply(held_out)))
    # Twice the relative standard error of a variance measured on n Gaussian values.
    sampling = 1 + 2 * np.sqrt(2 / n)
    upper = float(margin * sampling * max(measured))
    whitening = fit_whitening(table, dimension, shrinkage, standardise=standardise)
    moments = np.mean(whitening.apply(table) ** 2, axis=0) if n >= FEWEST_FOR_MOMENTS else None
    if steps is None:
        steps = choose_steps(ridge, upper + ridge, TARGET, MOST_STEPS)
    return Bounds(whitening, upper, steps, moments)


def clear_subsample(labels: NDArray[np.integer], *, share: float = 0.25, seed: int = 0) -> NDArray[np.int64]:
    """Indices, ascending, of a random share of the images in which every class has its share.

    labels: (n,) class numbers. share: of n, rounded down. Never take the first images instead: in a data set sorted by
    class they are of one kind, and the bounds measured on them do not hold for the rest.
    """
    numbers = np.asarray(labels)
    if numbers.ndim != 1 or not 0 < share <= 1:
        raise InputError(f"A subsample needs a list of labels and a share above 0 and up to 1, not {share}.")
    rng = np.random.default_rng(seed)
    place = np.empty(len(numbers))
    for number in np.unique(numbers):
        members = rng.permutation(np.flatnonzero(numbers == number))
        # The i-th of m members is taken once a share of about i/m is asked for.
        place[members] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    return np.sort(np.argsort(place)[: int(share * len(numbers))]).astype(np.int64)


def largest_eigenvalue(X: Floats) -> float:
    """The largest eigenvalue of X^T X / n for X (n, D)."""
    n, dimension = X.shape
    gram = X @ X.T if n < dimension else X.T @ X
    return float(np.linalg.eigvalsh(gram)[-1] / n)
