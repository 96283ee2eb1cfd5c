"""The estimator with all roles in one process: scikit-learn's protocol, three modes, and no key in a pickle."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cipherlens.errors import InputError, PlanError, RangeError
from cipherlens.features.hog import Hog
from cipherlens.learning.bounds import clear_subsample
from cipherlens.local import ImageClassifier
from cipherlens.local.roles import Roles
from cipherlens.owner.secret_key import SecretKey
from cipherlens.planning.plan import DIMENSIONS, default_dimension, plan

EXPECTED_FAILURES = {
    "check_dtype_object": "a cell that is no number raises InputError, which is a ValueError, and not a TypeError",
    "check_supervised_y_2d": "a column of labels (n, 1) is refused, not flattened with a warning",
}


def table(n: int, k: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Rows of 6 numbers in k classes that overlap a little."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(k, 6)) * 2
    numbers = np.arange(n) % k
    return rng.normal(size=(n, 6)) + centres[numbers], np.array(["ant", "bee", "cat", "dog"])[numbers]


def stripes(n: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """16 x 16 images, striped across or along, with noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    wave = 60 * np.sin(np.arange(16) * np.pi / 3 + rng.uniform(0, 6, (n, 1)))
    images = np.where(labels[:, None, None] == 1, wave[:, :, None], wave[:, None, :]) + 128
    return np.clip(images + rng.normal(scale=25, size=(n, 16, 16)), 0, 255).astype(np.uint8), labels


def small(mode: Any = "clear", **changes: Any) -> ImageClassifier:
    return ImageClassifier(**({"features": "table", "mode": mode, "steps": 2, "threads": 2} | changes))


