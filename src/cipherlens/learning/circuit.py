"""What the encrypted training and classifying of one learner consist of: sizes, levels, the keys they use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isqrt, log2, prod, sqrt

from cipherlens.errors import PlanError
from cipherlens.layout.feature_major import FeatureMajor
from cipherlens.learning.learners import LearnerSpec
from cipherlens.scheme.keys import RELINEARISATION, KeyRequest, conjugation, merge_requests, rotation
from cipherlens.scheme.parameters import Parameters

LARGEST_SCALE = 2.0**150
"""Far above every planned scale (two primes and what the solve's factors add); it and its inverse are far from the ends
of what a float holds."""

FACTOR_ERROR = 1e-3
"""How far off the factor 1/n may be, one standard deviation. The owner refuses a model whose constant feature is off by
ten times as much."""

SECOND_DIVISION = 1 << 17
"""A second division, where there is one. As a factor it is a prime of 34 bits over this, so accurate to 2^-18, and
before it the means are so many times larger: far below what the modulus has room for."""

LARGEST_COUNT = 1 << 40
"""Images: the sums of so many squares, at the scale of a product, take 110 bits."""


@dataclass(frozen=True)
class Circuit:
    """One learner on one ring.

    Attributes:
        parameters: the ring.
        spec: the learner.

    Raises:
        PlanError: the classes or features do not fit the slots, or the levels do not suffice.
    """

    parameters: Parameters
    spec: LearnerSpec

    def __post_init__(self) -> None:
        if self.spec.columns > self.layout.batch:
            raise PlanError(
                f"{self.spec.columns} classes do not fit the {self.layout.batch} positions that {self.spec.dimension} "
                f"features leave in {self.layout.slots} slots; use fewer features or a larger ring"
            )
        if self.spec.score_levels > self.parameters.top_level:
            raise PlanError(
                f"the learner needs {self.spec.score_levels} levels and the ring has {self.parameters.top_level}"
            )
        if self.padded_columns > self.spec.dimension:
            raise PlanError(
                f"{self.spec.classes} classes need {self.padded_columns} columns or more, and there are "
                f"{self.spec.dimension}; give a larger dimension"
            )
        scales = (*self.parameters.scales, self.target_scale, self.weight_scale, self.residual_scale, self.score_scale)
        if not all(1 / LARGEST_SCALE <= scale <= LARGEST_SCALE for scale in scales):  # false for NaN as well
            raise PlanError("the ridge, the bound, the steps and the primes lead to scales that no ciphertext can have")

    @property
    def layout(self) -> FeatureMajor:
        """Where features and images sit."""
        return FeatureMajor(self.parameters.slots, self.spec.dimension)

    @cached_property
    def baby(self) -> int:
        """g: diagonals m = m1 + g m2 with m1 < g; the power of two nearest to the square root of D / 2."""
        half = self.spec.dimension // 2
        root = 1 << (isqrt(half).bit_length() - 1)
        return 2 * root if half > 2 * root * root else root

    @property
    def giant(self) -> int:
        """Number of giant steps: m2 = 0 ... D / 2 / g."""
        return self.spec.dimension // 2 // self.baby + 1

    @property
    def padded_columns(self) -> int:
        """Columns rounded up to a power of two: the period of the diagonals that score a query."""
        return 1 << (self.spec.columns - 1).bit_length()

    @property
    def top(self) -> int:
        """Level of fresh images."""
        return self.parameters.top_level

    # Scores end at level 0 whatever the learner and its steps, and the solve starts as low as that allows: dropping
    # primes is free, later work is cheaper, and every recipe of a task uses the same keys at no higher levels.

    @property
    def sum_level(self) -> int:
        """Level at which the scatter diagonals and class sums are finished; they keep its scale below it."""
        return self.top - 2

    @property
    def solve_level(self) -> int:
        """Level of the scatter diagonals and class sums when the solve starts."""
        return self.weight_level + (self.spec.schedule.products if self.spec.solves else 0)

    @property
    def weight_level(self) -> int:
        """Level of the encrypted weights."""
        return self.spec.score_levels - self.spec.weight_levels

    @property
    def score_level(self) -> int:
        """Level of encrypted scores."""
        return 0

    # ---- Galois elements --------------------------------------------------------------------------------------

    def feature_shift(self, features: int) -> int:
        """Rotation that brings feature f + features to f."""
        return rotation(self.parameters, features * self.layout.batch)

    def conjugate_shift(self, features: int) -> int:
        """The same, and conjugated."""
        return conjugation(self.parameters, features * self.layout.batch)

    @property
    def fold_shifts(self) -> list[int]:
        """Rotations (in slots) whose doubling sum adds all positions into b = 0."""
        return [1 << i for i in range(int(log2(self.layout.batch)))]

    @property
    def baby_elements(self) -> list[int]:
        """Rotate-and-conjugate by 0 ... g - 1 features."""
        return [self.conjugate_shift(m) for m in range(self.baby)]

    @property
    def giant_elements(self) -> list[int]:
        """Rotate by 0, -g, -2g ... features."""
        return [self.feature_shift(-self.baby * m) for m in range(self.giant)]

    def key_requests(self) -> tuple[KeyRequest, ...]:
        """The keys that training and classifying use, each at the highest level it is used at."""
        p, top = self.parameters, self.top
        requests = [KeyRequest(RELINEARISATION, top), KeyRequest(conjugation(p), top)]
        several = self.spec.columns > 1
        requests += [KeyRequest(rotation(p, s), top - 1) for s in self.fold_shifts]
        spread = top - 1 if several and self.spec.solves else self.weight_level
        requests += [KeyRequest(rotation(p, -s), spread) for s in self.fold_shifts]
        if self.spec.solves:
            requests += [KeyRequest(g, top) for g in self.baby_elements + self.giant_elements]
            requests.append(KeyRequest(self.feature_shift(self.baby), self.solve_level))
            requests.append(KeyRequest(self.feature_shift(-1), self.solve_level))
        if several:
            requests.append(KeyRequest(rotation(p, -1), top - 1))
            requests.append(KeyRequest(rotation(p, 1), self.weight_level))
            requests += [KeyRequest(self.conjugate_shift(m), self.weight_level) for m in range(self.padded_columns)]
        requests += [KeyRequest(self.feature_shift(m), self.score_level) for m in self.score_shifts]
        return merge_requests(requests)

    def score_requests(self) -> tuple[KeyRequest, ...]:
        """The keys that classifying uses, some of `key_requests`, each at the highest level it is used at."""
        p, level = self.parameters, self.weight_level
        requests = [KeyRequest(RELINEARISATION, level), *(KeyRequest(rotation(p, -s), level) for s in self.fold_shifts)]
        if self.spec.columns > 1:
            requests.append(KeyRequest(rotation(p, 1), level))
            requests += [KeyRequest(self.conjugate_shift(m), level) for m in range(self.padded_columns)]
        requests += [KeyRequest(self.feature_shift(m), self.score_level) for m in self.score_shifts]
        return merge_requests(requests)

    @property
    def score_shifts(self) -> list[int]:
        """Features to rotate by when the partial sums of a score are added: K, 2K ... D / 2."""
        first, last = self.padded_columns.bit_length() - 1, self.spec.dimension.bit_length() - 1
        return [1 << i for i in range(first, last)]

    # ---- scales -----------------------------------------------------------------------------------------------

    # The owner decrypts at these scales, whatever a file claims.

    @cached_property
    def _iterate_scale(self) -> float:
        """Scale of the last iterate of the solve: each product is with diagonals at the scale that sums have."""
        scale = self.target_scale
        for level in range(self.solve_level, self.weight_level, -1):
            scale = self.parameters.rescaled(self.target_scale * scale, level)
        return scale

    @property
    def iterate_factor(self) -> float:
        """W = iterate_factor * last iterate; the factor goes into the scale."""
        schedule = self.spec.schedule
        return schedule.final * schedule.right_hand_side[0] if self.spec.solves else 1.0

    @property
    def target_scale(self) -> float:
        """Scale of the right-hand side and of the centres."""
        return self.parameters.scales[self.sum_level]

    @property
    def weight_scale(self) -> float:
        """Scale of the weights."""
        return self._iterate_scale / self.iterate_factor

    @property
    def residual_scale(self) -> float:
        """Scale of gram (R - A W)."""
        product = self.target_scale * self._iterate_scale
        return self.parameters.rescaled(product, self.weight_level) / self.iterate_factor

    @property
    def score_scale(self) -> float:
        """Scale of scores."""
        if self.spec.columns > 1:
            return self.parameters.scales[self.score_level]
        above = self.score_level + 1
        return self.parameters.rescaled(self.weight_scale * self.parameters.scales[above], above)

    @property
    def most_in_one_division(self) -> int:
        """Training images up to which one product divides the sums by their number accurately enough.

        The sums are multiplied by a plaintext that is 0.5 / n, or 0.5 gram / n, at b = 0 and zero elsewhere. Its 2B
        coefficients are integers, so their roundings leave sqrt(2B / 12) in each slot, next to 0.5 / n times the scale.
        """
        factor = 0.5 * min(1.0, abs(self.spec.schedule.gram)) if self.spec.solves else 0.5
        return int(FACTOR_ERROR * factor * self.parameters.scales[self.top - 1] / sqrt(2 * self.layout.batch / 12))

    @property
    def most_images(self) -> int:
        """Training images that the sums can be divided by: with a level to spare, in two divisions."""
        spare = self.sum_level > self.solve_level
        return min(LARGEST_COUNT, self.most_in_one_division * (SECOND_DIVISION if spare else 1))

    def require_averaged(self, images: int) -> None:
        """Raise PlanError for more training images than this."""
        if images > self.most_images:
            raise PlanError(
                f"the scales of this plan average up to {self.most_images:,} images, and there are {images:,}; train on "
                "fewer, or plan for as many (most_images, --most-images)"
            )

    def second_division(self, images: int) -> int:
        """What the sums of so many images are divided by one level further down; 1 where one division is enough."""
        return 1 if images <= self.most_in_one_division else SECOND_DIVISION

    @property
    def largest_score(self) -> float:
        """Scores decrypt correctly while no coefficient, a mean of scores, exceeds this: half the modulus."""
        used = self.parameters.primes[: min(2, self.score_level + 1)]  # a decryption uses no more
        return prod(used) / 2 / self.score_scale
