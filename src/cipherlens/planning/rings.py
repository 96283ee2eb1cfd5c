"""The ring for a learner: the smallest one with room for its features and levels, digits chosen for speed."""

from __future__ import annotations

from math import ceil, log2

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import PlanError
from cipherlens.learning.circuit import Circuit
from cipherlens.learning.learners import LearnerSpec
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.security import LARGEST_MODULUS_BITS

SCALE_BITS = 34
"""Scale of images and weights. Rescaling leaves an error of about 2^12 in a slot at N = 2^14, so 22 bits remain."""

SCORE_BITS = 5
"""Scores below 2^5 in magnitude decrypt correctly; whitened features and a ridge keep them below 2^3."""

SCORE_MARGIN = 1.5
"""How much farther out than its bound the mean of a class may lie before decrypting refuses it."""

LARGEST_PRIME_BITS = 49

SLACK_BITS = 6
"""How far below the digit of the first prime P may stay: the noise of a key switch at the top grows by as much,
where it still vanishes behind a scale of 2^68."""


def score_bits(spec: LearnerSpec, counts: NDArray[np.integer]) -> int:
    """Room for scores of the rarest class, whose mean lies farthest out; counts: (k,), images of each class.

    With p its share, p |mu|^2 is at most the largest eigenvalue of G, and p mu^T A^-1 mu is below 1. The owner's
    `check_scores` has the last word, so no task is refused for it: the first prime takes what room there is.
    """
    if spec.kind == "ridge" or counts.min() < 1:
        return SCORE_BITS
    largest = (1.0 if spec.solves else spec.upper) * float(counts.sum() / counts.min())
    largest /= 1 << (spec.columns - 1).bit_length()  # the mean over the columns
    room = LARGEST_PRIME_BITS - SCALE_BITS - _iterate_bits(spec)
    return max(SCORE_BITS, min(ceil(log2(2 * SCORE_MARGIN * largest)), room))


def _iterate_bits(spec: LearnerSpec) -> int:
    """Bits by which the solve's iterate exceeds W, which its scale bears where there is one column."""
    if not (spec.solves and spec.columns == 1):
        return 0
    return max(0, ceil(-log2(spec.schedule.final * spec.schedule.right_hand_side[0])))


def first_prime_bits(spec: LearnerSpec, room: int = SCORE_BITS) -> int:
    """Bits of q_0: scale, size of scores, and with one column the factor by which the solve's iterate exceeds W."""
    bits = SCALE_BITS + room + _iterate_bits(spec)
    if bits > LARGEST_PRIME_BITS:
        raise PlanError(
            f"{spec.steps} steps with the ridge {spec.ridge:g} and the bound {spec.upper:.3g} need a first prime of "
            f"{bits} bits, and {LARGEST_PRIME_BITS} is the most; use fewer steps or a larger ridge"
        )
    return bits


RINGS = tuple(n for n in LARGEST_MODULUS_BITS if n <= 1 << 16)
"""Ring dimensions that a plan may use."""


def _cost(limbs: int, digit: int, special: int) -> int:
    """Transforms of one key switch at the top: what a rotation costs, up to a constant."""
    digits = -(-limbs // digit)
    return limbs + digits * (limbs + special) - limbs + 2 * special + 2 * limbs


def parameters_for(
    spec: LearnerSpec, images: int, ring_dimension: int | None = None, *, room: int = SCORE_BITS
) -> Parameters:
    """As `choose_parameters`, with a level to spare where so many training images need it.

    Raises:
        PlanError: no ring has the levels and slots.
    """
    parameters = choose_parameters(spec, ring_dimension, room=room)
    if images > Circuit(parameters, spec).most_images:
        parameters = choose_parameters(spec, ring_dimension, room=room, spare=1)
    return parameters


def choose_parameters(
    spec: LearnerSpec, ring_dimension: int | None = None, *, room: int = SCORE_BITS, spare: int = 0
) -> Parameters:
    """Parameters at 128-bit security for one learner.

    Tries ring dimensions from 2^12 upwards (or only the given one) and, on the first that fits, takes the digit that
    makes a key switch cheapest. room: bits for scores, see `score_bits`. spare: levels more than the learner needs.

    Raises:
        PlanError: no ring up to 2^16 has the levels and slots.
    """
    if ring_dimension is not None and ring_dimension not in RINGS:
        raise PlanError(f"there is no ring of dimension {ring_dimension}; choose one of {', '.join(map(str, RINGS))}")
    levels, first = spec.score_levels + spare, first_prime_bits(spec, room)
    for n in RINGS if ring_dimension is None else (ring_dimension,):
        limit = LARGEST_MODULUS_BITS[n]
        if n // 2 < spec.dimension * max(spec.columns, 2):
            continue
        best: tuple[int, int, int, int] | None = None
        for digit in range(1, levels + 2):
            wanted = max(digit * SCALE_BITS + 2, first + (digit - 1) * SCALE_BITS - SLACK_BITS)
            special = ceil(wanted / LARGEST_PRIME_BITS)
            bits = ceil(wanted / special)
            # Primes are near their power of two, on either side: half a bit of room for all of them together.
            if bits < 30 or first + levels * SCALE_BITS + special * bits + 0.5 > limit:
                continue
            cost = _cost(levels + 1, digit, special)
            if best is None or cost < best[0]:
                best = (cost, digit, special, bits)
        if best is not None:
            _, digit, special, bits = best
            return Parameters.generate(
                n, levels, scale_bits=SCALE_BITS, first_bits=first, special=special, special_bits=bits, digit=digit
            )
    where = "any ring up to 2^16" if ring_dimension is None else f"the ring of dimension {ring_dimension}"
    raise PlanError(
        f"a learner with {levels} levels and {spec.dimension} features for {spec.classes} classes does not fit {where}; "
        "use fewer steps, features or classes"
    )