# --- scikit-learn ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Estimator ImageClassifier does not inherit")  # on purpose: it is optional
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_own_checks() -> None:
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    estimator = ImageClassifier(features="table", mode="clear")
    results = checks.check_estimator(estimator, expected_failed_checks=EXPECTED_FAILURES, on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert failed == {}
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == set(EXPECTED_FAILURES)
    assert len(results) > 40


def test_it_works_in_a_pipeline_and_in_cross_validation() -> None:
    pytest.importorskip("sklearn")
    from sklearn.base import is_classifier
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, labels = table(240, 3)
    assert is_classifier(small())
    assert cross_val_score(make_pipeline(StandardScaler(), small(steps=5)), rows, labels, cv=3).min() > 0.85


def test_it_works_without_scikit_learn() -> None:
    script = """
import sys
sys.modules["sklearn"] = None
import numpy as np
from cipherlens.local import ImageClassifier
rows = np.random.default_rng(0).normal(size=(100, 3))
model = ImageClassifier("table", mode="clear")
try:
    model.predict(rows)
except ValueError as error:
    assert "not fitted" in str(error)
assert model.fit(rows, rows[:, 0] > 0).score(rows, rows[:, 0] > 0) > 0.9
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_constructor_stores_its_arguments_untouched() -> None:
    odd: dict[str, Any] = {"features": Path("model.onnx"), "mode": "wrong", "steps": "many", "dimension": -1}
    estimator = ImageClassifier(**odd)
    assert {name: estimator.get_params()[name] for name in odd} == odd
    assert vars(estimator).keys() == estimator.get_params().keys()
    assert estimator.set_params(steps=3).steps == 3
    with pytest.raises(InputError, match="no parameter 'step'; ImageClassifier has features, learner"):
        estimator.set_params(step=3)


# --- modes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("learner", "classes"), [("ridge", 2), ("fisher", 3), ("linear_means", 4)])
def test_three_modes_agree(learner: Any, classes: int) -> None:
    rows, labels = table(120, classes)
    fresh, truth = table(60, classes, seed=7)
    clear, simulated, encrypted = (
        small(mode, learner=learner).fit(rows, labels) for mode in ("clear", "simulate", "encrypted")
    )
    scores = clear.decision_function(fresh)
    assert scores.shape == ((60,) if classes == 2 else (60, classes))
    for other in (simulated, encrypted):
        strayed = np.abs(other.decision_function(fresh) - scores)
        assert 0 < strayed.max() < 1e-3 * np.abs(scores).max()
        assert np.array_equal(other.predict(fresh), clear.predict(fresh))
        assert 0 < np.abs(other.model_.weights - clear.model_.weights).max() < 5e-4
    assert encrypted.score(fresh, truth) > 0.8
    assert encrypted.classes_.tolist() == ["ant", "bee", "cat", "dog"][:classes]


@pytest.mark.parametrize("steps", range(1, 9))
def test_fishers_discriminant_survives_an_early_end_of_the_solve(steps: int) -> None:
    rows, labels = table(240, 4)
    fresh, truth = table(200, 4, seed=7)
    assert small(learner="fisher", steps=steps).fit(rows, labels).score(fresh, truth) > 0.85


def test_images_in_arrays_and_in_one_folder_a_class(tmp_path: Path) -> None:
    images, labels = stripes(120)
    fresh, truth = stripes(40, seed=5)
    encrypted = ImageClassifier(features="hog:16x16", dimension=32, steps=2, threads=2).fit(images, labels)
    assert encrypted.score(fresh, truth) > 0.9
    assert encrypted.predict(fresh).dtype == labels.dtype
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / ("across", "along")[label]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    from_files = ImageClassifier(features="hog:16x16", mode="clear", dimension=32).fit(tmp_path)
    assert from_files.score(tmp_path) > 0.9
    assert set(from_files.predict(list(fresh))) == {"across", "along"}


def test_the_simulation_is_reproducible_and_noisy() -> None:
    rows, labels = table(80, 3)
    one, two = (small("simulate").fit(rows, labels).decision_function(rows) for _ in range(2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, small("simulate", seed=1).fit(rows, labels).decision_function(rows))


def test_the_simulation_makes_the_owners_checks() -> None:
    """Rows of another kind than the clear ones: the solve diverges, in the simulation as in the encrypted run."""
    rows, labels = table(400, 2)
    _, numbers = np.unique(labels, return_inverse=True)
    others = np.setdiff1d(np.arange(400), clear_subsample(numbers, share=60.5 / 400))[::4]
    rows[others] *= 40 * np.random.default_rng(0).choice([-1, 1], size=rows[others].shape)
    for mode in ("simulate", "encrypted"):
        with pytest.raises(RangeError, match="did not converge"):
            small(mode, clear=60, steps=4).fit(rows, labels)


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["simulate", "encrypted"])
def test_a_fit_that_fails_changes_nothing(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the first, which leaves nothing fitted, nor a later one with other columns and classes."""

    def fail(*_: object, **__: object) -> None:
        raise RangeError("out of range")

    rows, labels = table(120, 2)
    classifier = ImageClassifier(features="table", mode=mode, steps=2, dimension=16)
    with monkeypatch.context() as patch:
        patch.setattr("cipherlens.local.estimator.check_model", fail)
        patch.setattr(Roles, "open", fail)
        with pytest.raises(RangeError):
            classifier.fit(rows, labels)
        with pytest.raises(InputError, match="fit"):
            classifier.predict(rows)
    before = classifier.fit(rows, labels).predict(rows)
    with monkeypatch.context() as patch:
        patch.setattr("cipherlens.local.estimator.check_model", fail)
        patch.setattr(Roles, "open", fail)
        with pytest.raises(RangeError):
            classifier.fit(rows[:, :4], np.where(labels == "ant", "no", "yes"))
    assert np.array_equal(classifier.predict(rows), before)
    assert classifier.mode_ == mode


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    rows, labels = table(120, 2)
    chosen: dict[str, Any] = {
        "steps": np.int64(2),
        "dimension": np.int32(16),
        "seed": np.uint8(3),
        "clear": np.int64(30),
        "threads": np.int64(1),
    }
    plan(rows, labels, features="table", **chosen).save(tmp_path / "task.cl")
    ImageClassifier(features="table", mode="clear", **chosen).fit(rows, labels)
    wrong: dict[str, Any]
    for wrong in ({"steps": 2.5}, {"dimension": "16"}, {"threads": -1}, {"threads": 0}, {"clear": 30.0}, {"seed": -1}):
        with pytest.raises(InputError, match="must be"):
            plan(rows, labels, features="table", **wrong)


def test_labels_that_are_missing_are_named() -> None:
    rows, labels = table(120, 2)
    for missing in (None, float("nan")):
        holes = labels.astype(object)
        holes[7] = missing
        with pytest.raises(InputError, match="Label 8"):
            plan(rows, holes, features="table")
        with pytest.raises(InputError, match="Label 8"):
            ImageClassifier(features="table", mode="clear").fit(rows, holes)


def test_features_have_one_dimension_by_name_and_as_objects() -> None:
    assert default_dimension("hog:28x28", None) == default_dimension(Hog(28, 28), None) == DIMENSIONS["hog"]


def test_copies_and_pickles_hold_no_secret_key() -> None:
    rows, labels = table(64, 2)
    fitted = small("encrypted").fit(rows, labels)
    assert isinstance(fitted._roles, Roles)
    secret = fitted._roles.keys.secrets
    stored = pickle.dumps(fitted)
    for hidden in (secret.secret.coefficients.tobytes(), secret.sealing_private, secret.secret.key_id.encode()):
        assert hidden not in stored
    for other in (pickle.loads(stored), copy.deepcopy(fitted), copy.copy(fitted)):
        assert other._roles is None
        assert not any(isinstance(value, SecretKey | Roles) for value in vars(other).values())
        assert other.mode == "encrypted"
        assert other.mode_ == "clear"
        assert np.array_equal(other.predict(rows), fitted.predict(rows))
    assert fitted.mode_ == "encrypted"
    for held in (fitted._roles, secret):
        with pytest.raises(TypeError, match="secret keys are never pickled"):
            pickle.dump(held, io.BytesIO())
    clone = pytest.importorskip("sklearn.base").clone(fitted)
    assert clone.get_params() == fitted.get_params()
    assert not hasattr(clone, "model_")


def test_fitting_again_in_the_clear_drops_the_keys() -> None:
    rows, labels = table(64, 2)
    estimator = small("encrypted").fit(rows, labels)
    estimator.set_params(mode="clear").fit(rows, labels)
    assert estimator._roles is None
    assert estimator.mode_ == "clear"


def test_representations_show_no_data() -> None:
    rows, labels = table(64, 2)
    fitted = small("encrypted", ridge=0.5).fit(rows, labels)
    assert repr(fitted) == "ImageClassifier(features='table', ridge=0.5, steps=2, threads=2)"
    assert repr(ImageClassifier()) == "ImageClassifier()"
    assert "ant" not in repr(fitted)
    assert "Roles object" in repr(fitted._roles)


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_mistakes_are_named() -> None:
    rows, labels = table(64, 2)
    with pytest.raises(InputError, match="no mode 'fast'; choose encrypted, simulate, clear"):
        small("fast").fit(rows, labels)
    with pytest.raises(InputError, match="not fitted yet"):
        small().predict(rows)
    with pytest.raises(InputError, match="one class only"):
        small().fit(rows, ["ant"] * 64)
    with pytest.raises(InputError, match="64 images need 64 labels"):
        small().fit(rows, labels[:-1])
    with pytest.raises(InputError, match="requires y"):
        small().fit(rows)
    with pytest.raises(InputError, match="NaN or infinite"):
        small().fit(np.where(rows > 3, np.nan, rows), labels)
    with pytest.raises(InputError, match="X has 5 features, but ImageClassifier is expecting 6"):
        small().fit(rows, labels).predict(rows[:, :5])
    with pytest.raises(InputError, match="statistics may use 4 to 16 of the 64 training images"):
        small("encrypted", clear=20).fit(rows, labels)
    with pytest.raises(InputError, match="dense tables"):
        small().fit(pytest.importorskip("scipy.sparse").csr_array(rows), labels)
    with pytest.raises(InputError, match="continuous"):
        small().fit(rows, rows[:, 0])
    with pytest.raises(PlanError, match="no learner called 'svm'"):
        small(learner="svm").fit(rows, labels)
