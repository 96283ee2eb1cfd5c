"""Training and classifying on ciphertexts against the clear twin, through the owner's and the server's real path."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cipherlens as cl
from cipherlens._evaluator import available_kernels
from cipherlens.errors import InputError, KeyMismatch, PlanError, RangeError
from cipherlens.features.feature_map import FeatureMap
from cipherlens.features.whitening import Whitening
from cipherlens.learning.circuit import Circuit
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.learners import LearnerSpec
from cipherlens.learning.noise import noise_model, score_noise
from cipherlens.learning.results import Reply, TrainedModel
from cipherlens.learning.training import Trainer
from cipherlens.learning.twin import ClearModel, fit_clear, fit_simulated
from cipherlens.owner.keys import Keys
from cipherlens.planning.calibration import speed
from cipherlens.planning.cost import forecast
from cipherlens.planning.rings import choose_parameters, parameters_for
from cipherlens.planning.task import Task
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import EvaluationKeys

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

FEATURES = 6


def blobs(n: int, classes: int, seed: int = 0) -> tuple[Floats, Numbers]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(3).normal(size=(classes, FEATURES)) * 1.5
    labels = np.arange(n) % classes
    rng.shuffle(labels)
    return rng.normal(size=(n, FEATURES)) * np.geomspace(2, 0.5, FEATURES) + centres[labels], labels


def planned(n: int, classes: int, learner: Any = "ridge", **options: Any) -> tuple[Task, Keys, Floats, Numbers]:
    rows, labels = blobs(n, classes)
    task = cl.plan(rows, labels, learner=learner, features="table", threads=1, **({"steps": 2} | options))
    return task, Keys.create(task, threads=2), rows, labels


def twin(task: Task, rows: Floats, labels: Numbers) -> ClearModel:
    return fit_clear(task.public.spec, task.feature_map.transform(rows), labels)


def agree(found: ClearModel, expected: ClearModel, tolerance: float = 5e-4) -> None:
    for name in ("weights", "right_hand_side", "residual"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def two_classes() -> tuple[Task, Keys, Floats, Numbers]:
    """A task that most tests share: making keys takes longest."""
    return planned(240, 2)


# --- against the twin ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("learner", ["ridge", "fisher", "linear_means"])
def test_every_learner_is_its_twin(learner: str, classes: int) -> None:
    task, keys, rows, labels = planned(200, classes, learner)
    fresh, truth = blobs(90, classes, seed=5)
    model = cl.server.train(keys.encrypt(rows, labels), keys.evaluation)
    # Classifying needs few of the keys; the others are not there.
    wanted = {request.number for request in task.public.circuit.score_requests()}
    few = {number: key for number, key in keys.evaluation.keys.items() if number in wanted}
    for_scores = EvaluationKeys(keys.evaluation.parameters, keys.evaluation.key_id, few)
    answers = keys.decrypt(cl.server.classify(model, keys.encrypt(fresh), for_scores))
    expected = twin(task, rows, labels)
    agree(keys.secrets.open(model), expected)
    agree(answers.model, expected)
    scores = expected.scores(task.feature_map.transform(fresh))
    columns = answers.scores[:, 1:] if classes == 2 else answers.scores
    assert np.abs(columns - scores).max() < 1e-3 * np.abs(scores).max()
    assert np.array_equal(answers.numbers, expected.predict(task.feature_map.transform(fresh)))
    assert np.mean(answers.numbers == truth) > 0.7
    assert answers.files == tuple(str(i) for i in range(90))
    assert answers.labels == [str(number) for number in answers.numbers]


@pytest.mark.parametrize(("steps", "ring"), [(1, 1 << 13), (4, 1 << 14), (3, 1 << 15)])
def test_steps_and_rings(steps: int, ring: int) -> None:
    task, keys, rows, labels = planned(100, 2, steps=steps, ring_dimension=ring)
    assert task.public.parameters.ring_dimension == ring
    agree(keys.secrets.open(cl.server.train(keys.encrypt(rows, labels), keys.evaluation)), twin(task, rows, labels))


@pytest.mark.parametrize(("learner", "classes"), [("ridge", 2), ("fisher", 3), ("linear_means", 3)])
def test_modelled_noise_is_of_the_size_of_the_real_one(learner: str, classes: int) -> None:
    task, keys, rows, labels = planned(200, classes, learner, steps=3)
    circuit, spec = task.public.circuit, task.public.spec
    columns = task.feature_map.transform(rows)
    data = keys.encrypt(rows, labels)
    secret = keys.secrets.secret
    slots = circuit.layout.table(secret.decrypt(data.batch(secret.engine, 0).ciphertext))
    half = circuit.layout.batch
    decrypted = np.concatenate([slots.real.T, slots.imag.T])[: len(rows)]
    noise = noise_model(circuit, len(rows))
    assert len(rows) <= 2 * half
    assert np.std(decrypted - columns) == pytest.approx(noise.fresh, rel=0.1)

    model = cl.server.train(data, keys.evaluation)
    expected = twin(task, rows, labels)
    real = keys.secrets.open(model).weights - expected.weights
    simulated = [
        fit_simulated(spec, columns, labels, noise, np.random.default_rng(seed)).weights - expected.weights
        for seed in range(5)
    ]
    assert 1 / 4 < np.std(real) / np.std(simulated) < 4
    opened = keys.secrets.open(model)
    answers = keys.decrypt(cl.server.classify(model, keys.encrypt(rows), keys.evaluation))
    scores = answers.scores[:, 1:] if classes == 2 else answers.scores
    strayed = np.std((scores - opened.scores(columns)) @ np.linalg.inv(opened.mixing))
    assert 1 / 4 < strayed / score_noise(circuit) < 4


@pytest.mark.parametrize(("dimension", "classes"), [(32, 2), (128, 2), (256, 10), (512, 2)])
@pytest.mark.parametrize("learner", ["ridge", "linear_means"])
def test_sums_are_averaged_accurately_up_to_the_most_images(learner: Any, dimension: int, classes: int) -> None:
    spec = LearnerSpec(learner, classes, dimension)
    parameters = choose_parameters(spec)
    circuit, engine = Circuit(parameters, spec), Engine(parameters)
    n, scale = circuit.most_images, parameters.scales[circuit.top - 1]
    assert n > 10**6
    for images in np.linspace(n / 2, n, 20):
        for factor in (0.5 / images, 0.5 * spec.schedule.gram / images)[: 1 + spec.solves]:
            wanted = circuit.layout.at_first_position(factor).astype(np.complex128)
            found = engine.encoder.project(engine.encoder.embed(wanted, scale), scale)
            assert np.abs(found - wanted).max() < 1e-2 * abs(factor)
    counts = np.full(classes, n // classes + 1)
    with pytest.raises(PlanError, match=f"average up to {n:,} images, and there are {counts.sum():,}"):
        Trainer(circuit, Evaluator(engine), counts)
    wider = Circuit(parameters_for(spec, n + 1), spec)
    assert wider.top == circuit.top + 1
    assert wider.most_images > 10**10
    Trainer(wider, Evaluator(Engine(wider.parameters)), np.full(classes, 10**9))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("learner", ["ridge", "fisher", "linear_means"])
def test_a_division_in_two_steps_is_as_good(learner: Any, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for more images than one division bears, of which there are too many for a test: the limit is lowered."""
    rng = np.random.default_rng(4)
    labels = np.arange(240) % classes
    rows = rng.normal(size=(240, 6)) + 2 * np.random.default_rng(1).normal(size=(classes, 6))[labels]
    monkeypatch.setattr(Circuit, "most_in_one_division", 200)
    with pytest.raises(PlanError, match="averages up to"):
        cl.plan(rows, labels, learner=learner, features="table", dimension=16, steps=3, most_images=10**8)
    small = Keys.create(cl.plan(rows[:100], labels[:100], learner=learner, features="table", dimension=16, steps=3))
    with pytest.raises(PlanError, match="average up to 200 images, and there are 240"):
        small.encrypt(rows, labels)  # said before anything is paid
    task = cl.plan(rows, labels, learner=learner, features="table", dimension=16, steps=3)
    assert task.public.parameters.top_level == task.public.spec.score_levels + 1
    keys = Keys.create(task)
    model = cl.server.train(keys.encrypt(rows, labels), keys.evaluation)
    agree(keys.secrets.open(model), twin(task, rows, labels))
    answers = keys.decrypt(cl.server.classify(model, keys.encrypt(rows), keys.evaluation))
    assert np.array_equal(answers.numbers, twin(task, rows, labels).predict(task.feature_map.transform(rows)))


