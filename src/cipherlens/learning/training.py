"""Training on encrypted images: one pass over them, then a solve whose cost does not depend on their number.

The slot arithmetic, step by step (n images, D features, B positions, k columns; levels count from the top, L):

    scatter      level L      z * conj(rot_m z) summed over ciphertexts, m = 0 ... D/2, baby step giant step
                 level L - 1  relinearised and rescaled in one division, folded over b into b = 0
                 level L - 2  masked at b = 0 with the factor of the solve and 1/n, spread over b if there are several
                              columns; of millions of images, a part of 1/n takes a level of its own
    class sums   level L - 2  images times clear label masks, folded, masked, column c moved to position b = c
    solve        T - 1 products with the scatter matrix, one level each; where the ring has levels to spare, it starts below
                 level L - 2, so that it ends where scores need it
    residual     one more product

Imaginary parts of the scatter diagonals are not zero (z z^H = G + i A): each product is followed by y + conj(y).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError, PlanError
from cipherlens.learning.circuit import Circuit
from cipherlens.learning.positions import fold_positions, spread_positions
from cipherlens.scheme.ciphertext import Ciphertext, Plaintext
from cipherlens.scheme.evaluator import Evaluator

Progress = Callable[[str, float], None]
"""Called with the name of the stage and the share of all work done, 0 to 1."""

GROUP = 4
"""Ciphertexts taken into the scatter sums at a time: their rotations are held in memory together."""

PASS_SHARE = 0.6
"""Share of all work, as `Progress` counts it, that the pass over the images is."""


@dataclass(frozen=True, eq=False)
class Batch:
    """One ciphertext of images and their class numbers, int (2B,), -1 where there is no image."""

    ciphertext: Ciphertext
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EncryptedModel:
    """What training gives.

    Attributes:
        weights: W, column c at position b = c. Its scale includes 1 / tau_T.
        centres: half the class means (two columns: half their sum) for learners with a bias, else None.
        right_hand_side: R.
        residual: `spec.schedule.gram` times (R - A W); None where nothing is solved.
    """

    weights: Ciphertext
    centres: Ciphertext | None
    right_hand_side: Ciphertext
    residual: Ciphertext | None


def label_weights(
    circuit: Circuit, counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """How much an image of class c (row) adds to column j of R and of the centres, before the division by n."""
    spec, n = circuit.spec, int(counts.sum())
    if spec.kind == "ridge":
        return (np.array([[-1.0], [1.0]]) if spec.classes == 2 else np.eye(spec.classes)), None
    share = n / counts
    if spec.classes == 2:
        return np.array([[-share[0]], [share[1]]]), 0.5 * share[:, None]
    return np.diag(share), np.diag(0.5 * share)


@dataclass(frozen=True, eq=False)
class Sums:
    """What the pass over some images makes of them: all that it is at, or a share of it. See `merge`.

    Attributes:
        batches: how many were taken in; where a pass goes on from its sums, from the first on.
        diagonals: the scatter sums, float64 (3, limbs, N) each; none for learners that solve nothing.
        columns: the class sums, one ciphertext a column.
    """

    batches: int
    diagonals: Sequence[NDArray[np.float64]]
    columns: Sequence[Ciphertext]


def merge(evaluator: Evaluator, parts: Sequence[Sums]) -> Sums:
    """The sums of the images of all parts together.

    Residues are added modulo their primes and every sum has one representation, so the order of images and parts
    changes no bit. The result shares no memory with the parts.
    """

    def added(first: NDArray[np.float64], *others: NDArray[np.float64]) -> NDArray[np.float64]:
        total = first.copy()
        for other in others:
            total = evaluator.engine.ring.add(total, other, evaluator.threads)
        return total

    diagonals = [added(*same) for same in zip(*(part.diagonals for part in parts), strict=True)]
    columns = [
        Ciphertext(added(*(c.data for c in same)), same[0].scale)
        for same in zip(*(part.columns for part in parts), strict=True)
    ]
    return Sums(sum(part.batches for part in parts), diagonals, columns)


class Checkpoints(Protocol):
    """Where a training leaves its sums, so that another process can go on from there."""

    def load(self) -> Sums | None:
        """What was saved last, None when nothing was. The arrays are the trainer's own from then on."""

    def due(self) -> bool:
        """Whether it is time to save; asked after each group of batches."""

    def save(self, sums: Sums) -> None:
        """Save; the arrays change once this returns."""


