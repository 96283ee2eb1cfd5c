"""Learning in the clear: the twin's algebra, the bounds, the owner's checks, the exact reference."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cipherlens.errors import FormatError, InputError, PlanError, RangeError
from cipherlens.learning.bounds import Bounds, choose_bounds, clear_subsample, largest_eigenvalue
from cipherlens.learning.chebyshev import ChebyshevSchedule, chebyshev, choose_steps
from cipherlens.learning.learners import LearnerKind, LearnerSpec, check_labels
from cipherlens.learning.reference import reference_accuracy
from cipherlens.learning.residual import check_energy, check_means, check_model, check_residual, check_signal
from cipherlens.learning.signal import Signal, measure_signal
from cipherlens.learning.task import PublicTask
from cipherlens.learning.twin import ClearModel, NoiseModel, fit_clear, fit_simulated
from cipherlens.planning.rings import choose_parameters
from cipherlens.planning.task import PrivateNotes
from cipherlens.scheme.primes import nearest_prime

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
KINDS: tuple[LearnerKind, ...] = ("ridge", "fisher", "linear_means")


def blobs(n: int, d: int, k: int, seed: int, spread: float = 1.0) -> tuple[Floats, Labels]:
    """Correlated Gaussian classes in features of unlike scales."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(d) * np.geomspace(3, 0.3, d)
    centres = np.random.default_rng(98).normal(size=(k, d)) * spread
    labels = np.arange(n) % k
    rng.shuffle(labels)
    return (rng.normal(size=(n, d)) + centres[labels]) @ mixing, labels


def whitened(n: int, dimension: int, k: int, seed: int = 0) -> tuple[Bounds, Floats, Labels]:
    features, labels = blobs(n, dimension - 1, k, seed)
    bounds = choose_bounds(features[: n // 4], dimension)
    return bounds, bounds.whitening.apply(features), labels


def spec_of(kind: LearnerKind, classes: int, bounds: Bounds, steps: int | None = None) -> LearnerSpec:
    return LearnerSpec(kind, classes, bounds.whitening.dimension, upper=bounds.upper, steps=steps or bounds.steps)


# The recurrence


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
def test_the_residual_is_the_chebyshev_polynomial(steps: int) -> None:
    schedule = ChebyshevSchedule(0.2, 5.0, steps)
    spectrum = np.linspace(0.0, 7.0, 50)  # of A, beyond both bounds
    weights = chebyshev(schedule, lambda u: (spectrum - 0.2)[:, None] * u, np.ones((50, 1)))
    mapped = schedule.sigma - 2 * spectrum / 4.8
    expected = np.polynomial.chebyshev.chebval(mapped, [0] * steps + [1]) / schedule.tau[-1]
    residual = 1 - spectrum * weights[:, 0]
    np.testing.assert_allclose(residual, expected, atol=1e-12)
    inside = (spectrum >= 0.2) & (spectrum <= 5.0)
    assert np.abs(residual[inside]).max() <= schedule.residual_bound + 1e-12
    assert np.abs(residual[spectrum < 0.2]).max() <= 1 + 1e-12


def test_the_scalars_are_those_of_the_three_term_recurrence() -> None:
    low, high, steps = 0.3, 4.0, 6
    schedule = ChebyshevSchedule(low, high, steps)
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    G = (basis * np.linspace(0, high - low, 8)) @ basis.T
    A, R = G + low * np.eye(8), rng.normal(size=(8, 3))
    M = schedule.sigma * np.eye(8) - 2 / (high - low) * A
    tau = [1.0, schedule.sigma]
    previous, u = np.zeros_like(R), 2 / (high - low) * R
    for t in range(1, steps):
        tau.append(2 * schedule.sigma * tau[-1] - tau[-2])
        previous, u = u, 2 * M @ u - previous + 4 * tau[t] / (high - low) * R
    np.testing.assert_allclose(chebyshev(schedule, lambda u: G @ u, R), u / tau[steps], rtol=1e-12)
    assert len(schedule.right_hand_side) == steps
    assert schedule.products == steps - 1
    assert schedule.final == schedule.residual_bound == 1 / schedule.tau[-1]


def test_convergence_at_condition_number_four() -> None:
    bounds = [ChebyshevSchedule(1.0, 4.0, steps).residual_bound for steps in (3, 4, 6, 8)]
    assert bounds == pytest.approx([2 * 3.0**-steps for steps in (3, 4, 6, 8)], rel=0.01)  # rate (√κ-1)/(√κ+1) = 1/3


def test_steps_follow_from_the_condition_number() -> None:
    assert choose_steps(1.0, 4.0, 0.1) == 3
    steps = choose_steps(0.2, 5.2, 0.05)
    assert (
        ChebyshevSchedule(0.2, 5.2, steps).residual_bound
        <= 0.05
        < ChebyshevSchedule(0.2, 5.2, steps - 1).residual_bound
    )
    assert choose_steps(0.001, 100.0, 0.01, most=6) == 6
    with pytest.raises(PlanError, match="between 0 and 1"):
        choose_steps(0.2, 5.0, 1.5)


# The task's public half


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "forest"}, "no learner called 'forest'"),
        ({"classes": 1}, "at least 2 classes"),
        ({"dimension": 48}, "power of two"),
        ({"ridge": 0.0}, "positive number"),
        ({"ridge": float("nan")}, "positive number"),
        ({"upper": float("inf")}, "positive number"),
        ({"steps": 0}, "1 to 64 steps"),
    ],
)
def test_numbers_that_cannot_work_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        LearnerSpec(**{"kind": "ridge", "classes": 2, "dimension": 32, **changes})  # type: ignore[arg-type]