# --- data sets -------------------------------------------------------------------------------------------------------


def test_contributors_and_the_owner_train_together(two_classes: tuple[Task, Keys, Floats, Numbers]) -> None:
    task, keys, rows, labels = two_classes
    parts = np.split(np.arange(240), [100, 177])
    sets = [
        keys.encrypt(rows[parts[0]], labels[parts[0]]),
        keys.public.encrypt(rows[parts[1]], labels[parts[1]]),
        keys.public.encrypt(rows[parts[2]], labels[parts[2]]),
    ]
    assert [s.seeded for s in sets] == [True, False, False]
    model = cl.server.train(sets, keys.evaluation)
    assert model.counts.tolist() == np.bincount(labels).tolist()
    agree(keys.secrets.open(model), twin(task, rows, labels))
    query = keys.public.encrypt(rows[:30])
    answers = keys.decrypt(cl.server.classify(model, query, keys.evaluation))
    assert np.array_equal(answers.numbers, twin(task, rows, labels).predict(task.feature_map.transform(rows[:30])))


def test_a_partial_last_ciphertext() -> None:
    # D = 512 of 8,192 slots leaves 16 positions: 32 images a ciphertext.
    task, keys, rows, labels = planned(75, 2, dimension=512, ring_dimension=1 << 14)
    data = keys.encrypt(rows, labels)
    assert task.public.circuit.layout.images == 32
    assert len(data.rows) == 3
    model = cl.server.train(data, keys.evaluation)
    agree(keys.secrets.open(model), twin(task, rows, labels))
    answers = keys.decrypt(cl.server.classify(model, keys.encrypt(rows[:33]), keys.evaluation))
    assert answers.scores.shape == (33, 2)
    assert np.array_equal(answers.numbers, twin(task, rows, labels).predict(task.feature_map.transform(rows[:33])))


