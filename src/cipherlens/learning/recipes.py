"""Recipes: another learner for a task whose images are encrypted already, and the envelope of those that its keys allow.

Ring, images and keys stay those of the task. A recipe changes the learner, its steps and its ridge lambda, nothing
else, and the bounds follow: the task's `upper` bounds the largest eigenvalue of G = X^T X / n whatever lambda is, so
A = G + lambda I has its spectrum within [lambda, upper + lambda]. Three things end the envelope:

    levels   T steps cost T - 1 of them, and the ring has what the task was planned with
    keys     linear means use no scatter matrix, so keys made for them train nothing else; keys of the other two learners
             serve all three, for every T up to the planned one, since the solve starts as low as its T allows
    range    with one column the solve's iterate exceeds W by 1/(scale tau_T), which grows with T and lambda; the first
             prime has to hold scores at that scale
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from cipherlens.errors import PlanError
from cipherlens.learning.learners import LearnerKind
from cipherlens.learning.task import PublicTask
from cipherlens.scheme.keys import KeyRequest

LEAST_ROOM = 4.0
"""What scores of a recipe may reach at least, as `Circuit.largest_score` counts. Ridge has targets of 1; for the others
p mu^T A^-1 mu is below 1 for a class of share p, and the owner's `check_scores` has the last word."""

RIDGE_STEPS = 4
"""The widest envelope goes from half the planned ridge to twice it, or to the last of so many equal ratios that fits."""


@dataclass(frozen=True)
class Recipe:
    """What a trainer chooses. Raises PlanError for what no task can train.

    Attributes:
        learner: ridge, fisher or linear_means.
        steps: T, Chebyshev steps; None for linear_means, which solves nothing.
        ridge: lambda; None for linear_means.
    """

    learner: LearnerKind
    steps: int | None = None
    ridge: float | None = None

    def __post_init__(self) -> None:
        if self.learner not in get_args(LearnerKind):
            raise PlanError(f"there is no learner called {self.learner!r}; choose {', '.join(get_args(LearnerKind))}")
        given = self.steps is not None, self.ridge is not None
        if self.learner == "linear_means" and any(given):
            # Else one model had many recipes.
            raise PlanError("linear_means solves nothing, so it has neither steps nor ridge; leave them away")
        if self.learner != "linear_means" and not all(given):
            raise PlanError(f"a recipe of {self.learner} has steps and ridge; give both")
        if self.ridge is not None and not (np.isfinite(self.ridge) and self.ridge > 0):
            raise PlanError(f"the ridge must be a positive number, not {self.ridge}; 0.2 suits whitened features")

    def __str__(self) -> str:
        if self.steps is None:
            return self.learner
        return f"{self.learner}, {self.steps} step{'s' if self.steps > 1 else ''}, ridge {self.ridge:g}"

    @classmethod
    def of(cls, task: PublicTask) -> Recipe:
        """The recipe that a task has itself."""
        spec = task.spec
        return cls(spec.kind, spec.steps, spec.ridge) if spec.solves else cls(spec.kind)

    def applied(self, task: PublicTask) -> PublicTask:
        """The task of this recipe on the images of `task`: same ring, nonce, columns, classes and bound.

        Raises:
            PlanError: it needs more levels than the ring has, or its scores may leave the range.
        """
        spec = task.spec
        if self.steps is None or self.ridge is None:
            wanted = replace(spec, kind=self.learner)
        else:
            wanted = replace(spec, kind=self.learner, steps=self.steps, ridge=float(self.ridge))
        derived = replace(task, spec=wanted)
        if derived.id != task.id and derived.circuit.largest_score < LEAST_ROOM:
            raise PlanError(
                f"scores of {self} can be read up to {derived.circuit.largest_score:.2g}, and {LEAST_ROOM:g} are needed; "
                "use fewer steps or a smaller ridge"
            )
        return derived