def test_a_schedule_with_impossible_bounds_is_refused() -> None:
    for low, high in ((0.0, 1.0), (2.0, 1.0), (0.1, float("inf"))):
        with pytest.raises(PlanError, match="0 < low < high"):
            ChebyshevSchedule(low, high, 4)


def test_columns_and_depth() -> None:
    two, ten = LearnerSpec("ridge", 2, 64, steps=5), LearnerSpec("ridge", 10, 64, steps=5)
    assert (two.columns, ten.columns) == (1, 10)
    assert (two.weight_levels, two.residual_levels, two.score_levels) == (6, 7, 7)
    assert (ten.weight_levels, ten.residual_levels, ten.score_levels) == (6, 7, 8)  # T + 3 in all
    assert LearnerSpec("fisher", 10, 64, steps=5).weight_levels == 6
    means = LearnerSpec("linear_means", 10, 64)
    assert (means.weight_levels, means.residual_levels, means.score_levels) == (2, 2, 4)
    assert (two.low, two.high) == (two.ridge, two.upper + two.ridge)


def test_labels_are_checked() -> None:
    spec = LearnerSpec("ridge", 3, 8)
    assert check_labels(spec, np.array([2, 0, 1], dtype=np.uint8), 3).dtype == np.int64
    for labels, sentence in (
        (np.array([0, 1]), "need 3 labels"),
        (np.array([0.0, 1.0, 2.0]), "class numbers"),
        (np.array([0, 1, 3]), "run from 0 to 3"),
        (np.array([0, 1, 1]), "Class 2 has no images"),
    ):
        with pytest.raises(InputError, match=sentence):
            check_labels(spec, labels, 3)
    with pytest.raises(InputError, match="no images"):
        check_labels(spec, np.array([], dtype=int), 0)