def test_more_ciphertexts_than_a_group(two_classes: tuple[Task, Keys, Floats, Numbers]) -> None:
    task, keys, rows, labels = two_classes
    sets = [keys.encrypt(rows[i::6], labels[i::6]) for i in range(6)]
    agree(keys.secrets.open(cl.server.train(sets, keys.evaluation)), twin(task, rows, labels))


def test_fewer_images_than_a_ciphertext_holds(two_classes: tuple[Task, Keys, Floats, Numbers]) -> None:
    task, keys, rows, labels = two_classes
    few = np.concatenate([np.flatnonzero(labels == c)[:20] for c in (0, 1)])
    model = cl.server.train(keys.encrypt(rows[few], labels[few]), keys.evaluation)
    agree(keys.secrets.open(model), twin(task, rows[few], labels[few]))
    answers = keys.decrypt(cl.server.classify(model, keys.encrypt(rows[:1]), keys.evaluation))
    assert len(answers.numbers) == 1


def test_names_of_classes_of_a_table() -> None:
    rows, labels = blobs(100, 2)
    names = np.array(["benign", "malignant"])[labels]
    task = cl.plan(rows, names, features="table", steps=1, threads=1)
    keys = Keys.create(task)
    model = cl.server.train(keys.encrypt(rows, names), keys.evaluation)
    answers = keys.decrypt(cl.server.classify(model, keys.encrypt(rows), keys.evaluation))
    assert set(answers.labels) == {"benign", "malignant"}
    with pytest.raises(InputError, match="'unknown' is not a class of this task"):
        keys.encrypt(rows[:1], ["unknown"])


def test_what_does_not_belong_together_is_refused(two_classes: tuple[Task, Keys, Floats, Numbers]) -> None:
    task, keys, rows, labels = two_classes
    data = keys.encrypt(rows, labels)
    stranger = Keys.create(task)
    with pytest.raises(KeyMismatch, match="another key pair"):
        cl.server.train(data, stranger.evaluation)
    with pytest.raises(KeyMismatch, match="under another key"):
        cl.server.train([data, stranger.encrypt(rows, labels)], keys.evaluation)
    with pytest.raises(InputError, match="no labels"):
        cl.server.train(keys.encrypt(rows), keys.evaluation)
    with pytest.raises(InputError, match="at least one image of each"):
        cl.server.train(keys.encrypt(rows[labels == 0], labels[labels == 0]), keys.evaluation)
    model = cl.server.train(data, keys.evaluation)
    reply = cl.server.classify(model, keys.encrypt(rows[:3]), keys.evaluation)
    with pytest.raises(KeyMismatch, match="another key"):
        stranger.decrypt(reply)


