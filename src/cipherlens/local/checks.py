"""What the estimator accepts as rows and labels, in the words that scikit-learn's own checks look for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError
from cipherlens.features.labels import require_labels
from cipherlens.features.whitening import check_features


def check_rows(X: Any, name: str, width: int | None) -> NDArray[np.float64]:
    """X as float64 (n, d). name: of the estimator. width: d of the training data, or None while fitting.

    Raises InputError for anything but a finite table of numbers with that many columns.
    """
    if not hasattr(X, "__array__") and hasattr(X, "toarray"):
        raise InputError(f"{name} takes dense tables, not sparse ones; convert X with X.toarray()")
    rows = np.asarray(X)
    if rows.dtype.kind == "c":
        raise InputError("Complex data not supported; give real numbers")
    if rows.ndim != 2:
        raise InputError(f"Expected 2D array (n, d), got {rows.ndim}D array instead. Reshape your data")
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        short = "sample" if rows.shape[0] == 0 else "feature"
        raise InputError(f"Found array with 0 {short}(s) (shape={rows.shape}) while a minimum of 1 is required.")
    if width is not None and rows.shape[1] != width:
        raise InputError(f"X has {rows.shape[1]} features, but {name} is expecting {width} features as input")
    return check_features(rows)


def check_targets(y: Any, images: int) -> NDArray[Any]:
    """y as (n,) labels. Raises InputError unless there is one class name or number an image."""
    if y is None:
        raise InputError("ImageClassifier requires y to be passed, but the target y is None")
    labels = np.asarray(y)
    if labels.ndim != 1 or len(labels) != images:
        raise InputError(f"{images} images need {images} labels (n,), not an array {labels.shape}")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise InputError("Input y contains NaN or infinity; give a class to every image")
        if (labels != np.rint(labels)).any():
            raise InputError("Unknown label type: continuous. A classifier needs classes; give names or whole numbers")
    elif labels.dtype.kind not in "iubUSO":
        raise InputError(f"Unknown label type: {labels.dtype}. Give class names or whole numbers")
    require_labels(labels)
    return labels
