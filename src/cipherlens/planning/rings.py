"""The ring for a learner: the smallest one with room for its features and levels, digits chosen for speed."""

from __future__ import annotations

from math import ceil, log2

from cipherlens.errors import PlanError
from cipherlens.learning.learners import LearnerSpec
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.security import LARGEST_MODULUS_BITS

SCALE_BITS = 34
"""Scale of images and weights. Rescaling leaves an error of about 2^12 in a slot at N = 2^14, so 22 bits remain."""

SCORE_BITS = 5
"""Scores below 2^5 in magnitude decrypt correctly; whitened features and a ridge keep them below 2^3."""

LARGEST_PRIME_BITS = 49

SLACK_BITS = 6
"""How far below the digit of the first prime P may stay: the noise of a key switch at the top grows by as much,
where it still vanishes behind a scale of 2^68."""


def first_prime_bits(spec: LearnerSpec) -> int:
    """Bits of q_0: scale, size of scores, and with one column the factor by which the solve's iterate exceeds W."""
    iterate = 0
    if spec.solves and spec.columns == 1:
        schedule = spec.schedule
        iterate = ceil(-log2(schedule.final * schedule.right_hand_side[0]))
    bits = SCALE_BITS + SCORE_BITS + max(0, iterate)
    if bits > LARGEST_PRIME_BITS:
        raise PlanError(
            f"{spec.steps} steps with the ridge {spec.ridge:g} and the bound {spec.upper:.3g} need a first prime of "
            f"{bits} bits, and {LARGEST_PRIME_BITS} is the most; use fewer steps or a larger ridge"
        )
    return bits


def _cost(limbs: int, digit: int, special: int) -> int:
    """Transforms of one key switch at the top: what a rotation costs, up to a constant."""
    digits = -(-limbs // digit)
    return limbs + digits * (limbs + special) - limbs + 2 * special + 2 * limbs


def choose_parameters(spec: LearnerSpec, ring_dimension: int | None = None) -> Parameters:
    """Parameters at 128-bit security for one learner.

    Tries ring dimensions from 2^12 upwards (or only the given one) and, on the first that fits, takes the digit that
    makes a key switch cheapest.

    Raises:
        PlanError: no ring up to 2^16 has the levels and slots.
    """
    levels, first = spec.score_levels, first_prime_bits(spec)
    for n, limit in LARGEST_MODULUS_BITS.items():
        if (ring_dimension is not None and n != ring_dimension) or n > 1 << 16:
            continue
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