# --- out of range ----------------------------------------------------------------------------------------------------


def test_wrong_bounds_are_noticed() -> None:
    rows, labels = blobs(240, 2)
    honest = cl.plan(rows, labels, features="table", steps=4, threads=1)
    # The task says 0.3 where the spectrum reaches beyond 1: the solve diverges.
    spec = replace(honest.public.spec, upper=0.3)
    task = replace(honest, public=replace(honest.public, spec=spec))
    keys = Keys.create(task)
    model = cl.server.train(keys.encrypt(rows, labels), keys.evaluation)
    with pytest.raises(RangeError, match="the bounds do not fit these images"):
        keys.secrets.open(model)
    with pytest.raises(RangeError):
        keys.decrypt(cl.server.classify(model, keys.encrypt(rows), keys.evaluation))


def contributed(keys: Keys, factor: float, rows: Floats, labels: Numbers) -> EncryptedImages:
    """What a contributor sends whose features are scaled, after whitening, by a factor."""
    task = keys.public.task
    fitted = task.feature_map.whitening
    scaled = FeatureMap(task.feature_map.base, Whitening(fitted.mean, fitted.matrix * factor))
    return replace(keys.public, task=replace(task, feature_map=scaled)).encrypt(rows, labels)


@pytest.fixture(scope="module", params=[("ridge", 3), ("fisher", 3), ("linear_means", 3)], ids=lambda p: p[0])
def every_learner(request: pytest.FixtureRequest) -> tuple[Task, Keys, Floats, Numbers]:
    learner, classes = request.param
    return planned(240, classes, learner, steps=4)


@pytest.mark.parametrize("factor", [4.0, 0.2])
def test_scaled_images_of_a_contributor_are_noticed(
    every_learner: tuple[Task, Keys, Floats, Numbers], factor: float
) -> None:
    _, keys, rows, labels = every_learner
    data = [keys.encrypt(rows[:40], labels[:40]), contributed(keys, factor, rows, labels)]
    model = cl.server.train(data, keys.evaluation)
    with pytest.raises(RangeError):
        keys.secrets.open(model)


def test_images_of_another_distribution_from_a_contributor_are_noticed(
    every_learner: tuple[Task, Keys, Floats, Numbers],
) -> None:
    _, keys, rows, labels = every_learner
    # Measured in other units: a column that hardly varied now dominates, and its zero lies elsewhere.
    theirs = rows * np.geomspace(1, 30, FEATURES) + 5 * labels[:, None]
    data = [keys.encrypt(rows, labels), keys.public.encrypt(theirs, labels)]
    model = cl.server.train(data, keys.evaluation)
    with pytest.raises(RangeError):
        keys.secrets.open(model)
    with pytest.raises(RangeError):
        keys.decrypt(cl.server.classify(model, keys.encrypt(rows[:9]), keys.evaluation))


def test_linear_means_notice_scaled_images_when_all_are_and_not_when_a_quarter_is() -> None:
    """What docs/how-it-works.md says of them."""
    _, keys, rows, labels = planned(240, 3, "linear_means")
    for factor, words in ((3.0, "class means alone"), (0.5, "far apart as in the clear images")):
        model = cl.server.train(contributed(keys, factor, rows, labels), keys.evaluation)
        with pytest.raises(RangeError, match=words):
            keys.secrets.open(model)
    few = [contributed(keys, 3.0, rows[:60], labels[:60]), keys.encrypt(rows[60:], labels[60:])]
    keys.secrets.open(cl.server.train(few, keys.evaluation))