# The twin


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_many_steps_reach_the_closed_form(kind: LearnerKind, classes: int) -> None:
    bounds, X, labels = whitened(400, 16, classes)
    spec = spec_of(kind, classes, bounds, steps=60)
    model = fit_clear(spec, X, labels)
    n, counts = len(X), np.bincount(labels)
    means = np.stack([X[labels == c].mean(axis=0) for c in range(classes)], axis=1)
    G = X.T @ X / n
    if kind == "ridge":
        targets = np.where(labels == 1, 1.0, -1.0)[:, None] if classes == 2 else np.eye(classes)[labels]
        R = X.T @ targets / n
    else:
        R = means[:, 1:] - means[:, :1] if classes == 2 else means
        if classes > 2:
            G = sum((X[labels == c] - means[:, c]).T @ (X[labels == c] - means[:, c]) for c in range(classes)) / n
    W = R if kind == "linear_means" else np.linalg.solve(G + spec.ridge * np.eye(16), R)
    np.testing.assert_allclose(model.right_hand_side, R, atol=1e-12)
    np.testing.assert_allclose(model.weights @ model.mixing, W, atol=1e-6)
    if kind == "ridge":
        assert not model.bias.any()
    elif classes == 2:  # the midpoint of the means scores zero
        midpoint = means.mean(axis=1)[None]
        np.testing.assert_allclose(model.scores(midpoint), 0, atol=1e-12)
    else:
        np.testing.assert_allclose(model.bias, -0.5 * (W * means).sum(axis=0), atol=1e-6)
    assert counts.sum() == n


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_residual_is_what_it_says(kind: LearnerKind, classes: int) -> None:
    bounds, X, labels = whitened(300, 16, classes)
    model = fit_clear(spec_of(kind, classes, bounds), X, labels)
    G = X.T @ X / len(X)
    expected = model.right_hand_side - (G + model.spec.ridge * np.eye(16)) @ model.weights
    np.testing.assert_allclose(model.residual, expected if kind != "linear_means" else 0, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_small_noise_changes_no_prediction_and_large_noise_does(kind: LearnerKind, classes: int) -> None:
    bounds, X, labels = whitened(400, 32, classes)
    spec = spec_of(kind, classes, bounds)
    clear = fit_clear(spec, X, labels)

    def agreement(size: float) -> float:
        model = fit_simulated(spec, X, labels, NoiseModel(size, size, size), np.random.default_rng(5))
        if size < 1e-3:
            check_residual(spec, model.right_hand_side, model.residual, noise=size)
        return float(np.mean(model.predict(X) == clear.predict(X)))

    assert agreement(1e-6) == 1
    assert agreement(0.5) < 1
    with pytest.raises(InputError, match="standard deviations"):
        NoiseModel(fresh=-1.0)


def test_tables_of_another_shape_are_refused_and_repr_shows_no_data() -> None:
    bounds, X, labels = whitened(80, 16, 2)
    spec = spec_of("ridge", 2, bounds)
    model = fit_clear(spec, X, labels)
    assert repr(model) == "ClearModel(ridge, 2 classes, 16 columns)"
    assert "moments" not in repr(bounds)
    with pytest.raises(InputError, match="images, 16"):
        model.predict(X[:, :8])
    with pytest.raises(InputError, match="finite"):
        fit_clear(spec, np.where(np.arange(16) == 3, np.nan, X), labels)
    with pytest.raises(InputError, match="shape"):
        ClearModel(spec, model.weights, np.zeros(2), model.right_hand_side, model.residual, model.mixing)


# The bounds


def test_bounds_hold_for_fresh_images_where_the_samples_own_do_not() -> None:
    features, _ = blobs(2000, 31, 2, seed=3)
    bounds = choose_bounds(features[:60], 32)
    own = largest_eigenvalue(bounds.whitening.apply(features[:60]))
    fresh = largest_eigenvalue(bounds.whitening.apply(features[60:]))
    assert own < fresh <= bounds.upper <= 8 * fresh
    assert 1 <= bounds.steps <= 6
    again = choose_bounds(features[:60], 32)
    assert again.upper == bounds.upper and np.array_equal(again.whitening.matrix, bounds.whitening.matrix)


def test_bounds_need_images_and_say_so() -> None:
    features, _ = blobs(40, 7, 2, seed=3)
    with pytest.raises(InputError, match="4 clear images or more"):
        choose_bounds(features[:3], 8)
    with pytest.raises(InputError, match="margin"):
        choose_bounds(features, 8, margin=0.5)
    assert choose_bounds(features, 8).moments is None  # too few images to judge others by
    assert choose_bounds(features, 8, steps=3).steps == 3


def test_the_clear_subsample_is_random_balanced_and_within_its_share() -> None:
    labels = np.repeat([0, 1, 2], [100, 200, 500])  # sorted by class
    chosen = clear_subsample(labels)
    assert len(chosen) == 200 == len(set(chosen.tolist()))
    assert np.bincount(labels[chosen]) == pytest.approx([25, 50, 125], abs=2)
    assert not np.array_equal(chosen, clear_subsample(labels, seed=1))
    assert len(clear_subsample(labels[:7])) == 1
    with pytest.raises(InputError, match="share"):
        clear_subsample(labels, share=0.0)


# The owner's checks


def sklearn_table(name: str) -> tuple[Floats, Labels]:
    datasets = pytest.importorskip("sklearn.datasets")
    data = {"digits": datasets.load_digits, "wdbc": datasets.load_breast_cancer}[name]()
    return data.data, data.target


@pytest.mark.parametrize("seed", range(20))
def test_twenty_honest_tasks_raise_nothing(seed: int) -> None:
    name = ("wdbc", "digits", "two", "five")[seed % 4]
    if name in ("wdbc", "digits"):
        features, labels = sklearn_table(name)
    else:
        features, labels = blobs(600, 40, 2 if name == "two" else 5, seed, spread=0.5)
    order = np.random.default_rng(seed).permutation(len(features))[:400]
    features, labels = features[order], labels[order]
    clear = clear_subsample(labels, seed=seed)
    bounds = choose_bounds(features[clear], 32, standardise=name == "wdbc", seed=seed)
    X, counts = bounds.whitening.apply(features), np.bincount(labels)
    signal = measure_signal(spec_of("ridge", len(counts), bounds), X[clear], labels[clear])
    assert signal is not None
    for kind in KINDS:
        model = fit_clear(spec_of(kind, len(counts), bounds), X, labels)
        check_model(model, counts, bounds.moments, signal)
        noisy = fit_simulated(model.spec, X, labels, NoiseModel(1e-4, 1e-4, 1e-4), np.random.default_rng(seed))
        check_model(noisy, counts, bounds.moments, signal, noise=3e-3)


def shifted(features: Floats, how: str) -> Floats:
    """What some contributors may send: the second half of the images is theirs."""
    rng = np.random.default_rng(0)
    half = len(features) // 2
    theirs = features[half:]
    changed = {
        "inverted": features.max(axis=0) - theirs,
        "noise": rng.uniform(features.min(), features.max(), size=theirs.shape),
        "shuffled pixels": theirs[:, rng.permutation(features.shape[1])],
        "brighter": theirs * 3,
    }[how]
    return np.vstack([features[:half], changed])


@pytest.fixture(scope="module")
def digits() -> tuple[Bounds, Floats, Labels]:
    features, labels = sklearn_table("digits")
    order = np.random.default_rng(1).permutation(len(features))[:800]
    features, labels = features[order], labels[order]
    return choose_bounds(features[clear_subsample(labels)], 64), features, labels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["inverted", "noise", "shuffled pixels", "brighter"])
