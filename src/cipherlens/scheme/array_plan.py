"""What is to be computed on encrypted arrays, and the smallest ring, levels and keys that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from math import ceil
from typing import Literal, get_args

from cipherlens.errors import InputError, PlanError
from cipherlens.scheme.arguments import real_number, whole_number
from cipherlens.scheme.array_layout import ArrayLayout, power_of_two, powers_below
from cipherlens.scheme.array_noise import ArrayNoise
from cipherlens.scheme.comparison import DEFAULT_ERROR, plan_comparison, polynomial_noise, rounding_noise
from cipherlens.scheme.diagonals import DiagonalSteps
from cipherlens.scheme.keys import RELINEARISATION, KeyRequest, merge_requests, rotation
from cipherlens.scheme.minimax import CompositeSign
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.security import LARGEST_MODULUS_BITS, SECURITY_BITS

Operation = Literal["multiply", "matmul", "sum", "sum_axis_0", "sum_axis_1", "greater"]

RINGS = (1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16)
SCALE_BITS = (38, 37, 36, 35, 34, 33, 32, 31, 30)
COMPARISON_SCALE_BITS = (38, 37, 36, 35, 34, 33, 32, 39, 40, 41)
"""Bits of a level in order of preference. Beyond 38, where key switches cost more, only if noise demands it."""

_LARGEST_PRIME_BITS = 49
_LEAST_HEADROOM_BITS = 7  # of the first prime above the scale: a sign, a bit to notice overflow, the rest for values
_SPECIAL_SLACK_BITS = (4, 3, 2, 1)  # of the special primes above a digit: four make key switching noise vanish


@dataclass(frozen=True)
class ArrayPlan:
    """A computation on encrypted arrays: what it is made of, and what that costs. `print` it before making keys.

    Attributes:
        shape: shape of the arrays that are encrypted, one or two dimensions.
        operations: what the longest chain of the computation does, in order: "multiply" (by an array, or by a number
            that is no small integer; a level each), "matmul" (a level), "sum" and "sum_axis_0" (none), "sum_axis_1" (a
            level), "greater" (see `comparison`). An operation on a shorter chain need not be repeated. Sums and
            negatives, and products with integers up to 1024, take no level and need not be listed.
        depth: levels more than the operations take.
        matmul: (rows, columns) of the largest matrix W in a @ W. Not listed among the operations, it comes after them.
        margin: smallest |a - b|, relative to the bound, at which `greater` is right. Not listed among the operations,
            "greater" comes last.
        bound: largest |a - b| that is compared; without comparisons the size of the values computed with. Best a
            whole number.
        error: largest error of the 0 or 1 that `greater` gives.
        ring_dimension: N, if it shall not be the smallest possible.
        scale_bits: bits of a level, if they shall not be chosen: 38, or as many below as the smallest ring allows.

    Raises:
        InputError: arguments that mean nothing.
        PlanError: no ring in the security table is large enough.
    """

    shape: tuple[int, ...]
    _: KW_ONLY
    operations: Sequence[Operation] = ()
    depth: int = 0
    matmul: tuple[int, int] | None = None
    margin: float | None = None
    bound: float = 1.0
    error: float = DEFAULT_ERROR
    ring_dimension: int | None = None
    scale_bits: int | None = None

    def __post_init__(self) -> None:
        self._check_types()
        listed = tuple(self.operations)
        if self.matmul is not None and "matmul" not in listed:
            listed += ("matmul",)
        if self.margin is not None and "greater" not in listed:
            listed += ("greater",)
        object.__setattr__(self, "operations", listed)
        self._check()
        _ = self.parameters  # planning refuses here rather than later

    def _check_types(self) -> None:
        """Numbers of any kind become int and float."""
        if not isinstance(self.shape, Sequence) or isinstance(self.shape, str):
            raise InputError(f"A shape is a tuple of whole numbers, not {self.shape!r}; for a vector give (n,).")
        if isinstance(self.operations, str) or not isinstance(self.operations, Sequence):
            raise InputError(
                f'Operations are a list of names, not {self.operations!r}; give for instance ["multiply"].'
            )
        if self.matmul is not None and (not isinstance(self.matmul, Sequence) or len(self.matmul) != 2):
            raise InputError(f"The size of a matrix is (rows, columns), not {self.matmul!r}; give two whole numbers.")
        values: dict[str, object] = {
            "shape": tuple(whole_number(n, "Every length in a shape") for n in self.shape),
            "depth": whole_number(self.depth, "The depth"),
            "bound": real_number(self.bound, "The bound"),
            "error": real_number(self.error, "The error of a comparison"),
        }
        if self.matmul is not None:
            values["matmul"] = tuple(whole_number(n, "Every length of a matrix") for n in self.matmul)
        if self.margin is not None:
            values["margin"] = real_number(self.margin, "The margin")
        if self.ring_dimension is not None:
            values["ring_dimension"] = whole_number(self.ring_dimension, "The ring dimension")
        if self.scale_bits is not None:
            values["scale_bits"] = whole_number(self.scale_bits, "The bits of a level")
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check(self) -> None:
        if not 1 <= len(self.shape) <= 2 or any(n < 1 for n in self.shape):
            raise InputError(f"Arrays have one or two dimensions of at least 1, not shape {self.shape}; reshape them.")
        unknown = [name for name in self.operations if name not in get_args(Operation)]
        if unknown:
            raise InputError(f"{unknown[0]!r} is no operation; there are {', '.join(get_args(Operation))}.")
        if self.depth < 0:
            raise InputError(f"A depth of {self.depth} levels is negative; give 0 or more.")
        if self.ring_dimension is not None and self.ring_dimension not in RINGS:
            raise InputError(
                f"A ring has dimension {', '.join(map(str, RINGS))}, not {self.ring_dimension}; leave ring_dimension out."
            )
        if not 2.0**-20 <= self.bound <= 2.0**40:
            raise InputError(f"The bound must lie between 2^-20 and 2^40, not be {self.bound!r}; rescale the values.")
        if self.scale_bits is not None and not 26 <= self.scale_bits <= 41:
            raise InputError(f"A level has 26 to 41 bits, not {self.scale_bits}; leave scale_bits out.")
        if "greater" in self.operations and self.margin is None:
            raise InputError('"greater" needs a margin, relative to the bound; give for instance margin=2**-5.')
        if "matmul" in self.operations:
            if self.matmul is None or min(self.matmul) < 1:
                raise InputError('"matmul" needs the size of the matrix; give matmul=(rows, columns).')
            if self.matmul[0] != self.shape[-1]:
                raise InputError(
                    f"Rows of {self.shape[-1]} elements cannot meet a matrix of {self.matmul[0]} rows; "
                    f"give matmul=({self.shape[-1]}, {self.matmul[1]})."
                )

    # ---- values -----------------------------------------------------------------------------------------------

    @property
    def unit(self) -> int:
        """What a slot of 1 stands for: the bound, rounded up to a whole number so that products stay exact."""
        return max(1, ceil(self.bound))

    @property
    def largest(self) -> float:
        """Largest |value| that may come up anywhere; larger ones wrap around, which decryption mostly notices."""
        return self.unit * self.parameters.primes[0] / (4.0 * self.parameters.scales[0])

    @property
    def noise(self) -> ArrayNoise:
        """Estimates of errors in this ring."""
        return ArrayNoise(self.parameters)

    def expected_error(self) -> tuple[float, float]:
        """Largest absolute errors to expect: of fresh values, and after the listed operations on values within the
        bound and clear numbers of size 1. Comparisons have their own error."""
        noise, unit, level = self.noise, self.unit, self.levels
        fresh = error = noise.fresh(level)
        for operation in self.operations:
            if operation == "greater":
                continue
            if operation == "multiply":
                error = noise.product(error, error, unit, level)
            elif operation == "matmul" and self.matmul is not None:
                rows = self.matmul[0]
                error = noise.matrix_product(error, rows**0.5, rows, level)
            else:
                error = noise.total(error, len(self.rotations(operation)), self.layout.ciphertexts, level)
                if operation == "sum_axis_1":
                    error = noise.clear_product(error, 1.0, level)
            level -= self.cost(operation)
        return unit * fresh, unit * error

    def comparison(self, margin: float | None = None, *, levels: int | None = None) -> CompositeSign:
        """The composite that `greater` evaluates for this margin (relative to the bound) or the planned one.

        Raises:
            PlanError: there is no margin, it takes more than `levels`, or noise at this ring's scale would exceed the
                planned error.
        """
        composite = self._composite(margin, levels)
        if not self._keeps_error(composite, self.parameters):
            raise PlanError(
                f"At {self.parameters.scale_bits} bits a level noise would spoil a comparison with this margin and error "
                f"{self.error:.3g}; plan for this margin from the start, or take a larger margin or error."
            )
        return composite

    def _composite(self, margin: float | None = None, levels: int | None = None) -> CompositeSign:
        margin = self.margin if margin is None else real_number(margin, "The margin")
        if margin is None:
            raise PlanError(
                "Encrypted numbers compare only outside a margin and none was planned; "
                "plan with margin=2**-5 or use a.greater(b, margin=...)."
            )
        return plan_comparison(margin * self.bound / self.unit, self.error, levels=levels)

    def comparison_error(self, composite: CompositeSign, parameters: Parameters | None = None) -> float:
        """Largest error of the 0 or 1 of `greater`, noise included, outside the margin and inside the bound."""
        p = self.parameters if parameters is None else parameters
        last = polynomial_noise(p.ring_dimension, p.scales[0], composite.degrees[-1]) / 2
        return composite.error / 2 + last + self.unit * rounding_noise(p.ring_dimension, p.scales[0])

    def _keeps_error(self, composite: CompositeSign, p: Parameters) -> bool:
        between = max((polynomial_noise(p.ring_dimension, p.scales[0], d) for d in composite.degrees[:-1]), default=0.0)
        return between <= composite.noise and self.comparison_error(composite, p) <= self.error

    # ---- levels -----------------------------------------------------------------------------------------------

    def cost(self, operation: Operation) -> int:
        """Levels that one operation takes."""
        if operation == "greater":
            return self._composite().depth
        return 0 if operation in ("sum", "sum_axis_0") else 1

    @cached_property
    def levels(self) -> int:
        """Levels of a fresh array: those of all operations in the list, and the depth beyond."""
        return self.depth + sum(self.cost(operation) for operation in self.operations)

    def level_of(self, operation: Operation) -> int:
        """The highest level at which an operation has keys: where it first comes up in the list.

        Raises:
            PlanError: it is not listed.
        """
        if operation not in self.operations:
            raise PlanError(f'This plan has no "{operation}"; list it among the operations.')
        before = self.operations[: self.operations.index(operation)]
        return self.levels - sum(self.cost(earlier) for earlier in before)

    # ---- the ring ---------------------------------------------------------------------------------------------

    @property
    def _row(self) -> int:
        widest = self.shape[-1] if self.matmul is None else max(self.shape[-1], *self.matmul)
        return power_of_two(widest)

    @cached_property
    def parameters(self) -> Parameters:
        """The smallest ring of the security table that holds a row and has the levels; in it, the largest scale."""
        rings = RINGS if self.ring_dimension is None else (self.ring_dimension,)
        splits = len(self.shape) == 1 and self.matmul is None
        scales = COMPARISON_SCALE_BITS if "greater" in self.operations else SCALE_BITS
        for ring in rings:
            if ring not in LARGEST_MODULUS_BITS or (self._row > ring // 2 and not splits):
                continue
            for scale_bits in scales if self.scale_bits is None else (self.scale_bits,):
                found = _fit(ring, self.levels, scale_bits)
                if found is None or ("greater" in self.operations and not self._keeps_error(self._composite(), found)):
                    continue
                return found
        noise = " with noise below the error of the comparison" if "greater" in self.operations else ""
        raise PlanError(
            f"{self.levels} levels and rows of {self._row} slots fit no ring of dimension "
            f"{' or '.join(map(str, rings))} at {SECURITY_BITS}-bit security{noise} (the largest allows "
            f"{LARGEST_MODULUS_BITS.get(rings[-1], 0)} bits and {rings[-1] // 2} slots); use fewer levels, a larger "
            "margin or error, shorter rows or a larger ring."
        )

    @property
    def layout(self) -> ArrayLayout:
        """Where fresh arrays sit."""
        slots = self.parameters.slots
        return ArrayLayout(slots, min(self._row, slots), self.shape)

    @property
    def steps(self) -> DiagonalSteps:
        """Baby and giant steps of a @ W.

        Raises:
            PlanError: none was planned.
        """
        if self.matmul is None:
            raise PlanError("This plan has no product with a matrix; plan with matmul=(rows, columns).")
        return DiagonalSteps(*self.matmul)

    # ---- keys -------------------------------------------------------------------------------------------------

    def rotations(self, operation: Operation) -> list[int]:
        """Rotations, in slots, that an operation uses on fresh arrays."""
        layout = self.layout
        if operation == "matmul":
            return self.steps.rotations(*self.matmul) if self.matmul else []
        first = layout.stride if operation == "sum_axis_0" else 1
        last = layout.stride if operation == "sum_axis_1" or layout.repeated else layout.slots
        return powers_below(first, last) if operation.startswith("sum") else []

    def key_requests(self) -> tuple[KeyRequest, ...]:
        """The evaluation keys that the operations use, each at the highest level it is used at."""
        requests = []
        if self.depth:
            requests.append(KeyRequest(RELINEARISATION, self.levels))
        for operation in dict.fromkeys(self.operations):
            level = self.level_of(operation)
            if operation in ("multiply", "matmul", "greater"):
                requests.append(KeyRequest(RELINEARISATION, level))
            requests += [KeyRequest(rotation(self.parameters, r), level) for r in self.rotations(operation)]
        return merge_requests(requests)

    @property
    def evaluation_key_bytes(self) -> int:
        """Bytes of all evaluation keys, packed."""
        return sum(self.parameters.switching_key_bytes(request.level) for request in self.key_requests())

    def __str__(self) -> str:
        p, layout = self.parameters, self.layout
        limit = LARGEST_MODULUS_BITS[p.ring_dimension]
        lines = [
            f"array of shape {self.shape}: {layout.ciphertexts} ciphertext(s) of {p.slots} slots, "
            f"{layout.ciphertexts * p.ciphertext_bytes(self.levels, 2) / 1e6:.2f} MB; values up to ±{self.largest:.4g}",
            f"ring dimension {p.ring_dimension}, {self.levels} levels of {p.scale_bits} bits, "
            f"log2(QP) = {p.modulus_bits:.1f} of {limit} at {SECURITY_BITS}-bit security",
            f"levels: {', '.join(f'{o} {self.cost(o)}' for o in self.operations) or 'no operation'}"
            + (f", {self.depth} more" if self.depth else ""),
        ]
        fresh, after = self.expected_error()
        lines.insert(
            1,
            f"absolute errors up to about {fresh:.2g} when fresh, {after:.2g} after these operations (bound {self.bound:g})",
        )
        if self.margin is not None:
            c = self.comparison()
            lines.append(
                f"greater: right within {self.comparison_error(c):.3g} where {self.margin * self.bound:.4g} <= |a - b| "
                f"<= {self.bound:.4g}; degrees {' after '.join(map(str, reversed(c.degrees)))}, "
                f"{c.multiplications} multiplications"
            )
        lines.append(f"evaluation keys: {len(self.key_requests())}, {self.evaluation_key_bytes / 1e6:.1f} MB")
        return "\n".join(lines)


def _fit(ring_dimension: int, levels: int, scale_bits: int) -> Parameters | None:
    """Parameters inside the table: the largest first prime, then the cheapest key switch; None if there are none."""
    limit = LARGEST_MODULUS_BITS[ring_dimension] - 1  # primes lie next to powers of two, on either side
    best: tuple[int, int, int] | None = None
    if levels * scale_bits > limit:  # at once, however many were asked for
        return None
    for first in range(_LARGEST_PRIME_BITS, scale_bits + _LEAST_HEADROOM_BITS - 1, -1):
        for digit in range(1, levels + 2):
            for slack in _SPECIAL_SLACK_BITS:
                special = min(ceil((first + (digit - 1) * scale_bits + slack) / digit), _LARGEST_PRIME_BITS)
                if first + levels * scale_bits + digit * special > limit:
                    continue
                # Transforms of a key switch, which its time is made of, over all levels.
                transforms = sum((-(-limbs // digit) + 2) * (limbs + digit) for limbs in range(1, levels + 2))
                if best is None or transforms < best[0]:
                    best = transforms, digit, special
                break
        if best is not None:
            _, digit, special = best
            return Parameters.generate(
                ring_dimension, levels,
                scale_bits=scale_bits, first_bits=first, special=digit, special_bits=special, digit=digit,
            )  # fmt: skip
    return None
