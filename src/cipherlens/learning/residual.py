"""What the owner checks after decrypting a model, and what no check can see.

A reply carries the weights W, the right-hand side R and the residual R - A W; R is at hand as a ciphertext, so
sending it costs nothing. Chebyshev's theory says |R - A W| <= |R| / tau_T, column by column, whenever the spectrum of
A lies within the planned bounds. Above the upper bound the residual grows by cosh(T arccosh(.)): images of another
kind, pixels scaled up or bounds that were wrong show as a residual of many times |R|. The converse matters as much: a
small residual proves that W solves the equations of the encrypted images to that accuracy, whatever their spectrum.

Images scaled *down* shrink the spectrum, and nothing diverges: W is then the honest answer for those images with a
relatively larger ridge, useless only for queries of another scale. The residual cannot tell. The energy can: from
A W = R - residual follows W^T G W = W^T (R - residual) - ridge |W|^2, the mean square of the training scores,
which the owner compares with what the clear images predict for the same W.

Linear means have neither; their right-hand side is compared with the class means of the clear images: see `signal`.
"""

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError, RangeError
from cipherlens.learning.learners import LearnerSpec
from cipherlens.learning.signal import Signal, signal_share
from cipherlens.learning.twin import ClearModel

Floats = NDArray[np.float64]

SLACK = 1.25
"""A column may leave this many times the residual that theory allows: an eigenvalue a few percent above the bound does
no harm, and honest tasks stay below the bound itself."""

LEAST_ENERGY, MOST_ENERGY = 0.3, 6.0
"""Training scores whose mean square is outside these multiples of what the clear images predict are not of their kind.
With 50 clear images or more honest tasks gave 0.7 to 2.7; images scaled by 0.3 give a tenth of that, scaled by 3 ten
times as much."""

LEAST_SIGNAL, MOST_SIGNAL = 0.7, 1.6
"""Class means outside these shares of what the clear images have are not of their kind, three standard deviations of the
clear images' own share beyond that."""

VAGUEST_SIGNAL = 0.2
"""Standard deviation of that share above which the classes of the clear images are too much alike to judge others by."""

MOST_OF_RANGE = 0.8
"""Share of the range of scores that the mean of a class may take; the rest is for images farther out than the mean."""

CAUSES = (
    "the bounds do not fit these images: they are of another kind than the clear images of the plan, or their pixels "
    "are scaled; compare the contributors' images and plan again with clear images like theirs"
)


def check_model(
    model: ClearModel,
    counts: NDArray[np.integer],
    moments: Floats | None = None,
    signal: Signal | None = None,
    *,
    noise: float = 0.0,
) -> None:
    """All checks of a decrypted model; RangeError if one fails.

    counts: (k,), images a class. moments: (D,), `Bounds.moments`, or None to leave the energy unchecked. signal: of the
    clear images, or None to leave the size of linear means unchecked.
    noise: standard deviation of the error of one decrypted value.
    """
    check_means(model.spec, model.right_hand_side, counts, noise=noise)
    check_residual(model.spec, model.right_hand_side, model.residual, noise=noise)
    if moments is not None:
        check_energy(model, counts, moments, noise=noise)
    if signal is not None:
        check_signal(model.spec, model.right_hand_side, counts, signal)


def check_signal(spec: LearnerSpec, right_hand_side: Floats, counts: NDArray[np.integer], signal: Signal) -> float:
    """The share of the clear images' class means in those of a model by linear means; RangeError far from 1.

    right_hand_side: (D, columns), decrypted; its noise is far below that of the means. counts: (k,), images a class.
    Other learners, and classes too much alike, are not judged and give 1.
    """
    spread = signal.spread / signal.size if signal.size > 0 else np.inf
    if spec.solves or spread > VAGUEST_SIGNAL:
        return 1.0
    _tables(spec, right_hand_side)
    if signal.means.shape != (spec.dimension - 1, spec.columns):
        raise InputError(f"The signal must be ({spec.dimension - 1}, {spec.columns}), not {signal.means.shape}.")
    share = signal_share(spec, right_hand_side, int(np.sum(counts)), signal)
    if not LEAST_SIGNAL - 3 * spread <= share <= MOST_SIGNAL + 3 * spread:
        raise RangeError(
            f"The classes lie {max(share, 0.0):.2g} times as far apart as in the clear images of the plan "
            f"({LEAST_SIGNAL} to {MOST_SIGNAL} is usual), because {CAUSES}."
        )
    return share


def check_residual(spec: LearnerSpec, right_hand_side: Floats, residual: Floats, *, noise: float = 0.0) -> float:
    """The largest |residual| as a share of what is allowed, at most 1. Raises RangeError if the solve failed.

    right_hand_side, residual: (D, columns), decrypted. noise: standard deviation of the error of one decrypted
    residual value, which is allowed on top of the theory.
    """
    R, remains = _tables(spec, right_hand_side, residual)
    if not spec.solves:
        return 0.0
    # The length of D errors concentrates at noise * sqrt(D); three times that is never reached by chance.
    allowed = SLACK * spec.schedule.residual_bound * _norms(R) + 3 * noise * np.sqrt(spec.dimension)
    left = _norms(remains)
    worst = float(np.divide(left, allowed, out=np.where(left > 0, np.inf, 0.0), where=allowed > 0).max())
    if worst > 1:
        raise RangeError(
            f"The solve did not converge: it leaves {worst:.2g} times the residual that is allowed, because {CAUSES}."
        )
    return worst


