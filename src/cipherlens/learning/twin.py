"""The clear twin: every learner's training in float64, in the order of operations of the encrypted run.

Scatter matrix, class sums, Chebyshev solve, residual. `fit_clear` is exact; `fit_simulated` adds to each
operation's result Gaussian noise of a given size, so that a plan can be tried before it is paid for.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError
from cipherlens.learning.chebyshev import chebyshev
from cipherlens.learning.learners import LearnerSpec, check_labels

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """Standard deviations of the absolute error that encryption adds to each value, at the scale of the values.

    fresh: each whitened feature of an encrypted image. scatter: each entry of G and of the class means,
    after relinearising, folding and masking. product: each entry after a step of the solve, of the residual and bias.
    """

    fresh: float = 0.0
    scatter: float = 0.0
    product: float = 0.0

    def __post_init__(self) -> None:
        if not all(np.isfinite(s) and s >= 0 for s in (self.fresh, self.scatter, self.product)):
            raise InputError("Noise must be given as standard deviations of at least 0.")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ClearModel:
    """A trained classifier in the clear, or one that was decrypted.

    weights, right_hand_side, residual: (D, columns) float64, W, R and R - A W (zero where the learner solves nothing).
    bias: (columns,) float64. mixing: (columns, columns) float64, applied to the raw scores X W before the bias.
    """

    spec: LearnerSpec
    weights: Floats
    bias: Floats
    right_hand_side: Floats
    residual: Floats
    mixing: Floats

    def __post_init__(self) -> None:
        shape = (self.spec.dimension, self.spec.columns)
        tables = (self.weights, self.right_hand_side, self.residual)
        if any(table.shape != shape for table in tables) or self.bias.shape != (self.spec.columns,):
            raise InputError(f"A model of this task has tables of the shape {shape} and {shape[1]} biases.")

    def __repr__(self) -> str:
        return f"ClearModel({self.spec.kind}, {self.spec.classes} classes, {self.spec.dimension} columns)"

    def scores(self, X: Floats) -> Floats:
        """(n, D) whitened features, the last column 1 -> (n, columns) scores X W mixing + bias."""
        return self.finish_scores(_check_table(self.spec, X) @ self.weights)

    def finish_scores(self, raw: Floats) -> Floats:
        """(n, columns) raw scores X W, as the server computes them -> scores."""
        return np.asarray(raw @ self.mixing + self.bias)

    def predict(self, X: Floats) -> NDArray[np.int64]:
        """(n, D) whitened features -> (n,) class numbers."""
        return decide(self.scores(X))


def decide(scores: Floats) -> NDArray[np.int64]:
    """(n, columns) scores -> (n,) class numbers: the sign of a single column, else the largest."""
    if scores.shape[1] == 1:
        return np.asarray(scores[:, 0] > 0, dtype=np.int64)
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def fit_clear(spec: LearnerSpec, X: Floats, labels: NDArray[np.integer]) -> ClearModel:
    """Train on X (n, D), whitened features whose last column is 1, and labels (n,), class numbers 0 to k-1.

    Raises InputError for tables that do not fit the task.
    """
    return fit_simulated(spec, X, labels, NoiseModel(), np.random.default_rng(0))


def fit_simulated(
    spec: LearnerSpec, X: Floats, labels: NDArray[np.integer], noise: NoiseModel, rng: np.random.Generator
) -> ClearModel:
    """As `fit_clear`, with modelled noise drawn from `rng`. The noise is statistical, not cryptographic."""
    table = _check_table(spec, X)
    numbers = check_labels(spec, labels, len(table))

    def disturbed(size: float) -> Callable[[Floats], Floats]:
        return lambda values: values + rng.normal(scale=size, size=values.shape) if size else values

    table = disturbed(noise.fresh)(table)
    counts = np.bincount(numbers, minlength=spec.classes)
    means = disturbed(noise.scatter)(class_means(table, numbers, counts))
    right_hand_side = _right_hand_side(spec, means, counts)
    if not spec.solves:
        weights, residual = right_hand_side, np.zeros_like(right_hand_side)
    else:
        G = table.T @ table / len(table)
        if noise.scatter:
            # The diagonals m and -m of G are one ciphertext, so its errors are symmetric too.
            errors = np.triu(rng.normal(scale=noise.scatter, size=G.shape))
            G = G + errors + np.triu(errors, 1).T
        step = disturbed(noise.product)
        weights = chebyshev(spec.schedule, lambda u: G @ u, right_hand_side, step)
        residual = step(right_hand_side - spec.ridge * weights - G @ weights)
    return finish(spec, counts, weights, right_hand_side, residual, centres(spec, means))


def class_means(X: Floats, labels: NDArray[np.int64], counts: NDArray[np.int64]) -> Floats:
    """(D, k): the mean of each class's images."""
    one_hot = np.eye(len(counts))[labels]
    return np.asarray(X.T @ one_hot / counts)


