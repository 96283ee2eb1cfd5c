"""Recipes on images that are encrypted already: the twin's weights, the keys of the plan, and the envelope's ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import cipherlens as cl
from cipherlens.errors import KeyMismatch, PlanError
from cipherlens.learning.learners import LearnerKind
from cipherlens.learning.recipes import Envelope, Recipe, missing_keys, refusal, widest
from cipherlens.learning.twin import fit_clear
from cipherlens.owner.keys import Keys

Table = NDArray[np.float64]

STEPS = 3


def blobs(count: int, classes: int, seed: int) -> tuple[Table, list[str]]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(3).normal(size=(classes, 6)) * 1.5
    numbers = np.arange(count) % classes
    return rng.normal(size=(count, 6)) + centres[numbers], [f"c{n}" for n in numbers]


def owner(classes: int, learner: LearnerKind = "ridge") -> Keys:
    rows, labels = blobs(200, classes, 1)
    task = cl.plan(rows, labels, learner=learner, features="table", threads=1, steps=STEPS)
    return Keys.create(task, threads=2)


def levels(keys: Keys) -> Mapping[int, int]:
    return {r.number: r.level for r in keys.task.public.circuit.key_requests()}


@pytest.fixture(scope="module", params=[2, 3])
def keys(request: pytest.FixtureRequest) -> Keys:
    return owner(request.param)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("linear_means"),
        Recipe("ridge", 1, 0.1),
        Recipe("ridge", 2, 0.4),
        Recipe("fisher", 3, 0.3),
        Recipe("ridge", 3, 0.2),
    ],
    ids=str,
)
def test_every_recipe_is_its_twin_with_the_keys_of_the_plan(keys: Keys, recipe: Recipe) -> None:
    classes = keys.task.public.spec.classes
    rows, labels = blobs(200, classes, 1)
    queries, _ = blobs(60, classes, 2)
    model = cl.server.train(keys.encrypt(rows, labels), keys.evaluation, recipe=recipe)
    reply = cl.server.classify(model, keys.encrypt(queries), keys.evaluation)
    answers = keys.decrypt(reply, recipe)
    spec = recipe.applied(keys.task.public).spec
    assert (spec.kind, model.task.spec) == (recipe.learner, spec)
    expected = fit_clear(spec, keys.task.feature_map.transform(rows), np.arange(200) % classes)
    for name in ("weights", "right_hand_side", "residual"):
        np.testing.assert_allclose(getattr(answers.model, name), getattr(expected, name), rtol=0, atol=5e-4)
    assert np.array_equal(answers.numbers, expected.predict(keys.task.feature_map.transform(queries)))
    np.testing.assert_allclose(keys.secrets.open(model, recipe).weights, expected.weights, rtol=0, atol=5e-4)


def test_the_same_recipe_gives_the_same_bytes(keys: Keys) -> None:
    rows, labels = blobs(100, keys.task.public.spec.classes, 1)
    data, recipe = keys.encrypt(rows, labels), Recipe("ridge", 2, 0.25)
    first, second = (cl.server.train(data, keys.evaluation, recipe=recipe, threads=n) for n in (1, 2))
    assert {n: t.tobytes() for n, t in first.tables.items()} == {n: t.tobytes() for n, t in second.tables.items()}
    own = cl.server.train(data, keys.evaluation)
    stated = cl.server.train(data, keys.evaluation, recipe=Recipe.of(keys.task.public))
    assert own.task.id == stated.task.id
    assert np.array_equal(own.tables["weights"], stated.tables["weights"])


def test_a_reply_decrypts_only_by_the_recipe_that_the_owner_states(keys: Keys) -> None:
    rows, labels = blobs(100, keys.task.public.spec.classes, 1)
    recipe = Recipe("ridge", 2, 0.25)
    model = cl.server.train(keys.encrypt(rows, labels), keys.evaluation, recipe=recipe)
    reply = cl.server.classify(model, keys.encrypt(rows[:10]), keys.evaluation)
    for stated in (None, Recipe("ridge", 3, 0.25), Recipe("fisher", 2, 0.25), Recipe("linear_means")):
        with pytest.raises(KeyMismatch, match="another recipe"):
            keys.decrypt(reply, stated)
    # A header that claims the stated recipe changes nothing: sizes and scales are those of the statement.
    forged = replace(reply, task=Recipe("linear_means").applied(keys.task.public))
    with pytest.raises(cl.errors.FormatError):
        keys.decrypt(forged, Recipe("linear_means"))


def test_models_and_images_of_other_tasks_do_not_meet(keys: Keys) -> None:
    classes = keys.task.public.spec.classes
    rows, labels = blobs(100, classes, 1)
    model = cl.server.train(keys.encrypt(rows, labels), keys.evaluation, recipe=Recipe("linear_means"))
    foreign = owner(classes).encrypt(rows)
    with pytest.raises(KeyMismatch, match="another task"):
        cl.server.classify(model, replace(foreign, key_id=model.key_id), keys.evaluation)


def test_the_widest_envelope(keys: Keys) -> None:
    envelope = widest(keys.task.public, levels(keys))
    assert set(envelope.learners) == {"ridge", "fisher", "linear_means"}
    assert envelope.steps == (1, STEPS)
    assert envelope.ridge[0] < keys.task.public.spec.ridge <= envelope.ridge[1]
    for recipe in envelope.corners():
        assert missing_keys(recipe.applied(keys.task.public).circuit.key_requests(), levels(keys)) == 0


def test_keys_of_linear_means_carry_nothing_else() -> None:
    keys = owner(2, "linear_means")
    assert widest(keys.task.public, levels(keys)).learners == ("linear_means",)
    wanted = Envelope(("ridge",), (1, 1), (0.2, 0.2))
    with pytest.raises(PlanError, match="keys are missing"):
        wanted.require(keys.task.public, levels(keys))
    rows, labels = blobs(50, 2, 1)
    with pytest.raises(KeyMismatch, match="missing"):
        cl.server.train(keys.encrypt(rows, labels), keys.evaluation, recipe=Recipe("ridge", 1, 0.2))


def test_beyond_the_ring_and_the_range(keys: Keys) -> None:
    task = keys.task.public
    for steps in (STEPS + 1, 60):
        wanted = Envelope(("ridge",), (1, steps), (0.2, 0.2))
        with pytest.raises(PlanError, match=f"ridge, {steps} steps.*levels"):
            wanted.require(task, levels(keys))
    wide = Envelope(("ridge", "fisher"), (1, STEPS), (0.01, 1000.0))
    if task.spec.classes > 2:
        wide.require(task, levels(keys))  # several columns have a scale of their own
    else:
        with pytest.raises(PlanError, match="can be read up to"):
            wide.require(task, levels(keys))


@given(
    learner=st.sampled_from(["ridge", "fisher"]),
    steps=st.integers(1, STEPS),
    share=st.floats(0, 1),
)
def test_what_lies_between_the_corners_can_be_trained(
    keys: Keys, learner: LearnerKind, steps: int, share: float
) -> None:
    envelope = widest(keys.task.public, levels(keys))
    ridge = envelope.ridge[0] + share * (envelope.ridge[1] - envelope.ridge[0])
    recipe = Recipe(learner, steps, min(ridge, envelope.ridge[1]))
    envelope.check(recipe)
    assert refusal(keys.task.public, levels(keys), recipe) is None


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe("ridge", 9, 0.2), "steps 9; this publication allows 2 to 6"),
        (Recipe("ridge", 1, 0.2), "steps 1; this publication allows 2 to 6"),
        (Recipe("ridge", 3, 0.05), r"ridge 0.05; this publication allows 0.1 to 0.4"),
        (Recipe("ridge", 3, 0.5), r"ridge 0.5; this publication allows 0.1 to 0.4"),
        (Recipe("fisher", 3, 0.2), "learner fisher; this publication allows ridge"),
        (Recipe("linear_means"), "learner linear_means; this publication allows ridge"),
    ],
    ids=str,
)
def test_what_is_outside_is_named(recipe: Recipe, words: str) -> None:
    envelope = Envelope(("ridge",), (2, 6), (0.1, 0.4))
    envelope.check(Recipe("ridge", 2, 0.1))
    envelope.check(Recipe("ridge", 6, 0.4))
    with pytest.raises(PlanError, match=words):
        envelope.check(recipe)


def test_recipes_that_are_none(keys: Keys) -> None:
    for wrong in (("ridge",), ("fisher", 3), ("linear_means", 3, 0.2), ("forest", 3, 0.2), ("ridge", 3, float("nan"))):
        with pytest.raises(PlanError):
            Recipe(*wrong)  # type: ignore[arg-type]
    for steps in (0, 65):
        with pytest.raises(PlanError, match="steps"):
            Recipe("ridge", steps, 0.2).applied(keys.task.public)
