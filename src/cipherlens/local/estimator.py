"""A classifier of images with all roles in one process and scikit-learn's face."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError
from cipherlens.features.base import BaseFeatures
from cipherlens.features.feature_map import FeatureMap
from cipherlens.features.images import ImageSource
from cipherlens.learning.bounds import FEWEST_IMAGES, RIDGE, SHRINKAGE
from cipherlens.learning.circuit import Circuit
from cipherlens.learning.learners import LearnerKind
from cipherlens.learning.noise import noise_model, score_noise
from cipherlens.learning.residual import check_model, check_scores
from cipherlens.learning.twin import ClearModel, NoiseModel, centres, class_means, decide, fit_clear, fit_simulated
from cipherlens.local.checks import check_rows, check_targets
from cipherlens.local.protocol import Parameters, classifier_tags, not_fitted
from cipherlens.local.roles import Roles
from cipherlens.owner.decryption import NOISE
from cipherlens.planning.plan import CLEAR_SHARE, MOST_CLEAR, STEPS, fit_features, plan, read_examples
from cipherlens.planning.rings import choose_parameters, score_bits
from cipherlens.scheme.arguments import whole_number
from cipherlens.scheme.engine import usable_cores

Floats = NDArray[np.float64]
Mode = Literal["encrypted", "simulate", "clear"]


@dataclass(frozen=True, eq=False)
class _Simulated:
    """What predicting with modelled noise needs: errors, and what the owner's check of the scores looks at."""

    noise: NoiseModel
    score_noise: float
    half_means: Floats | None
    largest_score: float


_Fitted = tuple[ClearModel, FeatureMap, Roles | None, _Simulated | None]