def rare_class(n: int, rare: int, seed: int = 1) -> tuple[Floats, Numbers]:
    """One image in `rare` belongs to class 1, far from the others."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % rare == 0).astype(np.int64)
    rows = rng.normal(size=(n, 7))
    rows[:, 0] += 12 * labels
    return rows, labels


@pytest.mark.parametrize("learner", ["linear_means", "fisher"])
def test_a_batch_of_a_rare_class_does_not_wrap(learner: Any) -> None:
    """Means of rare classes lie far out: a ciphertext full of them must not exceed the first prime unseen."""
    rows, labels = rare_class(1000, 50)
    task = cl.plan(rows, labels, learner=learner, features="table", steps=2, threads=1)
    queries = np.random.default_rng(2).normal(size=(task.public.circuit.layout.images, 7)) + 12 * np.eye(7)[0]
    keys = Keys.create(task)
    model = cl.server.train(keys.encrypt(rows, labels), keys.evaluation)
    answers = keys.decrypt(cl.server.classify(model, keys.encrypt(queries), keys.evaluation))
    expected = twin(task, rows, labels).scores(task.feature_map.transform(queries))
    np.testing.assert_allclose(answers.scores[:, 1:], expected, atol=0.02 * np.abs(expected).max())
    assert (answers.numbers == 1).all()

    # The same learner in a ring that was chosen for classes of one size: refused, not answered wrongly.
    narrow = replace(task, public=replace(task.public, parameters=choose_parameters(task.public.spec)))
    keys = Keys.create(narrow)
    model = cl.server.train(keys.encrypt(rows, labels), keys.evaluation)
    with pytest.raises(RangeError, match="Scores of class 1 reach"):
        keys.decrypt(cl.server.classify(model, keys.encrypt(queries), keys.evaluation))


def test_more_classes_than_columns() -> None:
    """Three columns of numbers and five classes: each class needs a column of scores."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 5
    rows = rng.normal(size=(300, 3)) + 4 * rng.normal(size=(5, 3))[labels]
    task = cl.plan(rows, labels, features="table", steps=1, threads=1)
    assert task.public.spec.dimension == 8
    keys = Keys.create(task)
    model = cl.server.train(keys.encrypt(rows, labels), keys.evaluation)
    answers = keys.decrypt(cl.server.classify(model, keys.encrypt(rows), keys.evaluation))
    assert np.array_equal(answers.numbers, twin(task, rows, labels).predict(task.feature_map.transform(rows)))
    with pytest.raises(PlanError, match="5 classes need 8 columns or more, and there are 4"):
        cl.plan(rows, labels, features="table", steps=1, dimension=4, threads=1)


def test_a_data_set_counts_once(two_classes: tuple[Task, Keys, Floats, Numbers], tmp_path: Any) -> None:
    """The same encryption under another name is no second data set."""
    _, keys, rows, labels = two_classes
    data = keys.encrypt(rows, labels)
    data.save(tmp_path / "copy.cl")
    with pytest.raises(InputError, match="given twice"):
        cl.server.train([data, EncryptedImages.load(tmp_path / "copy.cl")], keys.evaluation)


@pytest.mark.parametrize(("learner", "classes"), [("ridge", 2), ("ridge", 5), ("fisher", 3), ("linear_means", 4)])
@pytest.mark.parametrize("seed", [0, 1])
def test_honest_tasks_planned_and_encrypted_raise_nothing(learner: str, classes: int, seed: int) -> None:
    """Each with a plan and keys of its own, and heavy tails, a rare class or columns in unlike units."""
    rng = np.random.default_rng(seed)
    rows, labels = blobs(260, classes, seed=200 + seed)
    rows = np.sinh(rows / 2) if seed else rows * np.geomspace(1e-3, 1e3, FEATURES)
    kept = np.flatnonzero((labels > 0) | (rng.random(len(labels)) < 0.5))
    rows, labels = rows[kept], labels[kept]
    task = cl.plan(rows, labels, learner=learner, features="table", steps=4, seed=seed, threads=2)  # type: ignore[arg-type]
    keys = Keys.create(task)
    model = cl.server.train(
        [keys.encrypt(rows[::2], labels[::2]), keys.public.encrypt(rows[1::2], labels[1::2])], keys.evaluation
    )
    agree(
        keys.secrets.open(model),
        twin(task, np.vstack([rows[::2], rows[1::2]]), np.concatenate([labels[::2], labels[1::2]])),
    )
    keys.decrypt(cl.server.classify(model, keys.encrypt(rows[:50]), keys.evaluation))


def test_honest_tasks_raise_nothing(two_classes: tuple[Task, Keys, Floats, Numbers]) -> None:
    _, keys, _, _ = two_classes
    for seed in range(20):
        rows, labels = blobs(160, 2, seed=100 + seed)
        keys.secrets.open(cl.server.train(keys.encrypt(rows, labels), keys.evaluation))