def test_images_of_another_distribution_are_noticed(
    digits: tuple[Bounds, Floats, Labels], how: str, kind: LearnerKind
) -> None:
    bounds, features, labels = digits
    X = bounds.whitening.apply(shifted(features, how))
    model = fit_clear(spec_of(kind, 10, bounds), X, labels)
    with pytest.raises(RangeError, match="images"):
        check_model(model, np.bincount(labels), bounds.moments)
    if kind != "linear_means":  # the residual alone notices too
        with pytest.raises(RangeError, match="did not converge"):
            check_residual(model.spec, model.right_hand_side, model.residual)


@pytest.mark.parametrize("kind", ["ridge", "fisher"])
@pytest.mark.parametrize("classes", [2, 10])
def test_scaled_images_are_noticed(digits: tuple[Bounds, Floats, Labels], classes: int, kind: LearnerKind) -> None:
    bounds, features, labels = digits
    labels = labels if classes == 10 else labels % 2
    X, counts = bounds.whitening.apply(features), np.bincount(labels)
    spec = spec_of(kind, classes, bounds)

    up = X.copy()
    up[:, :-1] = np.clip(3 * X[:, :-1], -8, 8)
    model = fit_clear(spec, up, labels)
    with pytest.raises(RangeError, match="did not converge"):
        check_residual(spec, model.right_hand_side, model.residual)

    down = X.copy()
    down[:, :-1] *= 0.3
    model = fit_clear(spec, down, labels)
    assert check_residual(spec, model.right_hand_side, model.residual) <= 1  # solved, for images of another scale
    assert bounds.moments is not None
    with pytest.raises(RangeError, match="times as much"):
        check_energy(model, counts, bounds.moments)

    for factor in (3.0, 0.3):  # of the pixels, before the feature map
        model = fit_clear(spec, bounds.whitening.apply(features * factor), labels)
        with pytest.raises(RangeError):
            check_model(model, counts, bounds.moments)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("factor", [0.0, 0.1, 0.25, 0.5, 2.0, 3.0])
