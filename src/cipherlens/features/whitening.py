"""Projection on principal directions, whitening with shrinkage, clipping.

A sample whitened by its own statistics has a covariance of exactly the identity; fresh images whitened by those
statistics do not, and where the sample says little (near-constant features, more features than images) they are
off by orders of magnitude. Hence: near-constant features are dropped, `shrinkage` times the mean eigenvalue is
added to every eigenvalue, and whitened values are clipped. Bounds on the spectrum of fresh images have to be
measured on images held out of the fit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError

Floats = NDArray[np.float64]

CLIP = 8.0
"""Whitened features lie in [-CLIP, CLIP]."""

NEAR_CONSTANT = 1e-2
"""A feature whose standard deviation is below this share of the root mean square of all of them is dropped."""

ROUNDING = 1e-5
"""Nor does one vary whose standard deviation is below this share of the root mean square of the features themselves:
float32 rounds by 2^-24 = 6e-8, and a network's long sums of terms that cancel may multiply that by a hundred."""

NEAR_CONSTANT_TABLE = 1e-6
"""With features in unlike units: below this share of the feature's own largest magnitude."""

LARGEST = 1e100
"""No feature is larger, so that nothing overflows: sums of squares over all rows and columns stay below 1e220; a standard
deviation is at least 1e-162 (the root of the smallest float64), so what is divided by it stays below 1e270."""