class Trainer:
    """One pass over encrypted images, then the solve.

    Memory does not depend on the number of images: D/2 + 1 sums of three parts, and the rotations of GROUP
    ciphertexts. Key switches: g + D/(2g) a ciphertext; about (D/2)(1 + 2 log2 B) + 4 T sqrt(D/2) after them.
    """

    def __init__(self, circuit: Circuit, evaluator: Evaluator, counts: NDArray[np.int64]) -> None:
        """counts: (k,), images of each class in all data together.

        Raises:
            InputError: a class is empty.
            PlanError: more images than the scales of the plan can average.
        """
        if counts.shape != (circuit.spec.classes,) or counts.min() < 1:
            raise InputError(f"training needs at least one image of each of the {circuit.spec.classes} classes")
        self.circuit, self.evaluator, self.counts = circuit, evaluator, counts
        self.images = int(counts.sum())
        circuit.require_averaged(self.images)
        self._second = circuit.second_division(self.images)
        self.targets, self.centre_weights = label_weights(circuit, counts)
        self._diagonals: list[NDArray[np.float64]] = []
        self._sums: list[Ciphertext] = []
        self._done = 0

    def state(self) -> Sums:
        """How far the pass is. The arrays are not copied: `train` changes them."""
        return Sums(self._done, tuple(self._diagonals), tuple(self._sums))

    def restore(self, sums: Sums) -> None:
        """Go on from a state of the same data, circuit and counts; `train` then expects the batches after it."""
        self._done, self._diagonals, self._sums = sums.batches, list(sums.diagonals), list(sums.columns)

    def train(
        self,
        batches: Iterable[Batch],
        total: int,
        progress: Progress | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> EncryptedModel:
        """Train on `total` batches, of which `batches` are those that `restore` did not bring.

        progress: see `Progress`.
        """
        report = progress or (lambda stage, share: None)
        for _ in self.take(batches):
            if checkpoints is not None and checkpoints.due():
                checkpoints.save(self.state())
            report("images", PASS_SHARE * self._done / total)
        return self.finish(progress)

    def take(self, batches: Iterable[Batch]) -> Iterator[None]:
        """Take batches into the sums, a group of them with each step of the iteration."""
        for group in _groups(batches, GROUP):
            self._add(group)
            self._done += len(group)
            yield

    def finish(self, progress: Progress | None = None) -> EncryptedModel:
        """The model of all batches that were taken in; the sums are used up. progress: see `Progress`."""
        report = progress or (lambda stage, share: None)
        spec = self.circuit.spec
        right_hand_side, centres = self._finish_sums()
        if not spec.solves:
            report("done", 1.0)
            return EncryptedModel(right_hand_side, centres, right_hand_side, None)
        diagonals = self._finish_scatter(lambda share: report("scatter matrix", PASS_SHARE + 0.25 * share))
        weights, residual = self._solve(diagonals, right_hand_side, lambda share: report("solve", 0.85 + 0.15 * share))
        return EncryptedModel(weights, centres, right_hand_side, residual)

    # ---- one pass ---------------------------------------------------------------------------------------------

    def _add(self, group: list[Batch]) -> None:
        circuit, evaluator = self.circuit, self.evaluator
        self._add_class_sums(group)
        if not circuit.spec.solves:
            return
        elements = circuit.baby_elements + circuit.giant_elements
        rotated = evaluator.map(
            lambda single, batch: [c.data for c in single.hoisted(batch.ciphertext, elements)], group
        )
        if not self._diagonals:
            shape = (3, circuit.top + 1, circuit.parameters.ring_dimension)
            self._diagonals = [np.zeros(shape) for _ in range(circuit.spec.dimension // 2 + 1)]
        g = circuit.baby
        evaluator.engine.ring.accumulate_scatter(
            self._diagonals, [r[:g] for r in rotated], [r[g:] for r in rotated], evaluator.threads
        )

    def _add_class_sums(self, group: list[Batch]) -> None:
        """sum over images of weight * image, one ciphertext a column; Re(conj(mu) z) = x mu_re + y mu_im."""
        layout, evaluator, level = self.circuit.layout, self.evaluator, self.circuit.top
        tables = [self.targets] if self.centre_weights is None else [self.targets, self.centre_weights]
        columns = [table[:, j] for table in tables for j in range(table.shape[1])]

        def masked(single: Evaluator, weights: NDArray[np.float64]) -> Ciphertext:
            masks: list[Plaintext] = []
            for batch in group:
                values = np.where(batch.labels >= 0, weights[batch.labels], 0.0)
                first, second = values[: layout.batch], values[layout.batch :]
                masks.append(single.encode(layout.per_image(first - 1j * second), level))
            return single.plain_products([batch.ciphertext for batch in group], masks)

        sums = evaluator.map(masked, columns)
        self._sums = [evaluator.add(*pair) for pair in zip(self._sums, sums, strict=True)] if self._sums else sums

    # ---- after the pass ---------------------------------------------------------------------------------------

    def _finish_sums(self) -> tuple[Ciphertext, Ciphertext | None]:
        circuit, evaluator = self.circuit, self.evaluator
        if not self._sums:
            raise InputError("there are no encrypted images to train on")
        # 1/2 because y + conj(y) is twice the real part.
        keep = evaluator.encode(circuit.layout.at_first_position(0.5 * self._second / self.images), circuit.top - 1)

        finished = evaluator.map(
            lambda single, c: single.multiply_plain(fold_positions(circuit, single, single.rescale(c)), keep),
            self._sums,
        )
        k = circuit.spec.columns
        return self._gather(finished[:k]), self._gather(finished[k:]) if finished[k:] else None

    def _gather(self, columns: list[Ciphertext]) -> Ciphertext:
        """Column c to position b = c (by Horner with one key), real, rescaled."""
        evaluator = self.evaluator
        result = columns[-1]
        for column in reversed(columns[:-1]):
            result = evaluator.add(evaluator.rotate(result, -1), column)
        return self._divided(evaluator, evaluator.real(result))

    def _divided(self, evaluator: Evaluator, c: Ciphertext) -> Ciphertext:
        """Rescaled, divided by what the first factor has left of n, and at the solve's level."""
        c = evaluator.rescale(c)
        if self._second > 1:
            prime = float(self.circuit.parameters.primes[c.level])
            divided = evaluator.rescale(evaluator.combine([(c, 1 / self._second)], c.scale * prime))
            c = Ciphertext(divided.data, c.scale)  # times a prime and divided by it, a float may not be what it was
        return evaluator.truncate(c, self.circuit.solve_level)

    def _finish_scatter(self, progress: Callable[[float], None]) -> list[Ciphertext]:
        """Diagonals of gram/2 * G plus current/2 * I, so that a step is one product: at the solve's level."""
        circuit, evaluator, schedule = self.circuit, self.evaluator, self.circuit.spec.schedule
        layout, spread = circuit.layout, self.circuit.spec.columns > 1
        scale = evaluator.scale(circuit.top) * evaluator.scale(circuit.top)
        keep = evaluator.encode(
            layout.at_first_position(0.5 * schedule.gram * self._second / self.images), circuit.top - 1
        )
        done = 0

        def finish(single: Evaluator, sums: NDArray[np.float64]) -> Ciphertext:
            nonlocal done
            c = single.relinearise(Ciphertext(sums, scale), rescale=True)
            c = single.multiply_plain(fold_positions(circuit, single, c), keep)
            if spread:
                c = spread_positions(circuit, single, c)
            done += 1
            progress(done / len(self._diagonals))
            return self._divided(single, c)

        diagonals = evaluator.map(finish, self._diagonals)
        self._diagonals = []
        identity = evaluator.encode(
            np.full(layout.slots, 0.5 * schedule.current), circuit.solve_level, circuit.target_scale
        )
        diagonals[0] = evaluator.add_plain(diagonals[0], identity)
        return diagonals

    # ---- solve ------------------------------------------------------------------------------------------------

    def _solve(
        self, diagonals: list[Ciphertext], right_hand_side: Ciphertext, progress: Callable[[float], None]
    ) -> tuple[Ciphertext, Ciphertext]:
        circuit, evaluator = self.circuit, self.evaluator
        spec, schedule = circuit.spec, circuit.spec.schedule
        factors = schedule.right_hand_side
        # u_1 = factors[0] R shares R's level: the factor goes into the other terms instead, so that no level is spent.
        # With v_t = u_t / factors[0] the recurrence is the same with factors[t] / factors[0]. The diagonals keep the
        # scale of level L - 2, so v_t has a scale of its own, which `Circuit.weight_scale` predicts.
        u, previous = right_hand_side, None
        for t, factor in enumerate(factors[1:], start=1):
            y = self._apply(diagonals, u)
            terms = [(evaluator.truncate(right_hand_side, u.level), factor / factors[0])]
            if previous is not None:
                terms.append((evaluator.truncate(previous, u.level), -1.0))
            u, previous = evaluator.rescale(evaluator.add(y, evaluator.combine(terms, y.scale))), u
            progress(t / len(factors))
        # W = final * factors[0] * v_T: the value v_T at this scale is W at a scale that much larger.
        per_w = circuit.iterate_factor
        weights = Ciphertext(u.data, u.scale / per_w)
        # gram (R - ridge W - G W) = gram R - (gram G W + current W) + (current - gram ridge) W
        y = self._apply(diagonals, u)
        terms = [
            (evaluator.truncate(right_hand_side, u.level), -schedule.gram / per_w),
            (u, -(schedule.current - schedule.gram * spec.ridge)),
        ]
        negative = evaluator.rescale(evaluator.add(y, evaluator.combine(terms, y.scale)))
        residual = evaluator.negate(Ciphertext(negative.data, negative.scale / per_w))
        progress(1.0)
        return weights, residual

    def _apply(self, diagonals: list[Ciphertext], u: Ciphertext) -> Ciphertext:
        """(gram G + current I) u, real, not rescaled, at u's level.

        Forward diagonals m by baby steps of u, backward ones by giant steps; outer rotations by Horner, so that each
        direction needs one key. u is real, so rotate-and-conjugate serves as a rotation.
        """
        circuit, evaluator = self.circuit, self.evaluator
        g, half = circuit.baby, circuit.spec.dimension // 2
        rotated = evaluator.hoisted(u, circuit.baby_elements[1:] + circuit.giant_elements)
        babies, giants = [u, *rotated[: g - 1]], rotated[g - 1 :]
        truncated = evaluator.map(lambda single, d: single.truncate(d, u.level), diagonals)

        def row(single: Evaluator, m2: int) -> Ciphertext:
            ms = range(m2 * g, min((m2 + 1) * g, half + 1))
            return single.tensor([truncated[m] for m in ms], [babies[m % g] for m in ms])

        def column(single: Evaluator, m1: int) -> Ciphertext | None:
            ms = range(m1 or g, half, g)  # neither diagonal 0 nor D/2 counts twice
            return single.tensor([truncated[m] for m in ms], [giants[m // g] for m in ms]) if ms else None

        forward = self._horner(evaluator.map(row, range(circuit.giant)), circuit.feature_shift(g))
        backward = self._horner(evaluator.map(column, range(g)), circuit.feature_shift(-1))
        return evaluator.real(evaluator.relinearise(evaluator.add(forward, backward)))

    def _horner(self, tensors: Sequence[Ciphertext | None], galois: int) -> Ciphertext:
        """sum_i rotation^i(tensors[i]), three parts: two key switches for each i > 0."""
        evaluator = self.evaluator
        result: Ciphertext | None = None
        for tensor in reversed(tensors):
            if result is not None:
                result = evaluator.hoisted(evaluator.relinearise(result), [galois])[0]
            if tensor is not None:
                result = tensor if result is None else evaluator.add(result, tensor)
        if result is None:
            raise PlanError("an outer sum without terms")
        return result


def _groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield group