def test_linear_means_of_scaled_images_are_noticed(
    digits: tuple[Bounds, Floats, Labels], classes: int, factor: float
) -> None:
    bounds, features, labels = digits
    chosen = clear_subsample(labels)
    labels = labels if classes == 10 else np.asarray(labels >= 5, np.int64)
    spec, counts = spec_of("linear_means", classes, bounds), np.bincount(labels)
    signal = measure_signal(spec, bounds.whitening.apply(features[chosen]), labels[chosen])
    assert signal is not None
    honest = fit_clear(spec, bounds.whitening.apply(features), labels)
    assert 0.9 < check_signal(spec, honest.right_hand_side, counts, signal) < 1.3
    model = fit_clear(spec, bounds.whitening.apply(features * factor), labels)
    with pytest.raises(RangeError, match="times as far apart as in the clear images"):
        check_signal(spec, model.right_hand_side, counts, signal)
    with pytest.raises(RangeError):
        check_model(model, counts, bounds.moments, signal)


def test_classes_too_much_alike_are_not_judged() -> None:
    features, labels = blobs(600, 40, 2, 3, spread=0.0)
    chosen = clear_subsample(labels)
    bounds = choose_bounds(features[chosen], 32)
    spec = spec_of("linear_means", 2, bounds)
    signal = measure_signal(spec, bounds.whitening.apply(features[chosen]), labels[chosen])
    assert signal is not None
    model = fit_clear(spec, 0.1 * bounds.whitening.apply(features), labels)
    assert check_signal(spec, model.right_hand_side, np.bincount(labels), signal) == 1.0
    few = chosen[:40]
    assert measure_signal(spec, bounds.whitening.apply(features[few]), labels[few]) is None


@pytest.mark.parametrize("kind", ["ridge", "fisher"])
@pytest.mark.parametrize("classes", [2, 10])
def test_wrong_bounds_are_noticed(digits: tuple[Bounds, Floats, Labels], classes: int, kind: LearnerKind) -> None:
    bounds, features, labels = digits
    labels = labels if classes == 10 else labels % 2
    X = bounds.whitening.apply(features)
    spec = LearnerSpec(kind, classes, 64, upper=largest_eigenvalue(X) / 4, steps=6)
    model = fit_clear(spec, X, labels)
    with pytest.raises(RangeError, match="plan again"):
        check_residual(spec, model.right_hand_side, model.residual)


def test_a_missing_constant_feature_and_broken_values_are_noticed() -> None:
    bounds, X, labels = whitened(200, 16, 3)
    spec, counts = spec_of("linear_means", 3, bounds), np.bincount(labels)
    with pytest.raises(RangeError, match="constant feature"):
        check_model(fit_clear(spec, 0.5 * X, labels), counts)
    model = fit_clear(spec_of("ridge", 3, bounds), X, labels)
    with pytest.raises(RangeError, match="NaN or infinite"):
        check_residual(model.spec, model.right_hand_side, np.full_like(model.residual, np.nan))
    with pytest.raises(InputError, match="this model"):
        check_residual(model.spec, model.right_hand_side, model.residual[:, :1])
    with pytest.raises(InputError, match="Counts"):
        check_means(model.spec, model.right_hand_side, counts[:2])
    with pytest.raises(InputError, match="moments"):
        check_energy(model, counts, np.ones(8))


def test_a_task_without_signal_is_not_judged() -> None:
    spec = LearnerSpec("fisher", 2, 16)
    nothing = np.zeros((16, 1))
    model = ClearModel(spec, nothing, np.zeros(1), nothing, nothing, np.eye(1))
    check_model(model, np.array([5, 5]), np.ones(16))
    with pytest.raises(RangeError):
        check_residual(spec, nothing, nothing + 1e-3)
    check_residual(spec, nothing, nothing + 1e-3, noise=1e-3)


# Against scikit-learn


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_is_the_same_classifier_solved_exactly(kind: LearnerKind, classes: int) -> None:
    pytest.importorskip("sklearn")
    features, labels = blobs(900, 15, classes, seed=2, spread=0.6)
    bounds = choose_bounds(features[:150], 16)
    X = bounds.whitening.apply(features)
    spec = LearnerSpec(kind, classes, 16, ridge=0.02, upper=bounds.upper, steps=64)
    model = fit_clear(spec, X[:600], labels[:600])
    reference = reference_accuracy(spec, X[:600], labels[:600], X[600:], labels[600:], runs=1)
    # LinearDiscriminantAnalysis has no ridge; the other two solve the very same equations.
    least = 0.9 if kind == "fisher" else 0.99
    assert np.mean(model.predict(X[600:]) == reference.predictions) > least
    assert 1.2 / classes < reference.accuracy == np.mean(reference.predictions == labels[600:])
    assert reference.seconds > 0