# --- the same bytes everywhere ---------------------------------------------------------------------------------------


def test_models_and_replies_are_the_same_bytes_everywhere(
    two_classes: tuple[Task, Keys, Floats, Numbers], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, keys, rows, labels = two_classes
    data, query = keys.encrypt(rows, labels), keys.encrypt(rows[:50])

    def outcome(threads: int) -> tuple[dict[str, bytes], bytes]:
        model = cl.server.train(data, keys.evaluation, threads=threads)
        reply = cl.server.classify(model, query, keys.evaluation, threads=threads)
        return {name: table.tobytes() for name, table in model.tables.items()}, reply.scores.tobytes()

    expected = outcome(1)
    assert outcome(2) == expected
    for kernel in available_kernels():
        monkeypatch.setenv("CIPHERLENS_KERNEL", kernel)
        assert Engine(data.task.parameters).kernel == kernel
        assert outcome(2) == expected


def test_files_give_what_memory_gives(two_classes: tuple[Task, Keys, Floats, Numbers], tmp_path: Any) -> None:
    _, keys, rows, labels = two_classes
    data, query = keys.encrypt(rows, labels), keys.public.encrypt(rows[:9])
    model = cl.server.train(data, keys.evaluation)
    reply = cl.server.classify(model, query, keys.evaluation)
    for item, name in ((data, "data"), (query, "query"), (model, "model"), (reply, "reply")):
        item.save(tmp_path / name)
    again = cl.server.train(EncryptedImages.load(tmp_path / "data"), keys.evaluation)
    assert all(np.array_equal(again.tables[name], table) for name, table in model.tables.items())
    from_files = cl.server.classify(
        TrainedModel.load(tmp_path / "model"), EncryptedImages.load(tmp_path / "query"), keys.evaluation
    )
    assert np.array_equal(from_files.scores, reply.scores)
    read = keys.decrypt(Reply.load(tmp_path / "reply"))
    assert np.array_equal(read.scores, keys.decrypt(reply).scores)


def test_only_planned_keys_are_used(two_classes: tuple[Task, Keys, Floats, Numbers]) -> None:
    task, keys, _, _ = two_classes
    evaluator = Evaluator(Engine(task.public.parameters), keys.evaluation)
    assert set(keys.evaluation.keys) == {request.number for request in task.public.circuit.key_requests()}
    with pytest.raises(KeyMismatch, match="no key for the automorphism"):
        evaluator.key(pow(5, 7, 2 * task.public.parameters.ring_dimension))


class CountingRing:
    """A ring that counts key switches: whole ones, and those of a shared decomposition."""

    def __init__(self, ring: Any) -> None:
        self.ring, self.switches = ring, 0

    def __getattr__(self, name: str) -> Any:
        if name in ("key_switch", "key_switch_digits"):
            self.switches += 1
        return getattr(self.ring, name)


@pytest.mark.parametrize(("learner", "classes"), [("ridge", 2), ("ridge", 4), ("fisher", 3), ("linear_means", 2)])
def test_the_forecast_counts_every_key_switch(learner: str, classes: int) -> None:
    task, keys, rows, labels = planned(200, classes, learner, dimension=64, ring_dimension=1 << 13, steps=1)
    engine = Engine(task.public.parameters)
    ring = CountingRing(engine.ring)
    object.__setattr__(engine, "ring", ring)
    data = keys.encrypt(rows, labels)
    cl.server.train(data, keys.evaluation, threads=1, engine=engine)
    assert len(data.rows) == 2
    assert task.cost is not None
    assert task.cost.key_switches == ring.switches


def test_a_forecast_grows_with_what_it_is_for(two_classes: tuple[Task, Keys, Floats, Numbers]) -> None:
    task = two_classes[0].public
    known = speed(Engine(task.parameters), 1)
    few, many = forecast(task, 100, 100, known, 1), forecast(task, 60_000, 60_000, known, 1)
    assert 0.2 < few.train_seconds < many.train_seconds < 3600
    assert few.classify_seconds < many.classify_seconds
    assert few.memory_bytes < many.memory_bytes < 2 * few.memory_bytes + 1e9  # bounded, whatever the images
    assert few.evaluation_key_bytes == many.evaluation_key_bytes