RANK_TOLERANCE = 1e-10
"""Directions whose eigenvalue is below this share of the largest carry only rounding errors."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Whitening:
    """An affine map x -> clip((x - mean) @ matrix, ±8), followed by the constant 1.

    mean: (d,) float64. matrix: (d, D-1) float64; rows of dropped features and unused columns are zero.
    """

    mean: Floats
    matrix: Floats

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.matrix.ndim != 2 or self.matrix.shape[0] != self.mean.shape[0]:
            raise InputError(
                f"A whitening needs a (d,) mean and a (d, D-1) matrix, not {self.mean.shape} and {self.matrix.shape}."
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.matrix).all()):
            raise InputError("A whitening must be finite; fit it again from images without NaN or infinite features.")
        _check_dimension(self.dimension)

    def __repr__(self) -> str:
        return f"Whitening({self.features} features -> {self.dimension} columns)"  # statistics are private: never shown

    @property
    def features(self) -> int:
        """d, the number of features it takes."""
        return int(self.mean.shape[0])

    @property
    def dimension(self) -> int:
        """D, the number of columns it gives, the constant included."""
        return int(self.matrix.shape[1]) + 1

    def apply(self, features: NDArray[np.floating]) -> Floats:
        """(n, d) features -> (n, D) float64 within [-8, 8]; column D-1 is 1, unused columns are 0.

        Raises InputError for another width, and for features that `check_features` refuses.
        """
        table = check_features(features)
        if table.shape[1] != self.features:
            raise InputError(
                f"The features have {table.shape[1]} columns but the task was planned with {self.features}; "
                "use the features that the task was planned with."
            )
        whitened = np.empty((table.shape[0], self.dimension))
        np.matmul(table - self.mean, self.matrix, out=whitened[:, :-1])
        np.clip(whitened[:, :-1], -CLIP, CLIP, out=whitened[:, :-1])
        whitened[:, -1] = 1.0
        return whitened


def fit_whitening(
    features: NDArray[np.floating], dimension: int, shrinkage: float, *, standardise: bool = False
) -> Whitening:
    """Fit a projection and whitening to (n, d) clear features.

    dimension: D, a power of two, the constant column included; up to D-1 principal directions are used. With
    d <= D-1 all d directions are kept, also those in which this sample does not vary but fresh images may.
    shrinkage: s >= 0; s times the mean eigenvalue of the directions in use is added to every eigenvalue.
    standardise: divide every feature by its standard deviation first, for tables in unlike units.

    Raises InputError for fewer than two rows, for features that `check_features` refuses or that are all constant.
    """
    table = check_features(features)
    _check_dimension(dimension)
    if not (np.isfinite(shrinkage) and shrinkage >= 0):
        raise InputError(f"The shrinkage must be a number of at least 0, not {shrinkage}.")
    n, d = table.shape
    if n < 2:
        raise InputError(f"Whitening needs at least 2 clear images and got {n}; give more images in the clear.")

    mean = table.mean(axis=0)
    deviation = table.std(axis=0)
    threshold = max(NEAR_CONSTANT * _root_mean_square(deviation), ROUNDING * _root_mean_square(table))
    if standardise:
        threshold = NEAR_CONSTANT_TABLE * np.abs(table).max(axis=0)
    kept = np.flatnonzero(deviation > threshold)
    if kept.size == 0:
        raise InputError(f"All {d} features are the same in all {n} clear images; give images that differ.")

    scale = deviation[kept] if standardise else np.ones(kept.size)
    centred = (table[:, kept] - mean[kept]) / scale
    # Without shrinkage a direction in which the sample does not vary cannot be whitened.
    eigenvalues, directions = _principal_directions(centred, dimension - 1, keep_absent=shrinkage > 0)
    matrix = np.zeros((d, dimension - 1))
    spread = np.sqrt(eigenvalues + shrinkage * eigenvalues.mean())
    matrix[kept, : eigenvalues.size] = directions / scale[:, None] / spread
    return Whitening(mean, matrix)


def check_features(features: NDArray[np.floating]) -> Floats:
    """(n, d) numbers as float64; InputError, naming the first row and column, if any is NaN, infinite or beyond LARGEST."""
    try:
        with np.errstate(over="ignore"):  # wider floats become infinite, which is refused below
            table = np.asarray(features, dtype=np.float64)
    except OverflowError as error:
        raise InputError(f"Some features lie beyond ±{LARGEST:g}; rescale their columns.") from error
    except (TypeError, ValueError) as error:
        raise InputError(
            "The features must be a table of numbers, but some entries are not; encode or drop them."
        ) from error
    if table.ndim != 2 or table.shape[1] == 0:
        raise InputError(f"The features must be a table (n, d) of numbers, not an array of shape {table.shape}.")
    finite = np.isfinite(table)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InputError(
            f"{np.count_nonzero(~finite)} features are NaN or infinite, the first in row {row}, column {column}; "
            "remove or fill them before encrypting."
        )
    beyond = np.abs(table) > LARGEST
    if beyond.any():
        row, column = np.argwhere(beyond)[0]
        raise InputError(
            f"{np.count_nonzero(beyond)} of the features lie beyond ±{LARGEST:g}, the first in row {row}, column {column}; "
            "rescale the column."
        )
    return table


def _root_mean_square(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _check_dimension(dimension: int) -> None:
    if dimension < 2 or dimension & (dimension - 1):
        raise InputError(f"The dimension must be a power of two of at least 2, not {dimension}.")


def _principal_directions(centred: Floats, limit: int, keep_absent: bool) -> tuple[Floats, Floats]:
    """Eigenvalues (r,) of the covariance, largest first, and eigenvectors (d, r).

    r = d if d <= limit and keep_absent; otherwise directions without variance are left out, and r <= limit.
    """
    n, d = centred.shape
    if d <= max(n, limit):
        eigenvalues, directions = np.linalg.eigh(centred.T @ centred / n)
    else:
        # With fewer images than features the (n, n) Gram matrix has the same non-zero eigenvalues.
        eigenvalues, combinations = np.linalg.eigh(centred @ centred.T / n)
        present = eigenvalues > RANK_TOLERANCE * eigenvalues[-1]
        eigenvalues = eigenvalues[present]
        directions = centred.T @ (combinations[:, present] / np.sqrt(n * eigenvalues))
    order = slice(None, -limit - 1, -1)
    eigenvalues, directions = np.maximum(eigenvalues[order], 0.0), directions[:, order]
    if d > limit or not keep_absent:
        present = eigenvalues > RANK_TOLERANCE * eigenvalues[0]
        eigenvalues, directions = eigenvalues[present], directions[:, present]
    # An eigenvector's sign is arbitrary: fix it, so that the same images give the same map.
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(directions.shape[1])])
    return eigenvalues, directions * signs