class ImageClassifier(Parameters):
    """Train and apply a classifier on encrypted images, or try the same in the clear first.

    mode:
        "encrypted"  keys are made, images encrypted, training and classifying happen on ciphertexts, and what is
                     decrypted is returned.
        "simulate"   the same arithmetic in float64 with the encryption's errors modelled, statistical and not
                     cryptographic; the same parameters, and the owner's checks of what would be decrypted.
        "clear"      the same arithmetic in float64.

    The other parameters are those of `cipherlens.plan`; with features="table" X is a table (n, d) of numbers, otherwise
    whatever holds images (a folder with one folder a class needs no y).

    A pickled, copied or cloned estimator never holds a secret key or a ciphertext. A copy or pickle of a fitted
    encrypted one holds the feature map and the weights that its owner decrypted, private data both, and goes on
    predicting with them in the clear. `mode_` says how a fitted estimator predicts.

    Attributes of a fitted estimator:
        classes_: (k,), the labels in ascending order.
        mode_: "encrypted", "simulate" or "clear".
        feature_map_: from images to the columns that are encrypted.
        model_: the weights in the clear, in encrypted mode as decrypted by their owner.
        n_features_in_: columns of the table, with features="table" alone.

    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(200, 4))
    >>> signs = np.where(rows[:, 0] > 0, "plus", "minus")
    >>> ImageClassifier(features="table", mode="clear").fit(rows, signs).score(rows, signs) > 0.95
    True
    """

    classes_: NDArray[Any]
    mode_: Mode
    feature_map_: FeatureMap
    model_: ClearModel
    n_features_in_: int
    _roles: Roles | None
    _simulated: _Simulated | None

    def __init__(
        self,
        features: str | Path | BaseFeatures = "hog",
        learner: LearnerKind = "ridge",
        mode: Mode = "encrypted",
        *,
        dimension: int | None = None,
        ridge: float = RIDGE,
        steps: int = STEPS,
        shrinkage: float = SHRINKAGE,
        clear: int | None = None,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        self.features = features
        self.learner = learner
        self.mode = mode
        self.dimension = dimension
        self.ridge = ridge
        self.steps = steps
        self.shrinkage = shrinkage
        self.clear = clear
        self.seed = seed
        self.threads = threads

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train. X: images or a table (n, d); y: (n,) labels, or None for a folder with one folder a class.

        Raises InputError for data that cannot be used, PlanError when no ring fits, and RangeError when the owner's
        checks of the decrypted model, or of the simulated one, fail.
        """
        if self.mode not in get_args(Mode):
            raise InputError(f"there is no mode {self.mode!r}; choose {', '.join(get_args(Mode))}")
        X = self._check(X, fitting=True)
        if y is None and isinstance(X, ImageSource):
            y = X.classes
        targets = check_targets(y, len(X))
        classes, numbers = np.unique(targets, return_inverse=True)
        if len(classes) < 2:
            raise InputError("the training labels hold one class only; a classifier needs at least two classes")
        fitted = self._fit_encrypted(X, numbers) if self.mode == "encrypted" else self._fit_in_the_clear(X, numbers)
        # All at once: what fails leaves what was fitted before as it was.
        self.classes_, self.mode_ = classes, self.mode
        self.model_, self.feature_map_, self._roles, self._simulated = fitted
        if self._table:
            self.n_features_in_ = X.shape[1]
        return self

    def _fit_encrypted(self, X: Any, numbers: NDArray[np.int64]) -> _Fitted:
        task = plan(
            X, numbers, learner=self.learner, features=self.features, dimension=self.dimension, ridge=self.ridge,
            steps=self.steps, shrinkage=self.shrinkage, clear=self.clear, seed=self.seed, threads=self.threads,
        )  # fmt: skip
        roles = Roles.train(task, X, numbers, self.threads)
        return roles.open(), task.feature_map, roles, None

    def _fit_in_the_clear(self, X: Any, numbers: NDArray[np.int64]) -> _Fitted:
        threads = self._threads
        # Nothing is encrypted here, so the few images of a small set may all serve for statistics.
        fewest = min(len(numbers), FEWEST_IMAGES)
        clear = min(max(int(CLEAR_SHARE * len(numbers)), fewest), MOST_CLEAR) if self.clear is None else self.clear
        feature_map, spec, notes = fit_features(
            read_examples(X, numbers, table=self._table), clear, learner=self.learner, features=self.features,
            dimension=self.dimension, ridge=self.ridge, steps=self.steps, shrinkage=self.shrinkage, seed=self.seed,
            threads=threads,
        )  # fmt: skip
        columns = feature_map.transform(X, threads=threads)
        if self.mode == "clear":
            return fit_clear(spec, columns, numbers), feature_map, None, None
        counts = np.bincount(numbers)
        circuit = Circuit(choose_parameters(spec, room=score_bits(spec, counts)), spec)
        noise = noise_model(circuit, len(numbers))
        model = fit_simulated(spec, columns, numbers, noise, np.random.default_rng(self.seed))
        check_model(model, counts, notes.moments, notes.signal, noise=NOISE)
        half_means = centres(spec, class_means(columns, numbers, counts))
        return model, feature_map, None, _Simulated(noise, score_noise(circuit), half_means, circuit.largest_score)

    def decision_function(self, X: Any) -> Floats:
        """(n,) scores of two classes, positive for `classes_[1]`; (n, k) of more, the largest wins."""
        scores = self._scores(self._check(X, fitting=False))
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) labels out of `classes_`."""
        predicted = decide(self._scores(self._check(X, fitting=False)))
        return np.asarray(self.classes_[predicted])

    def score(self, X: Any, y: Any = None) -> float:
        """Share of right predictions on images with labels (n,), or a folder with one folder a class."""
        X = self._check(X, fitting=False)
        if y is None and isinstance(X, ImageSource):
            y = X.classes
        return float(np.mean(self.predict(X) == check_targets(y, len(X))))

    def _scores(self, X: Any) -> Floats:
        if self._roles is not None:
            scores = self._roles.scores(X)
            return scores[:, 1:] if len(self.classes_) == 2 else scores
        columns, model = self.feature_map_.transform(X, threads=self._threads), self.model_
        if (simulated := self._simulated) is None:
            return model.scores(columns)
        check_scores(model.spec, model.weights, model.right_hand_side, simulated.half_means, simulated.largest_score)
        rng = np.random.default_rng(self.seed)
        noisy = columns + rng.normal(scale=simulated.noise.fresh, size=columns.shape)
        raw = noisy @ model.weights
        return model.finish_scores(raw + rng.normal(scale=simulated.score_noise, size=raw.shape))

    @property
    def _threads(self) -> int:
        return usable_cores() if self.threads is None else whole_number(self.threads, "The number of threads", least=1)

    @property
    def _table(self) -> bool:
        return isinstance(self.features, str) and self.features == "table"

    def _check(self, X: Any, *, fitting: bool) -> Any:
        """A checked table, or a source of images. Raises InputError, also before `fit`."""
        if not fitting and not self.__sklearn_is_fitted__():
            raise not_fitted(type(self).__name__)
        if not self._table:
            return ImageSource.of(X)
        return check_rows(X, type(self).__name__, None if fitting else self.n_features_in_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        return classifier_tags(table=self._table)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if state.get("_roles") is not None:
            state |= {"_roles": None, "mode_": "clear"}
        return state
