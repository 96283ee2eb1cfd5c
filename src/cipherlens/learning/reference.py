"""scikit-learn's exact solvers on the same features: what the encrypted learner is measured against.

ridge is `Ridge` with the same targets and the same ridge (alpha = n * lambda, the constant column penalised as ours
is); fisher is `LinearDiscriminantAnalysis(solver="lsqr")` without shrinkage and with equal priors, as our midpoint
threshold has; linear_means is `NearestCentroid`. scikit-learn is optional and imported here alone.
"""

import importlib
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError
from cipherlens.learning.learners import LearnerSpec, check_labels
from cipherlens.learning.twin import Floats, decide


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """accuracy: share of right predictions, 0 to 1. seconds: median wall time of the fit. predictions: (m,) int64."""

    accuracy: float
    seconds: float
    predictions: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"Reference(accuracy={self.accuracy:.4f}, seconds={self.seconds:.3g})"


def reference_accuracy(
    spec: LearnerSpec,
    X: Floats,
    labels: NDArray[np.integer],
    X_test: Floats,
    labels_test: NDArray[np.integer],
    *,
    runs: int = 3,
) -> Reference:
    """Fit scikit-learn's exact counterpart of the learner to X (n, D) and test it on X_test (m, D).

    The last column of both is the constant. labels, labels_test: class numbers. Raises InputError without scikit-learn.
    """
    numbers = check_labels(spec, labels, len(X))
    targets = _targets(spec, numbers)
    if spec.kind != "ridge":
        # The constant and unused columns change neither classifier but make both solvers warn.
        varying = np.ptp(X, axis=0) > 0
        X, X_test = X[:, varying], X_test[:, varying]
    seconds = []
    for _ in range(max(1, runs)):
        solver = _solver(spec, len(X))
        start = time.perf_counter()
        solver.fit(X, targets)
        seconds.append(time.perf_counter() - start)
    predicted = np.asarray(solver.predict(X_test))
    predictions = decide(predicted.reshape(len(X_test), -1)) if spec.kind == "ridge" else predicted.astype(np.int64)
    return Reference(float(np.mean(predictions == labels_test)), statistics.median(seconds), predictions)


def _targets(spec: LearnerSpec, labels: NDArray[np.int64]) -> NDArray[Any]:
    if spec.kind != "ridge":
        return labels
    return 2.0 * labels - 1 if spec.classes == 2 else np.eye(spec.classes)[labels]


def _solver(spec: LearnerSpec, images: int) -> Any:
    if spec.kind == "ridge":
        return _scikit("linear_model").Ridge(alpha=spec.ridge * images, fit_intercept=False, solver="cholesky")
    if spec.kind == "fisher":
        priors = np.full(spec.classes, 1 / spec.classes)
        return _scikit("discriminant_analysis").LinearDiscriminantAnalysis(solver="lsqr", priors=priors)
    return _scikit("neighbors").NearestCentroid()


def _scikit(module: str) -> Any:
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise InputError("The reference needs scikit-learn; run `pip install scikit-learn`.") from error