def _right_hand_side(spec: LearnerSpec, means: Floats, counts: NDArray[np.int64]) -> Floats:
    """(D, columns): X^T Y / n for ridge, class means or their difference for the others."""
    shares = counts / counts.sum()
    if spec.kind == "ridge":
        sums = means * shares
        return np.asarray(sums[:, 1:] - sums[:, :1]) if spec.classes == 2 else sums
    return np.asarray(means[:, 1:] - means[:, :1]) if spec.classes == 2 else means


def centres(spec: LearnerSpec, means: Floats) -> Floats | None:
    """(D, columns): what `finish` needs of the class means: halves of them, with two classes of their sum."""
    if spec.kind == "ridge":
        return None
    return np.asarray(0.5 * (means.sum(axis=1, keepdims=True) if spec.classes == 2 else means))


def finish(
    spec: LearnerSpec,
    counts: NDArray[np.int64],
    weights: Floats,
    right_hand_side: Floats,
    residual: Floats,
    half_means: Floats | None,
) -> ClearModel:
    """From the solve's tables to a model: what the owner computes in the clear after decrypting, k numbers or k x k.

    The threshold goes midway between the class means (ridge has its constant column instead). For Fisher's
    discriminant with more than two classes the solve was with the total scatter A = S_w + M P M^T + ridge I (M the
    class means, P their shares), and by Woodbury's identity (S_w + ridge I)^-1 M = (A^-1 M) (I - P M^T A^-1 M)^-1;
    see `_within`. With two classes the total scatter gives the direction itself (Sherman-Morrison), only its length
    differs.
    """
    if half_means is None:
        return ClearModel(spec, weights, np.zeros(spec.columns), right_hand_side, residual, np.eye(spec.columns))
    mixing = np.eye(spec.columns)
    if spec.kind == "fisher" and spec.classes > 2:
        mixing = _within(spec, counts, 2 * half_means.T @ weights)
    bias = -np.sum((weights @ mixing) * half_means, axis=0)
    return ClearModel(spec, weights, bias, right_hand_side, residual, mixing)


def _within(spec: LearnerSpec, counts: NDArray[np.int64], products: Floats) -> Floats:
    """(I - P K)^-1 for K = M^T A^-1 M (k, k), as the solve found it.

    The eigenvalues of sqrt(P) K sqrt(P) are at most upper/(upper + ridge), since M P M^T is a part of G. An iteration
    that ends early overshoots: its solution is A^-1 times values of up to 1 + 1/tau_T, and an eigenvalue near or above 1
    lets a direction drown all others or turns the classifier upside down. Dividing by that bound rules it out, and
    changes nothing in the limit of many steps. Ten classes of digits, six steps: 93 % of predictions are right with it,
    0.4 % without.
    """
    root = np.sqrt(counts / counts.sum())
    symmetric = root[:, None] * (products + products.T) / 2 * root
    eigenvalues, vectors = np.linalg.eigh(symmetric)
    bounded = np.clip(eigenvalues / (1 + spec.schedule.residual_bound), 0.0, spec.upper / (spec.upper + spec.ridge))
    return np.asarray((root[:, None] * vectors) @ np.diag(1 / (1 - bounded)) @ (vectors.T / root))


def _check_table(spec: LearnerSpec, X: Floats) -> Floats:
    table = np.asarray(X, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != spec.dimension:
        raise InputError(f"The whitened features must have the shape (images, {spec.dimension}), not {table.shape}.")
    if not np.isfinite(table).all():
        raise InputError("Whitened features must be finite; remove images with NaN or infinite features.")
    return table