def test_fisher_on_wdbc_reaches_ninety_five_percent() -> None:
    features, labels = sklearn_table("wdbc")
    accuracies = []
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(features))
        train, test = order[:400], order[400:]
        clear = clear_subsample(labels[train], seed=seed)
        bounds = choose_bounds(features[train[clear]], 32, standardise=True, seed=seed)
        model = fit_clear(spec_of("fisher", 2, bounds), bounds.whitening.apply(features[train]), labels[train])
        accuracies.append(np.mean(model.predict(bounds.whitening.apply(features[test])) == labels[test]))
    assert np.mean(accuracies) >= 0.95


@pytest.mark.parametrize("kind, classes", [("ridge", 2), ("fisher", 3)])
@pytest.mark.parametrize("numbers", [
    {"ridge": 1.0, "upper": 1e-12, "steps": 64}, {"ridge": 1e-300, "upper": 1e300},
    {"ridge": 1e-300, "upper": 1e-300}, {"ridge": 1e-300, "upper": 1e-308, "steps": 32}, {"scale_bits": 60},
    {"scale_bits": 10}, {"classes": 1 << 15}, {"dimension": 2, "classes": 3},
])  # fmt: skip
def test_tasks_from_outside_with_impossible_numbers(kind: str, classes: int, numbers: dict[str, Any]) -> None:
    """A task file may say anything: numbers that no computation survives are refused when it is read."""
    taken: set[int] = set()
    for _ in range(70):
        taken.add(nearest_prime(2.0**27, 1 << 17, taken))
    special = nearest_prime(2.0**49, 1 << 17, taken)
    ring = {
        "ring_dimension": 1 << 17,
        "primes": sorted(taken),
        "special_primes": [special],
        "digit": 1,
        "scale_bits": 34,
    }
    learner = {"kind": kind, "classes": classes, "dimension": 8, "ridge": 0.2, "upper": 5.0, "steps": 9}
    for name, value in numbers.items():
        (ring if name in ring else learner)[name] = value
    with pytest.raises(FormatError, match="cannot work"):
        PublicTask.from_dict({"parameters": ring, "learner": learner, "nonce": "0" * 32})


def test_statistics_beyond_every_float() -> None:
    ring = choose_parameters(LearnerSpec("ridge", 2, 2))
    with pytest.raises(FormatError, match="statistics are damaged"):
        PrivateNotes.from_dict(
            {"classes": ["a", "b"], "moments": [10**400, 1]}, PublicTask(ring, LearnerSpec("ridge", 2, 2), "0" * 32)
        )


def test_statistics_come_back_from_their_description() -> None:
    spec = LearnerSpec("linear_means", 3, 4)
    task = PublicTask(choose_parameters(spec), spec, "0" * 32)
    means = np.arange(9.0).reshape(3, 3) / 7
    notes = PrivateNotes(("a", "b", "c"), np.ones(4), Signal(means, 2.5, 0.125, 60))
    described = json.loads(json.dumps(notes.to_dict()))
    back = PrivateNotes.from_dict(described, task).signal
    assert back is not None
    np.testing.assert_array_equal(back.means, means)
    assert (back.size, back.spread, back.images) == (2.5, 0.125, 60)
    del described["signal"]  # files from before it was kept
    assert PrivateNotes.from_dict(described, task).signal is None
    good = {"means": means.tolist(), "size": 2.5, "spread": 0.125, "images": 60}
    for wrong in (
        None, {}, good | {"more": 1}, good | {"means": means[:2].tolist()}, good | {"size": "x"}, good | {"size": 1e999},
        good | {"spread": -1.0}, good | {"images": 0}, good | {"means": [[10**400] * 3] * 3},
    ):  # fmt: skip
        with pytest.raises(FormatError, match="statistics are damaged"):
            PrivateNotes.from_dict(described | {"signal": wrong}, task)