def check_energy(model: ClearModel, counts: NDArray[np.integer], moments: Floats, *, noise: float = 0.0) -> float:
    """Mean square of the training scores over what the clear images predict; RangeError outside 0.3 to 6.

    counts: (k,), images a class. moments: (D,), `Bounds.moments`. noise: as for `check_residual`; a task whose scores
    drown in noise is not judged and gives 1, as does linear_means, which knows nothing of G. The constant feature is
    left out of both sides.
    """
    spec, W = model.spec, model.weights
    if moments.shape != (spec.dimension,):
        raise InputError(f"The moments must have the shape ({spec.dimension},), not {moments.shape}.")
    if not spec.solves:
        return 1.0
    _tables(spec, W, model.right_hand_side, model.residual)
    products = W * (model.right_hand_side - model.residual - spec.ridge * W)  # summed over f: the diagonal of W^T G W
    features = W[:-1]
    seen = float(products.sum() - np.sum(W[-1] ** 2))
    expected = float(moments[:-1] @ np.sum(features**2, axis=1))
    uncertainty = 3 * noise * float(np.sqrt(W.size) * np.linalg.norm(W))
    if expected <= uncertainty:
        return 1.0
    share, tolerance = seen / expected, uncertainty / expected
    if not LEAST_ENERGY - tolerance <= share <= MOST_ENERGY + tolerance:
        raise RangeError(
            f"The training scores vary {max(share, 0.0):.2g} times as much as the clear images of the plan predict "
            f"({LEAST_ENERGY} to {MOST_ENERGY:g} is usual), because {CAUSES}."
        )
    return share


def check_scores(
    spec: LearnerSpec, weights: Floats, right_hand_side: Floats, half_means: Floats | None, largest: float
) -> float:
    """How much of the range of encrypted scores a batch of images of one class takes, at most 0.8. RangeError above.

    Scores that leave the range come back as others, and nothing about them tells. A coefficient of a ciphertext of
    scores is a mean over its slots, so it is largest when all images are of one class. Ridge has targets of 1 and
    stays far below; for the others a class with few images lies far out.

    weights, right_hand_side, half_means: (D, columns), decrypted, as for `finish`; None has nothing to check.
    largest: what a coefficient may reach, `Circuit.largest_score`.
    """
    if half_means is None:
        return 0.0
    # With two classes half the sum of their means, and R is their difference.
    apart = np.array([[-0.5, 0.5]])
    means = half_means + right_hand_side * apart if spec.classes == 2 else 2 * half_means
    raw = np.abs(means.T @ weights)  # (k, columns): scores of each class's mean
    padded = 1 << (spec.columns - 1).bit_length()
    reached = raw.sum(axis=1) / padded
    worst = int(reached.argmax())
    if reached[worst] > MOST_OF_RANGE * largest:
        raise RangeError(
            f"Scores of class {worst} reach {reached[worst] / largest / MOST_OF_RANGE:.2g} times what decrypts safely, "
            "mostly because it has few training images; plan with that share of images, or with the learner ridge."
        )
    return float(reached[worst] / largest)


def check_means(
    spec: LearnerSpec, right_hand_side: Floats, counts: NDArray[np.integer], *, noise: float = 0.0
) -> float:
    """Check what R, decrypted, says about the images: its constant row and its size. All that linear_means offers.

    right_hand_side: (D, columns). counts: (k,), images a class. Returns the largest eigenvalue of the part of G that
    the class means account for, as a share of the planned bound: it never exceeds the largest of G itself (by
    Cauchy-Schwarz with two classes), so images within the bounds stay below 1.
    Raises RangeError above 1 or if the constant feature is not 1.
    """
    (R,) = _tables(spec, right_hand_side)
    shares = _shares(spec, counts)
    if spec.kind == "ridge":
        constant = shares[1:] - shares[:1] if spec.classes == 2 else shares
        # R = means * shares; two classes: |X^T y / n|^2 <= |G| because y is +1 or -1.
        weighted = R if spec.classes == 2 else R / np.sqrt(shares)
    else:
        constant = np.zeros(1) if spec.classes == 2 else np.ones(spec.classes)
        # Two classes: the scatter between them is p_0 p_1 times the square of their difference.
        weighted = R * (np.sqrt(shares.prod()) if spec.classes == 2 else np.sqrt(shares))
    off = float(np.abs(R[-1] - constant).max())
    if off > 1e-2 + 6 * noise:
        raise RangeError(
            f"The constant feature of the training images is off by {off:.2g}, because some were encrypted with "
            "another layout or scale; encrypt every contributor's images with this task's feature map."
        )
    size = float(np.linalg.norm(weighted, 2) ** 2) / spec.upper
    if size > 1 + 6 * noise:
        raise RangeError(f"The class means alone are {size:.2g} times as large as planned for, because {CAUSES}.")
    return size


def _shares(spec: LearnerSpec, counts: NDArray[np.integer]) -> Floats:
    numbers = np.asarray(counts)
    if numbers.shape != (spec.classes,) or numbers.min() < 1:
        raise InputError(
            f"Counts must be {spec.classes} numbers of images, at least 1 a class, not {numbers.tolist()}."
        )
    return np.asarray(numbers / numbers.sum(), dtype=np.float64)


def _tables(spec: LearnerSpec, *tables: Floats) -> tuple[Floats, ...]:
    for table in tables:
        if table.shape != (spec.dimension, spec.columns):
            raise InputError(f"Tables of this model are ({spec.dimension}, {spec.columns}), not {table.shape}.")
        if not np.isfinite(table).all():
            raise RangeError(f"The decrypted model holds NaN or infinite values, because {CAUSES}.")
    return tables


def _norms(table: Floats) -> Floats:
    return np.asarray(np.linalg.norm(table, axis=0))
