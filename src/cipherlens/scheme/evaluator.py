"""Operations on ciphertexts. No function here takes a secret.

Each docstring states levels used and key switches. Scales are floats compared exactly: the scale of a level is fixed
by the parameters (`Parameters.scales`), every product of two operands at a level's scale has the same scale, and its
rescaling ends at the next level's scale by definition. Adding what has different scales is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import log2, prod
from typing import TypeVar

import numpy as np

from cipherlens.errors import KeyMismatch, PlanError
from cipherlens.scheme.ciphertext import Ciphertext, Plaintext
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.keys import RELINEARISATION, EvaluationKeys, KeyChange, conjugation, rotation
from cipherlens.scheme.types import Limbs, Slots

T = TypeVar("T")
U = TypeVar("U")

COARSEST_FACTOR = 2.0**-10
"""Largest error of a real factor that `combine` turns into an integer; changes of level stay below 2^-20."""


@dataclass(frozen=True, eq=False)
class Evaluator:
    """The operations of one ring under one owner's evaluation keys.

    Attributes:
        engine: tables and kernels.
        keys: the owner's evaluation keys; None serves operations without a key switch.
        threads: threads that one operation may use.

    Raises:
        KeyMismatch: the keys are for other parameters.
    """

    engine: Engine
    keys: EvaluationKeys | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.keys is not None and self.keys.parameters.id != self.engine.parameters.id:
            raise KeyMismatch("these evaluation keys were made for other parameters")

    # ---- plumbing ---------------------------------------------------------------------------------------------

    def map(self, function: Callable[[Evaluator, T], U], items: Iterable[T]) -> list[U]:
        """[function(evaluator, item) ...], items shared among the threads, each with a single-threaded evaluator."""
        single = replace(self, threads=1)
        if self.threads == 1:
            return [function(single, item) for item in items]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(lambda item: function(single, item), items))

    def key(self, number: int, limbs: int = 1) -> Limbs:
        """The switching key of this number; KeyMismatch when there is none that serves so many limbs."""
        if self.keys is None:
            raise KeyMismatch("this operation needs the owner's evaluation keys")
        data = self.keys[number].data
        highest = data.shape[2] - len(self.engine.parameters.special_primes) - 1
        if limbs - 1 > highest:
            raise KeyMismatch(
                f"the key for this operation serves ciphertexts up to level {highest}, not {limbs - 1}; bring the "
                "ciphertext down with `at_level` first, or plan the operation earlier"
            )
        return data

    def scale(self, level: int) -> float:
        """The scale that belongs to a level; PlanError when there is no such level."""
        scales = self.engine.parameters.scales
        if not 0 <= level < len(scales):
            raise PlanError(f"there is no level {level}; these parameters have 0 to {len(scales) - 1}")
        return scales[level]

    @staticmethod
    def require_two_parts(*items: Ciphertext) -> None:
        """PlanError for a product that is not relinearised yet: its third part would be lost."""
        if any(x.parts != 2 for x in items):
            raise PlanError(
                "this operation takes ciphertexts of two parts, and a product of two ciphertexts has three; "
                "relinearise it first"
            )

    def require_room(self, scale: float, limbs: int) -> None:
        """PlanError when even values below 1 would wrap around at this scale."""
        modulus = prod(self.engine.parameters.primes[:limbs])
        if not 0 < 2 * scale < modulus:
            raise PlanError(
                f"a scale of {scale:.6g} does not fit the modulus of 2^{log2(modulus):.1f} at level {limbs - 1}; "
                "rescale first, or plan the task with more levels"
            )

    @staticmethod
    def _same(a: Ciphertext, b: Ciphertext | Plaintext) -> None:
        if a.scale != b.scale or a.limbs != b.limbs:
            raise PlanError(
                f"operands differ: level {a.level} at scale {a.scale:.6g} and level {b.limbs - 1} at scale "
                f"{b.scale:.6g}; bring both to one level with `at_level` first"
            )

    # ---- encoding ---------------------------------------------------------------------------------------------

    def encode(self, values: Sequence[complex] | Slots, level: int, scale: float | None = None) -> Plaintext:
        """Slot values, shape (N / 2,), at a level; at the level's own scale unless another is given."""
        scale = self.scale(level) if scale is None else scale
        return Plaintext(self.engine.encode(values, scale, level + 1, self.threads), scale)

    # ---- sums -------------------------------------------------------------------------------------------------

    def add(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        """a + b; no level, no key switch. PlanError when levels or scales differ."""
        self._same(a, b)
        more, fewer = (a, b) if a.parts >= b.parts else (b, a)
        return Ciphertext(self.engine.ring.add(more.data, fewer.data, self.threads), a.scale)

    def subtract(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        """a - b; no level, no key switch. PlanError when levels or scales differ."""
        self._same(a, b)
        if a.parts < b.parts:
            return self.negate(self.subtract(b, a))
        return Ciphertext(self.engine.ring.subtract(a.data, b.data, self.threads), a.scale)

    def negate(self, a: Ciphertext) -> Ciphertext:
        """-a; exact."""
        return self.combine([(a, -1.0)], a.scale)

    def total(self, items: Sequence[Ciphertext]) -> Ciphertext:
        """The sum of ciphertexts of one level and scale; PlanError when there are none or they differ."""
        if not items:
            raise PlanError("a sum needs at least one ciphertext")
        result = items[0]
        for item in items[1:]:
            result = self.add(result, item)
        return result

    def add_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        """a + b for a clear b at the same level and scale; no level, no key switch."""
        self._same(a, b)
        return Ciphertext(self.engine.ring.add(a.data, b.data[None], self.threads), a.scale)

    # ---- products ---------------------------------------------------------------------------------------------

    def tensor(self, a: Sequence[Ciphertext], b: Sequence[Ciphertext]) -> Ciphertext:
        """sum_t a[t] * b[t] as three parts, neither relinearised nor rescaled; no level, no key switch."""
        _require_pairs(a, b)
        for x, y in zip(a, b, strict=True):
            self._same(x, a[0])
            self._same(y, b[0])
        self.require_two_parts(*a, *b)
        if a[0].limbs != b[0].limbs:
            raise PlanError(f"factors at levels {a[0].level} and {b[0].level}; bring both to one level first")
        self.require_room(a[0].scale * b[0].scale, a[0].limbs)
        data = self.engine.ring.tensor([x.data for x in a], [y.data for y in b], self.threads)
        return Ciphertext(data, a[0].scale * b[0].scale)

    def relinearise(self, a: Ciphertext, *, rescale: bool = False) -> Ciphertext:
        """Three parts to two: one key switch. With rescale the same division also drops a prime: one level."""
        if a.parts != 3:
            raise PlanError(f"relinearising takes a product of three parts, not a ciphertext of {a.parts}")
        scale = self._divided_scale(a, 1) if rescale else a.scale
        data = self.engine.ring.key_switch(
            a.data[2], self.key(RELINEARISATION, a.limbs), a.data[0], a.data[1], 1, rescale, self.threads
        )
        return Ciphertext(data, scale)

    def multiply(self, a: Ciphertext, b: Ciphertext, *, rescale: bool = True) -> Ciphertext:
        """a * b: one level (none without rescale), one key switch. Equals relinearise(tensor([a], [b])) bit for bit."""
        if a.limbs != b.limbs:
            raise PlanError(f"factors at levels {a.level} and {b.level}; bring both to one level first")
        self.require_two_parts(a, b)
        scale = a.scale * b.scale
        if rescale:
            scale = self._divided_scale(Ciphertext(a.data, scale), 1)
        self.require_room(a.scale * b.scale, a.limbs)
        key = self.key(RELINEARISATION, a.limbs)
        data = self.engine.ring.multiply(a.data, b.data, key, rescale, self.threads)
        return Ciphertext(data, scale)

    def multiply_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        """a * b for a clear b, not rescaled; no key switch."""
        return self.plain_products([a], [b])

    def plain_products(self, a: Sequence[Ciphertext], b: Sequence[Plaintext]) -> Ciphertext:
        """sum_t a[t] * b[t] for clear b, not rescaled; no key switch."""
        _require_pairs(a, b)
        for x in a:
            self._same(x, a[0])
        if any(x.parts != a[0].parts for x in a):
            raise PlanError("ciphertexts of two and of three parts in one sum of products; relinearise first")
        if any(y.limbs != a[0].limbs or y.scale != b[0].scale for y in b):
            raise PlanError("plaintexts of other levels or scales than the ciphertexts they multiply")
        self.require_room(a[0].scale * b[0].scale, a[0].limbs)
        data = self.engine.ring.multiply_plain([x.data for x in a], [y.data for y in b], self.threads)
        return Ciphertext(data, a[0].scale * b[0].scale)

    def multiply_monomial(self, a: Ciphertext, exponent: int) -> Ciphertext:
        """a * X^exponent, exact: no level, no key switch, no noise. X^(N/2) multiplies every slot by i."""
        n, ring = self.engine.parameters.ring_dimension, self.engine.ring
        turns, place = divmod(exponent % (2 * n), n)
        coefficients = np.zeros(n)
        coefficients[place] = -1.0 if turns else 1.0
        monomial = ring.residues(coefficients, a.limbs, self.threads)
        return Ciphertext(ring.multiply_plain([a.data], [monomial], self.threads), a.scale)

    def combine(self, items: Sequence[tuple[Ciphertext, float]], scale: float) -> Ciphertext:
        """sum of factor * ciphertext at the given scale, not rescaled; no key switch.

        Each real factor becomes the integer round(factor * scale / ciphertext.scale); the ciphertexts share a level
        but not necessarily a scale. This is how a ciphertext changes to the scale of another level.

        Raises:
            PlanError: no ciphertext, different levels, or scales so close that the integer is no good approximation.
            RangeError: a factor too large for the modulus, or not finite.
        """
        if not items:
            raise PlanError("a linear combination needs at least one ciphertext")
        limbs, parts = items[0][0].limbs, items[0][0].parts
        if any(x.limbs != limbs or x.parts != parts for x, _ in items):
            raise PlanError("the ciphertexts of a linear combination must share a level and their number of parts")
        self.require_room(scale, limbs)
        residues = [self.engine.constant(factor, scale / x.scale, limbs) for x, factor in items]
        for x, factor in items:
            ratio = scale / x.scale
            if abs(round(factor * ratio) - factor * ratio) > ratio * COARSEST_FACTOR:
                raise PlanError(
                    f"the factor {factor:.6g} is no whole number, and a scale {ratio:.6g} times the ciphertext's cannot "
                    "express it; give a higher scale and rescale afterwards"
                )
        return Ciphertext(self.engine.ring.multiply_scalars([x.data for x, _ in items], residues, self.threads), scale)

    # ---- levels -----------------------------------------------------------------------------------------------

    def _divided_scale(self, a: Ciphertext, levels: int) -> float:
        if levels < 1:
            raise PlanError(f"a rescale drops at least one prime, not {levels}")
        if levels > a.level:
            raise PlanError("no level is left for another product; plan the task with more levels")
        scale = a.scale
        for level in range(a.level, a.level - levels, -1):
            scale = self.engine.parameters.rescaled(scale, level)
        return scale

    def rescale(self, a: Ciphertext, levels: int = 1) -> Ciphertext:
        """Divide by the last primes and drop them: that many levels, no key switch."""
        scale = self._divided_scale(a, levels)
        return Ciphertext(self.engine.ring.divide(a.data, levels, self.threads), scale)

    def truncate(self, a: Ciphertext, level: int) -> Ciphertext:
        """Drop primes down to a level without dividing: values and scale stay. No key switch."""
        if level > a.level:
            raise PlanError(f"a ciphertext at level {a.level} cannot be raised to level {level}")
        if level < 0:
            raise PlanError(f"there is no level {level}; 0 is the lowest")
        self.require_room(a.scale, level + 1)
        if level == a.level:
            return a
        data = self.engine.ring.empty((a.parts, level + 1, self.engine.ring.n))
        data[:] = a.data[:, : level + 1]
        return Ciphertext(data, a.scale)

    def at_level(self, a: Ciphertext, level: int, factor: float = 1.0) -> Ciphertext:
        """factor * a at a lower level and that level's own scale; no key switch."""
        if level == a.level and factor == 1.0 and a.scale == self.scale(level):
            return a
        if level < 0:
            raise PlanError(f"there is no level {level}; 0 is the lowest")
        if level >= a.level:
            raise PlanError(f"changing the scale of a ciphertext at level {a.level} ends below level {a.level}")
        above = self.truncate(a, level + 1)
        wanted = self.scale(level + 1) * self.scale(level + 1)
        return self.rescale(self.combine([(above, factor)], wanted))

    # ---- automorphisms ----------------------------------------------------------------------------------------

    def _automorphism(self, a: Ciphertext, galois: int) -> Ciphertext:
        self.require_two_parts(a)
        if galois == 1:
            return a
        key = self.key(galois, a.limbs)
        data = self.engine.ring.key_switch(a.data[1], key, a.data[0], None, galois, False, self.threads)
        return Ciphertext(data, a.scale)

    def rotate(self, a: Ciphertext, steps: int) -> Ciphertext:
        """Slot j receives slot j + steps: one key switch, no level."""
        return self._automorphism(a, rotation(self.engine.parameters, steps))

    def conjugate(self, a: Ciphertext, steps: int = 0) -> Ciphertext:
        """Rotate by `steps` and conjugate every slot: one key switch together, no level."""
        return self._automorphism(a, conjugation(self.engine.parameters, steps))

    def hoisted(self, a: Ciphertext, galois_elements: Sequence[int]) -> list[Ciphertext]:
        """Several automorphisms of one ciphertext (Galois elements; 1 gives the ciphertext itself).

        The decomposition, the larger part of a key switch, is done once (Halevi, Shoup, "Faster homomorphic linear
        transformations in HElib", 2018). Results equal those of single rotations bit for bit.
        """
        self.require_two_parts(a)
        ring = self.engine.ring
        digits = ring.decompose(a.data[1], self.threads) if any(g != 1 for g in galois_elements) else None
        results = []
        for galois in galois_elements:
            if galois == 1 or digits is None:
                results.append(a)
                continue
            key = self.key(galois, a.limbs)
            data = ring.key_switch_digits(digits, key, a.data[0], None, galois, False, self.threads)
            results.append(Ciphertext(data, a.scale))
        return results

    def change_key(self, a: Ciphertext, change: KeyChange) -> Ciphertext:
        """The same slots under another secret key: one key switch, no level. KeyMismatch when it does not reach a."""
        if a.parts != 2:
            raise PlanError("a key is changed under ciphertexts of two parts; relinearise first")
        if change.parameters.id != self.engine.parameters.id or change.level < a.level:
            raise KeyMismatch(f"this switching key does not serve level {a.level} of this ring; make one that does")
        data = self.engine.ring.key_switch(a.data[1], change.key.data, a.data[0], None, 1, False, self.threads)
        return Ciphertext(data, a.scale)

    def real(self, a: Ciphertext) -> Ciphertext:
        """2 Re(a) = a + conj(a): one key switch, no level. The factor is the caller's to fold elsewhere."""
        return self.add(a, self.conjugate(a))


def _require_pairs(a: Sequence[Ciphertext], b: Sequence[Ciphertext | Plaintext]) -> None:
    if not a or len(a) != len(b):
        raise PlanError(f"a sum of products needs as many factors on both sides, not {len(a)} and {len(b)}")
