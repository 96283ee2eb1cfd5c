"""`EncryptedArray`: arithmetic on encrypted real arrays in numpy's notation.

An array holds its ciphertexts, where its elements sit in them, the plan it was encrypted for and the evaluator with its
owner's evaluation keys. It never holds anything secret, and it cannot be looked into: whatever would need a value
(`if`, `float()`, `==`, iteration) raises.

Slots hold values divided by the plan's `unit`. Ciphertexts are always at the scale of their level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import log2, sqrt

import numpy as np
from numpy.typing import ArrayLike

from cipherlens.errors import InputError, KeyMismatch, PlanError, RangeError
from cipherlens.scheme.arguments import whole_number
from cipherlens.scheme.array_layout import ArrayLayout, Floats, powers_below
from cipherlens.scheme.array_noise import COARSEST_ERROR
from cipherlens.scheme.array_plan import ArrayPlan
from cipherlens.scheme.ciphertext import Ciphertext, Plaintext
from cipherlens.scheme.comparison import positive
from cipherlens.scheme.diagonals import (
    EncryptedMatrix,
    for_each,
    multiply_encrypted_matrix,
    multiply_matrix,
)
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import RELINEARISATION, rotation
from cipherlens.scheme.notebook import NotebookRepr
from cipherlens.scheme.opaque import Opaque

LARGEST_INTEGER = 1024
"""Products with integers up to this are exact and take no level."""


@dataclass(frozen=True, eq=False, repr=False)
class EncryptedArray(Opaque, NotebookRepr):
    """Encrypted float64 numbers, of shape (), (n,) or (rows, columns).

    Attributes:
        evaluator: the operations, under the owner's evaluation keys.
        plan: what the array was planned for.
        layout: where its elements sit.
        ciphertexts: `layout.ciphertexts` of them, all at one level.
        noise: estimate of the largest error of a slot; see `error` and `array_noise`.
        clean: whether unused slots are zero, up to noise. If not, sums and comparisons clear them first: one level.
    """

    evaluator: Evaluator
    plan: ArrayPlan
    layout: ArrayLayout
    ciphertexts: tuple[Ciphertext, ...]
    noise: float
    clean: bool = True

    # ---- what is public ---------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.layout.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def level(self) -> int:
        """Levels left for products and comparisons."""
        return self.ciphertexts[0].level

    @property
    def error(self) -> float:
        """An upper estimate of the absolute error of every element, for values within the plan's bound."""
        return self.noise * self.plan.unit

    def __repr__(self) -> str:
        return (
            f"EncryptedArray(shape={self.shape}, level={self.level}, "
            f"scale=2^{log2(self.ciphertexts[0].scale):.1f}, ciphertexts={len(self.ciphertexts)})"
        )

    # ---- sums -------------------------------------------------------------------------------------------------

    def __add__(self, other: EncryptedArray | ArrayLike) -> EncryptedArray:
        """Elementwise sum; no level."""
        if isinstance(other, EncryptedArray):
            return self._combined(other, Evaluator.add)
        return self._with_plain(self._slots(other) / self.plan.unit)

    __radd__ = __add__

    def __sub__(self, other: EncryptedArray | ArrayLike) -> EncryptedArray:
        """Elementwise difference; no level."""
        if isinstance(other, EncryptedArray):
            return self._combined(other, Evaluator.subtract)
        return self._with_plain(self._slots(other) / -self.plan.unit)

    def __rsub__(self, other: ArrayLike) -> EncryptedArray:
        return -self + other

    def __neg__(self) -> EncryptedArray:
        """Elementwise negative; no level."""
        return self._each(Evaluator.negate, self.noise)

    def __pos__(self) -> EncryptedArray:
        return self

    # ---- products ---------------------------------------------------------------------------------------------

    def __mul__(self, other: EncryptedArray | ArrayLike) -> EncryptedArray:
        """Elementwise product: one level, and none with an integer up to 1024."""
        if isinstance(other, EncryptedArray):
            return self._product(other)
        numbers = self._numbers(other)
        if numbers.ndim == 0:
            return self._times_number(float(numbers))
        return replace(self._times_slots(self._slots(numbers)), clean=True)

    __rmul__ = __mul__

    def __truediv__(self, other: ArrayLike) -> EncryptedArray:
        """Elementwise quotient by clear numbers: a product with their inverses."""
        if isinstance(other, EncryptedArray):
            raise InputError("Division by encrypted numbers is no polynomial; multiply by clear inverses instead.")
        numbers = self._finite(other)
        if not numbers.all():
            raise InputError("Division by zero; give divisors other than 0.")
        with np.errstate(over="ignore"):
            inverses = 1.0 / numbers
        if not np.isfinite(inverses).all():
            raise InputError("A divisor is so small that its inverse is infinite; give larger divisors.")
        return self * inverses

    def __rtruediv__(self, other: ArrayLike) -> EncryptedArray:
        raise InputError("Division by encrypted numbers is no polynomial; multiply by clear inverses instead.")

    def __pow__(self, exponent: int) -> EncryptedArray:
        """Elementwise power, exponent >= 1: log2(exponent) levels, rounded up; at most twice as many products."""
        wanted = whole_number(exponent, "The exponent of encrypted numbers")
        if wanted < 1:
            raise InputError("Powers of encrypted numbers need a whole exponent of at least 1; give one.")
        powers = {1: self}

        def power(n: int) -> EncryptedArray:
            if n not in powers:
                powers[n] = power(n // 2) * power(n - n // 2)
            return powers[n]

        return power(wanted)

    def __rpow__(self, base: ArrayLike) -> EncryptedArray:
        raise InputError("Encrypted exponents are no polynomial; only powers with clear whole exponents are.")

    def __abs__(self) -> EncryptedArray:
        raise InputError("|a| is no polynomial; a * a.sign() comes near it outside the margin that was planned.")

    def __matmul__(self, other: EncryptedMatrix | EncryptedArray | ArrayLike) -> EncryptedArray:
        """Product with a matrix (columns of self, k), clear or from `encrypt_matrix`, or with a clear vector.

        One level. Two vectors give their inner product, which also needs the keys of "sum". See `diagonals`.
        """
        if isinstance(other, EncryptedArray):
            if self.ndim == other.ndim == 1:
                return (self * other).sum()
            raise InputError("An encrypted matrix on the right of @ must be encrypted as one; use keys.encrypt_matrix.")
        if isinstance(other, EncryptedMatrix):
            return self._times_matrix(other.shape, other)
        numbers = self._numbers(other)
        if self.ndim == 1 and numbers.ndim == 1:
            return (self * numbers).sum()
        if numbers.ndim not in (1, 2):
            raise InputError(
                f"The right side of @ must be a vector or a matrix, not of shape {numbers.shape}; reshape."
            )
        product = self._times_matrix((numbers.shape[0], numbers[0].size), numbers.reshape(len(numbers), -1))
        if numbers.ndim == 2:
            return product
        return replace(product, layout=product.layout.with_shape((self.shape[0],), column=True))

    def __rmatmul__(self, other: ArrayLike) -> EncryptedArray:
        """Product of a clear matrix or vector with an encrypted vector: self @ other.T."""
        numbers = self._numbers(other)
        if self.ndim != 1 or numbers.ndim not in (1, 2):
            raise InputError("A clear matrix multiplies an encrypted one from the right only; write a @ W.")
        return self @ numbers.T

    # ---- sums over axes ---------------------------------------------------------------------------------------

    def sum(self, axis: int | None = None) -> EncryptedArray:
        """Sum of all elements or along an axis, as numpy's.

        No level, but one for axis=1 of a matrix. About log2(slots) key switches. A further level if the unused slots
        must be cleared first (see `clean`).
        """
        axis = None if axis is None else whole_number(axis, "An axis")
        if axis is not None and not -self.ndim <= axis < self.ndim:
            raise InputError(
                f"Axis {axis} does not exist in shape {self.shape}; use None or one of 0 ... {self.ndim - 1}."
            )
        if not self.shape:
            return self
        source, layout = self._cleaned(), self.layout
        if self.ndim == 2 and axis is not None and axis % 2 == 1:
            return source._row_sums()
        last = layout.stride if layout.repeated else layout.slots
        if self.ndim == 2 and axis is not None:
            folded = source._folded(powers_below(layout.stride, last), "sum_axis_0")
            return replace(folded, layout=layout.with_shape(self.shape[1:]))
        return replace(source._folded(powers_below(1, last), "sum"), layout=layout.with_shape(()))

    def _folded(self, steps: Sequence[int], operation: str) -> EncryptedArray:
        """All ciphertexts added up, then to itself rotated by each step in turn."""
        source = self._ready(steps, operation)
        total = self.evaluator.total(source.ciphertexts)
        noise = self.plan.noise.total(source.noise, len(steps), len(source.ciphertexts), source.level)
        return replace(source, ciphertexts=(_doubling_sum(self.evaluator, total, steps),), noise=noise)

    def _row_sums(self) -> EncryptedArray:
        layout = self.layout.with_shape(self.shape[:1], column=True)
        steps = powers_below(1, self.layout.stride)
        if not steps:
            return replace(self, layout=layout)
        source = self._ready(steps, "sum_axis_1")
        source._need(1, "A sum along axis 1")
        noise = self.plan.noise.total(source.noise, len(steps), 1, source.level)
        summed = source._each(lambda single, x: _doubling_sum(single, x, steps), noise)
        return replace(summed, layout=layout)._times_slots(layout.pack(np.ones(layout.shape)))

    # ---- comparisons ------------------------------------------------------------------------------------------

    def greater(self, other: EncryptedArray | ArrayLike, margin: float | None = None) -> EncryptedArray:
        """Near 1 where self > other, near 0 where self < other, within the plan's `error`.

        Right where margin * bound <= |self - other| <= bound. Nearer, the value is undefined between -error and
        1 + error. Beyond the bound it is undefined altogether and may spoil the whole ciphertext; decryption notices
        most of that, not all. `margin` is relative to the plan's bound; by default it is the planned one.

        Raises:
            PlanError: no margin is known, or the levels that are left do not suffice; it says how many more.
            RangeError: the difference is too inaccurate to be compared.
        """
        difference = (self - other)._cleaned()._ready([], "greater", relinearise=True)
        composite = self.plan.comparison(margin, levels=difference.level)
        if difference.noise > composite.noise:
            raise RangeError(
                f"The difference is accurate to about {difference.error:.3g} only, and comparing takes "
                f"{composite.noise * self.plan.unit:.3g} at this bound; compare earlier or plan a smaller bound."
            )
        one = 1.0 / self.plan.unit
        noise = one * (self.plan.comparison_error(composite) - composite.error / 2)
        result = difference._each(lambda single, x: positive(single, x, composite, one=one), noise)
        # Unused slots hold 0, which is between 0 and 1: exactly a half.
        return result._with_plain((_mask(difference.layout) - 1.0) * (one / 2))

    def sign(self, margin: float | None = None) -> EncryptedArray:
        """Near 1 where self > 0, near -1 where self < 0, within twice the plan's `error`; right where `greater` is."""
        return 2 * self.greater(0.0, margin) - 1

    def __gt__(self, other: EncryptedArray | ArrayLike) -> EncryptedArray:
        """`greater` with the planned margin."""
        return self.greater(other)

    def __lt__(self, other: EncryptedArray | ArrayLike) -> EncryptedArray:
        """`greater` with the planned margin, the other way round."""
        return (-self).greater(-other if isinstance(other, EncryptedArray) else -self._numbers(other))

    # ---- plumbing ---------------------------------------------------------------------------------------------

    def _each(self, function: Callable[[Evaluator, Ciphertext], Ciphertext], noise: float) -> EncryptedArray:
        return replace(self, ciphertexts=tuple(for_each(self.evaluator, function, self.ciphertexts)), noise=noise)

    def _accurate(self, noise: float) -> float:
        """The noise that an operation leaves; RangeError when that leaves nothing of its result."""
        if noise > COARSEST_ERROR:
            raise RangeError(
                f"The result would be off by up to {noise * self.plan.unit:.3g}, where values of at most "
                f"{self.plan.unit:.4g} were planned; plan a bound near the size of the values, and scale clear factors "
                "down."
            )
        return noise

    def _numbers(self, values: ArrayLike) -> Floats:
        """Clear numbers as float64, checked."""
        array = self._finite(values)
        if array.size and np.abs(array).max() > self.plan.largest:
            raise RangeError(
                f"A clear operand exceeds ±{self.plan.largest:.4g}, the largest value of this plan; plan a larger bound."
            )
        return array

    @staticmethod
    def _finite(values: ArrayLike) -> Floats:
        try:
            array = np.asarray(values)
        except ValueError:
            raise InputError("A clear operand is no array: its rows differ in length; give equal ones.") from None
        if array.dtype.kind not in "biuf":
            raise InputError(f"Encrypted arrays meet real numbers only, not {array.dtype}; convert to float64.")
        if not np.isfinite(array).all():
            raise InputError("A clear operand holds NaN or infinity; replace it first.")
        return array.astype(np.float64)

    def _slots(self, values: ArrayLike) -> Floats:
        """Clear numbers, broadcast to this shape, in slots."""
        numbers = self._numbers(values)
        try:
            return self.layout.pack(np.broadcast_to(numbers, self.shape))
        except ValueError:
            raise InputError(
                f"A clear operand of shape {numbers.shape} does not broadcast to the encrypted shape {self.shape}; reshape it."
            ) from None

    def _plaintexts(self, slots: Floats) -> list[Plaintext]:
        return for_each(self.evaluator, lambda e, row: e.encode(row.astype(np.complex128), self.level), list(slots))

    def _pairs(self, other: Iterable[Plaintext]) -> list[tuple[Ciphertext, Plaintext]]:
        return list(zip(self.ciphertexts, other, strict=True))

    def _with_plain(self, slots: Floats) -> EncryptedArray:
        if not slots.any():
            return self
        pairs = self._pairs(self._plaintexts(slots))
        noise = self.noise + self.plan.noise.encoding(self.level)
        sums = for_each(self.evaluator, lambda e, p: e.add_plain(*p), pairs)
        return replace(self, ciphertexts=tuple(sums), noise=noise)

    def _times_slots(self, slots: Floats) -> EncryptedArray:
        """Times clear slots: one level."""
        self._need(1, "A product")
        noise = self._accurate(self.plan.noise.clear_product(self.noise, float(np.abs(slots).max()), self.level))
        pairs = self._pairs(self._plaintexts(slots))
        products = for_each(self.evaluator, lambda e, p: e.rescale(e.multiply_plain(*p)), pairs)
        return replace(self, ciphertexts=tuple(products), noise=noise)

    def _times_number(self, number: float) -> EncryptedArray:
        if number.is_integer() and abs(number) <= LARGEST_INTEGER:
            noise = self._accurate(abs(number) * self.noise)
            return self._each(lambda e, x: e.combine([(x, number)], x.scale), noise)
        self._need(1, "A product with a number that is no small integer")
        noise = self._accurate(self.plan.noise.clear_product(self.noise, abs(number), self.level))
        return self._each(lambda e, x: e.at_level(x, x.level - 1, number), noise)

    def _product(self, other: EncryptedArray) -> EncryptedArray:
        a, b = self._aligned(other)
        a, b = (x._ready([], "multiply", relinearise=True) for x in (a, b))
        a._need(1, "A product")
        unit = float(self.plan.unit)
        noise = self._accurate(self.plan.noise.product(a.noise, b.noise, self.plan.unit, a.level))

        def multiply(e: Evaluator, pair: tuple[Ciphertext, Ciphertext]) -> Ciphertext:
            x, y = pair
            return e.multiply(x if unit == 1.0 else e.combine([(x, unit)], x.scale), y)

        pairs = list(zip(a.ciphertexts, b.ciphertexts, strict=True))
        clean = any(x.clean and x.layout == a.layout for x in (self, other))
        products = for_each(self.evaluator, multiply, pairs)
        return replace(a, ciphertexts=tuple(products), noise=noise, clean=clean)

    def _combined(
        self, other: EncryptedArray, function: Callable[[Evaluator, Ciphertext, Ciphertext], Ciphertext]
    ) -> EncryptedArray:
        a, b = self._aligned(other)
        pairs = list(zip(a.ciphertexts, b.ciphertexts, strict=True))
        clean = all(x.clean and x.layout == a.layout for x in (self, other))
        sums = for_each(self.evaluator, lambda e, p: function(e, *p), pairs)
        return replace(a, ciphertexts=tuple(sums), noise=a.noise + b.noise, clean=clean)

    def _aligned(self, other: EncryptedArray) -> tuple[EncryptedArray, EncryptedArray]:
        """Both in one layout, that of the larger, and at one level, the lower. No level is used up."""
        mine, theirs = self.evaluator.keys, other.evaluator.keys
        if mine is None or theirs is None or mine.key_id != theirs.key_id or self.plan != other.plan:
            raise KeyMismatch(
                "These arrays were encrypted for different keys or plans; encrypt both with the same keys."
            )
        layout = self.layout if self.ndim >= other.ndim else other.layout
        level = min(self.level, other.level)
        return self._spread(layout)._at(level), other._spread(layout)._at(level)

    def _spread(self, layout: ArrayLayout) -> EncryptedArray:
        """Broadcast to a layout. Scalars fill all slots and short vectors all rows, so nothing moves."""
        if layout == self.layout:
            return self
        if not self.shape or (
            self.layout.repeated and layout == self.layout.with_shape((*layout.shape[:-1], *self.shape))
        ):
            return replace(self, layout=layout, ciphertexts=self.ciphertexts * layout.ciphertexts, clean=layout.full)
        kinds = ["one number a row" if x.column else f"shape {x.shape}" for x in (self.layout, layout)]
        raise InputError(
            f"Encrypted arrays of {kinds[0]} and {kinds[1]} sit in different slots, which cannot be moved; "
            "encrypt both with the same shape."
        )

    def _at(self, level: int) -> EncryptedArray:
        if level == self.level:
            return self
        return self._each(lambda e, x: e.at_level(x, level), self.noise + self.plan.noise.division(level))

    def _need(self, levels: int, what: str) -> None:
        if self.level < levels:
            raise PlanError(
                f"{what} takes {levels} level(s) but this array has {self.level} left; "
                f"plan for {levels - self.level} more (depth={self.plan.depth + levels - self.level})."
            )

    def _ready(self, steps: Iterable[int], operation: str, *, relinearise: bool = False) -> EncryptedArray:
        """Lowered, if need be, to the level of the keys that an operation uses."""
        numbers = [rotation(self.plan.parameters, step) for step in steps] + [RELINEARISATION] * relinearise
        keys = {} if self.evaluator.keys is None else self.evaluator.keys.keys
        special = len(self.plan.parameters.special_primes)
        level = self.level
        for number in numbers:
            if number not in keys:
                raise PlanError(f'There are no keys for this; plan with "{operation}" among the operations.')
            level = min(level, keys[number].data.shape[2] - special - 1)
        return self._at(level)

    def _cleaned(self) -> EncryptedArray:
        """With zeros in unused slots: one level if they are not."""
        if self.clean or self.layout.full:
            return self
        self._need(1, "Clearing unused slots, after a sum with an array of another shape,")
        return replace(self._times_slots(_mask(self.layout)), clean=True)

    def _times_matrix(self, shape: tuple[int, int], matrix: Floats | EncryptedMatrix) -> EncryptedArray:
        steps, layout = self.plan.steps, self.layout
        if not self.shape or layout.column or self.shape[-1] != shape[0]:
            raise InputError(
                f"Shapes {self.shape} and {shape} do not fit a product; rows of one meet columns of the other."
            )
        if shape[0] > steps.rows or shape[1] > steps.columns:
            raise PlanError(f"A matrix of shape {shape} is larger than the planned {self.plan.matmul}; plan with it.")
        encrypted = isinstance(matrix, EncryptedMatrix)
        source = self._ready(steps.rotations(*shape), "matmul", relinearise=encrypted)
        if isinstance(matrix, EncryptedMatrix):
            if source.evaluator.keys is None or matrix.key_id != source.evaluator.keys.key_id:
                raise KeyMismatch("This matrix was encrypted for other keys; encrypt it with the keys of the array.")
            source = source._at(min(source.level, matrix.level))
        source._need(1, "A product with a matrix")
        items, evaluator, rows = source.ciphertexts, source.evaluator, shape[0]
        # What an encrypted matrix holds is not known here; its owner has refused larger columns.
        column = sqrt(rows) if isinstance(matrix, EncryptedMatrix) else float(np.linalg.norm(matrix, axis=0).max())
        error = source.noise + (self.plan.noise.fresh(source.level) if encrypted else 0.0)
        noise = self._accurate(self.plan.noise.matrix_product(error, column, rows, source.level))
        products = (
            multiply_encrypted_matrix(evaluator, items, matrix)
            if isinstance(matrix, EncryptedMatrix)
            else multiply_matrix(evaluator, items, steps, matrix, layout.stride)
        )
        return replace(
            source,
            layout=layout.with_shape((*self.shape[:-1], shape[1])),
            ciphertexts=tuple(products),
            noise=noise,
            clean=self.clean,
        )


def _mask(layout: ArrayLayout) -> Floats:
    """1 in used slots, 0 in others: (ciphertexts, slots)."""
    return layout.pack(np.ones(layout.shape))


def _doubling_sum(evaluator: Evaluator, value: Ciphertext, steps: Sequence[int]) -> Ciphertext:
    for step in steps:
        value = evaluator.add(value, evaluator.rotate(value, step))
    return value