def missing_keys(requests: Sequence[KeyRequest], levels: Mapping[int, int]) -> int:
    """How many of the requested keys are not among those of these numbers and highest levels."""
    return sum(levels.get(request.number, -1) < request.level for request in requests)


@dataclass(frozen=True)
class Envelope:
    """The recipes that a publication allows.

    Attributes:
        learners: by name, each once.
        steps, ridge: the smallest and the largest, both allowed.
    """

    learners: tuple[LearnerKind, ...]
    steps: tuple[int, int]
    ridge: tuple[float, float]

    def __str__(self) -> str:
        learners = ", ".join(self.learners)
        if self.learners == ("linear_means",):
            return learners
        return f"{learners}; steps {self.steps[0]} to {self.steps[1]}; ridge {self.ridge[0]:g} to {self.ridge[1]:g}"

    def check(self, recipe: Recipe) -> None:
        """Raise PlanError, naming what is outside and by how much, unless the envelope allows the recipe."""
        if recipe.learner not in self.learners:
            raise PlanError(f"learner {recipe.learner}; this publication allows {', '.join(self.learners)}")
        for name, value, (least, most) in (("steps", recipe.steps, self.steps), ("ridge", recipe.ridge, self.ridge)):
            if value is not None and not least <= value <= most:
                raise PlanError(f"{name} {value:g}; this publication allows {least:g} to {most:g}")

    def corners(self) -> list[Recipe]:
        """Recipes between which all others lie: keys and levels grow with the steps, the range with steps and ridge."""
        found = [Recipe("linear_means")] if "linear_means" in self.learners else []
        for learner in self.learners:
            if learner != "linear_means":
                found += [Recipe(learner, steps, ridge) for steps in self.steps for ridge in self.ridge]
        return found

    def require(self, task: PublicTask, levels: Mapping[int, int]) -> None:
        """Check that a task and its keys carry all of it.

        levels: the highest level of each key, by its number. Raises PlanError naming the recipe that they do not carry.
        """
        if not self.learners or len(set(self.learners)) < len(self.learners):
            raise PlanError("an envelope names at least one learner, each once")
        if self.steps[0] > self.steps[1] or self.ridge[0] > self.ridge[1]:
            raise PlanError("an envelope goes from the smaller number to the larger one; exchange them")
        for recipe in self.corners():
            reason = refusal(task, levels, recipe)
            if reason is not None:
                raise PlanError(f"the published keys do not carry {recipe}: {reason}")


def refusal(task: PublicTask, levels: Mapping[int, int], recipe: Recipe) -> str | None:
    """Why a task with keys of these levels cannot train a recipe, None when it can."""
    try:
        missing = missing_keys(recipe.applied(task).circuit.key_requests(), levels)
    except PlanError as error:
        return str(error)
    return f"{missing} keys are missing; plan with ridge or fisher" if missing else None


def widest(task: PublicTask, levels: Mapping[int, int]) -> Envelope:
    """The envelope that a task and keys of these levels allow, with lambda around the planned one.

    Raises:
        PlanError: not even the task's own recipe.
    """
    spec = task.spec
    kinds: tuple[LearnerKind, ...] = get_args(LearnerKind)

    def allowed(learner: LearnerKind, ridge: float) -> bool:
        recipe = Recipe(learner) if learner == "linear_means" else Recipe(learner, spec.steps, ridge)
        return refusal(task, levels, recipe) is None

    learners = tuple(kind for kind in kinds if allowed(kind, spec.ridge))
    solving = [kind for kind in learners if kind != "linear_means"]
    ratios = [2.0 ** (i / RIDGE_STEPS) for i in range(RIDGE_STEPS, -1, -1)]
    most = next((spec.ridge * r for r in ratios if all(allowed(kind, spec.ridge * r) for kind in solving)), spec.ridge)
    envelope = Envelope(learners, (1, spec.steps), (spec.ridge / 2, most))
    envelope.require(task, levels)
    return envelope
