"""The owner's side of encrypted arrays: keys for a plan, encrypting and decrypting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from cipherlens.errors import FormatError, InputError, KeyMismatch, RangeError
from cipherlens.owner.secret_key import SecretKey
from cipherlens.scheme.arguments import whole_number
from cipherlens.scheme.array import EncryptedArray
from cipherlens.scheme.array_layout import Floats
from cipherlens.scheme.array_noise import COARSEST_ERROR
from cipherlens.scheme.array_plan import ArrayPlan
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.scheme.diagonals import EncryptedMatrix, for_each
from cipherlens.scheme.engine import Engine, usable_cores
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import EvaluationKeys
from cipherlens.scheme.notebook import NotebookRepr


@dataclass(frozen=True, eq=False, repr=False)
class ArrayKeys(NotebookRepr):
    """All keys for one plan. Whoever computes gets arrays and `evaluation`, never this.

    Attributes:
        plan: what they are for.
        secret: the key that decrypts.
        evaluation: the keys that computing takes.
        threads: threads that the arrays made here compute with.
    """

    plan: ArrayPlan
    secret: SecretKey = field(repr=False)
    evaluation: EvaluationKeys
    threads: int

    @classmethod
    def create(
        cls, plan: ArrayPlan, *, threads: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> ArrayKeys:
        """Fresh keys; `threads` is by default the number of usable cores. `print(plan)` says before how large they are.

        Raises SecurityError for a ring that is not inside the security table.
        """
        count = usable_cores() if threads is None else whole_number(threads, "The number of threads")
        if count < 1:
            raise InputError(f"At least one thread is needed, not {count}; leave threads out to use all cores.")
        secret = SecretKey.create(Engine(plan.parameters))
        return cls(plan, secret, secret.evaluation_keys(plan.key_requests(), count, progress), count)

    def __repr__(self) -> str:
        return (
            f"ArrayKeys({self.secret.key_id[:8]}, shape={self.plan.shape}, "
            f"ring_dimension={self.plan.parameters.ring_dimension}, {len(self.evaluation.keys)} evaluation keys, "
            f"{self.evaluation.nbytes / 1e6:.1f} MB packed)"
        )

    @property
    def evaluator(self) -> Evaluator:
        """What arrays carry: the operations under these evaluation keys; nothing secret."""
        return Evaluator(self.secret.engine, self.evaluation, self.threads)

    def encrypt(self, values: ArrayLike) -> EncryptedArray:
        """Encrypt real numbers that broadcast to the plan's shape, float64, at the highest level.

        Raises:
            InputError: complex, NaN or infinite values, or another shape.
            RangeError: values beyond `plan.largest`.
        """
        numbers = self._numbers(values)
        try:
            numbers = np.broadcast_to(numbers, self.plan.shape)
        except ValueError:
            raise InputError(
                f"Values of shape {numbers.shape} do not broadcast to the planned shape {self.plan.shape}; reshape them."
            ) from None
        layout = self.plan.layout
        ciphertexts = self._encrypt(list(layout.pack(numbers) / self.plan.unit), self.plan.levels)
        noise = self.plan.noise.fresh(self.plan.levels)
        return EncryptedArray(self.evaluator, self.plan, layout, tuple(ciphertexts), noise)

    def encrypt_matrix(self, matrix: ArrayLike) -> EncryptedMatrix:
        """Encrypt W, (rows, columns) up to the planned size, for products a @ W: rows + columns - 1 ciphertexts.

        Raises:
            InputError: it is no matrix of finite real numbers, or larger than planned.
            PlanError: no product with a matrix was planned.
            RangeError: entries so large that they would magnify the error of an array beyond use.
        """
        numbers, steps = self._numbers(matrix), self.plan.steps
        if numbers.ndim != 2 or not 1 <= numbers.shape[0] <= steps.rows or not 1 <= numbers.shape[1] <= steps.columns:
            raise InputError(
                f"A matrix of shape {numbers.shape} does not fit the planned ({steps.rows}, {steps.columns}); "
                "give one that does or plan a larger one."
            )
        layout, level = self.plan.layout, self.plan.level_of("matmul")
        rows, columns = numbers.shape
        noise, column = self.plan.noise, float(np.linalg.norm(numbers, axis=0).max())
        if noise.matrix_product(noise.fresh(level), column, rows, level) > COARSEST_ERROR:
            raise RangeError(
                f"A matrix with a column of length {column:.3g} magnifies the error of encrypted values beyond the bound "
                f"of {self.plan.unit}; plan a bound near the size of the values, or scale the matrix down."
            )
        moved = steps.moved_diagonals(numbers, layout.slots, layout.stride)
        fresh = iter(self._encrypt([diagonal for row in moved.values() for _, diagonal in row], level))
        diagonals = {giant: tuple((m1, next(fresh)) for m1, _ in row) for giant, row in moved.items()}
        return EncryptedMatrix((rows, columns), layout.stride, steps, self.evaluation.key_id, diagonals)

    def decrypt(self, array: EncryptedArray) -> Floats:
        """The values, float64 of the array's shape. They carry the encryption's error: for the owner alone.

        Raises:
            KeyMismatch: the array belongs to other keys or another plan.
            FormatError: its ciphertexts have a scale that no operation leaves.
            RangeError: values left the planned range on the way, so the result would be wrong.
        """
        keys = array.evaluator.keys
        if array.plan != self.plan or keys is None or keys.key_id != self.evaluation.key_id:
            raise KeyMismatch(
                "This array belongs to other keys or another plan; decrypt it with the keys it was made by."
            )
        scales = self.plan.parameters.scales
        if any(x.parts != 2 or x.level >= len(scales) or x.scale != scales[x.level] for x in array.ciphertexts):
            raise FormatError(
                "These ciphertexts are not at the scale of their level; take arrays from operations only."
            )
        decrypted = self.evaluator.map(lambda _, x: self.secret.decrypt(x), array.ciphertexts)
        slots = np.stack(decrypted) * self.plan.unit
        if not np.abs(slots).max() <= self.plan.largest:
            raise RangeError(
                f"Values left ±{self.plan.largest:.4g}, the range of this plan, so the result is wrong; plan a larger "
                "bound, and compare only what differs by no more than it."
            )
        return array.layout.unpack(slots.real)

    def _encrypt(self, rows: Sequence[Floats], level: int) -> list[Ciphertext]:
        def encrypt(e: Evaluator, slots: Floats) -> Ciphertext:
            return self.secret.encrypt(e.encode(slots.astype(np.complex128), level), e.threads)

        return for_each(self.evaluator, encrypt, rows)

    def _numbers(self, values: ArrayLike) -> Floats:
        try:
            array = np.asarray(values)
        except ValueError:
            raise InputError("These values are no array: their rows differ in length; give equal ones.") from None
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise InputError("Only finite real numbers can be encrypted here; convert to float64 without NaN.")
        if array.size and np.abs(array).max() > self.plan.largest:
            raise RangeError(f"Values exceed ±{self.plan.largest:.4g}, the range of this plan; plan a larger bound.")
        return array.astype(np.float64)
