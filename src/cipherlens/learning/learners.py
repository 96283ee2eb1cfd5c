"""What a task says about its learner: the public half, all of it readable by the server.

Three learners, each for two or more classes:

    ridge         least squares with targets +1/-1 (two classes) or one-hot (more), G + ridge I as the matrix
    linear_means  the class means themselves (Graepel, Lauter & Naehrig, "ML Confidential", 2012); no solve
    fisher        Fisher's discriminant: the class means, or their difference, solved with the scatter matrix

Two classes have one column, whose score is positive for class 1; more have one column a class and the largest wins.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError, PlanError
from cipherlens.learning.chebyshev import MAX_STEPS, ChebyshevSchedule

LearnerKind = Literal["ridge", "linear_means", "fisher"]

MAX_DIMENSION = 1 << 15
"""As many features as the largest ring has complex slots."""


@dataclass(frozen=True, slots=True)
class LearnerSpec:
    """One learner, its sizes and the public numbers of its solve. Raises PlanError for numbers that cannot work.

    kind: "ridge", "linear_means" or "fisher". classes: k >= 2. dimension: D, a power of two, the constant column
    included. ridge: lambda > 0, added to the diagonal of the scatter matrix G = X^T X / n of whitened features.
    upper: bound on G's largest eigenvalue. steps: T, Chebyshev steps, 1 to 64. linear_means solves nothing and needs
    only `upper`, to check its means.
    """

    kind: LearnerKind
    classes: int
    dimension: int
    ridge: float = 0.2
    upper: float = 5.0
    steps: int = 5

    def __post_init__(self) -> None:
        if self.kind not in get_args(LearnerKind):
            known = ", ".join(get_args(LearnerKind))
            raise PlanError(f"There is no learner called {self.kind!r}; choose one of {known}.")
        if self.classes < 2:
            raise PlanError(f"A classifier needs at least 2 classes, not {self.classes}; give images of another class.")
        if not 2 <= self.dimension <= MAX_DIMENSION or self.dimension & (self.dimension - 1):
            raise PlanError(f"The dimension must be a power of two from 2 to {MAX_DIMENSION}, not {self.dimension}.")
        if not (np.isfinite(self.ridge) and self.ridge > 0):
            raise PlanError(f"The ridge must be a positive number, not {self.ridge}; 0.2 suits whitened features.")
        if not (np.isfinite(self.upper) and self.upper > 0):
            raise PlanError(f"The bound on the largest eigenvalue must be a positive number, not {self.upper}.")
        if not 1 <= self.steps <= MAX_STEPS:
            raise PlanError(f"The solve takes 1 to {MAX_STEPS} steps, not {self.steps}; 5 suits most tasks.")

    @property
    def columns(self) -> int:
        """Columns of the weights: 1 for two classes, else one a class."""
        return 1 if self.classes == 2 else self.classes

    @property
    def solves(self) -> bool:
        """Whether training ends with a solve (and so has a residual to check)."""
        return self.kind != "linear_means"

    @property
    def low(self) -> float:
        """Lower bound on the spectrum of A = G + ridge I."""
        return self.ridge

    @property
    def high(self) -> float:
        """Upper bound on the spectrum of A = G + ridge I."""
        return self.upper + self.ridge

    @property
    def schedule(self) -> ChebyshevSchedule:
        """The coefficients of the solve."""
        return ChebyshevSchedule(self.low, self.high, self.steps)

    @property
    def weight_levels(self) -> int:
        """Multiplicative levels from encrypted images to encrypted weights.

        1 for the scatter matrix or the class sums, 1 for the mask that keeps one position of each sum (and carries the
        division by n), T - 1 for the solve.
        """
        return 2 + (self.schedule.products if self.solves else 0)

    @property
    def residual_levels(self) -> int:
        """Levels to the encrypted residual R - A W: one product more than the weights."""
        return self.weight_levels + (1 if self.solves else 0)

    @property
    def score_levels(self) -> int:
        """Levels to encrypted scores: the weights and the product with the query; with several columns, in between,
        a mask that brings each column to slots of its own.
        """
        return self.weight_levels + (1 if self.columns == 1 else 2)


def check_labels(spec: LearnerSpec, labels: NDArray[np.integer], images: int) -> NDArray[np.int64]:
    """Class numbers (n,) as int64. Raises InputError unless there is one for each image and every class occurs."""
    numbers = np.asarray(labels)
    if numbers.shape != (images,):
        raise InputError(f"{images} images need {images} labels, not an array {numbers.shape}; label every image.")
    if not np.issubdtype(numbers.dtype, np.integer):
        raise InputError(f"Labels must be class numbers 0 to {spec.classes - 1}, not values of type {numbers.dtype}.")
    if images == 0:
        raise InputError("There are no images to learn from; give at least one of each class.")
    if numbers.min() < 0 or numbers.max() >= spec.classes:
        raise InputError(
            f"Labels must be class numbers 0 to {spec.classes - 1}, but run from {numbers.min()} to {numbers.max()}; "
            "use the classes that the task was planned with."
        )
    numbers = numbers.astype(np.int64)
    missing = np.flatnonzero(np.bincount(numbers, minlength=spec.classes) == 0)
    if missing.size:
        raise InputError(
            f"Class {missing[0]} has no images ({missing.size} of {spec.classes} classes are empty); "
            "every class of the task needs at least one."
        )
    return numbers
