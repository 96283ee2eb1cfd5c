"""The evaluator's operations replayed on the big-integer reference, ciphertext by ciphertext.

Each method does what `Evaluator` documents under the same name, in plain integers; none calls it. Scales are carried
along as floats in the order of the scheme's definition, for they are part of a ciphertext.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import reference
from reference import Array, ReferenceRing
from toy import reference_ring

from cipherlens.scheme.ciphertext import Ciphertext, Plaintext
from cipherlens.scheme.keys import RELINEARISATION, conjugation, rotation
from cipherlens.scheme.parameters import Parameters


@dataclass(frozen=True)
class ReferenceEngine:
    """What the polynomials of `cipherlens.scheme` take from an engine: numbers as constant polynomials."""

    parameters: Parameters

    def constant(self, value: float, scale: float, limbs: int) -> list[float]:
        coefficients = [round(value * scale)] + [0] * (self.parameters.ring_dimension - 1)
        return [float(row[0]) for row in reference.lower(coefficients, self.parameters.primes[:limbs])]


@dataclass(frozen=True)
class ReferenceEvaluator:
    """Operations under the switching keys, by key number, float64 (digits, 2, limbs + special, n)."""

    parameters: Parameters
    keys: Mapping[int, Array]

    @property
    def ring(self) -> ReferenceRing:
        return reference_ring(self.parameters)

    @property
    def engine(self) -> ReferenceEngine:
        return ReferenceEngine(self.parameters)

    def scale(self, level: int) -> float:
        return self.parameters.scales[level]

    def _rescaled(self, a: Ciphertext, levels: int = 1) -> float:
        scale = a.scale
        for level in range(a.level, a.level - levels, -1):
            scale = self.parameters.rescaled(scale, level)
        return scale

    # ---- sums -------------------------------------------------------------------------------------------------------

    def add(self, a: Ciphertext, b: Ciphertext, sign: int = 1) -> Ciphertext:
        parts = max(a.parts, b.parts)
        x, y = (np.concatenate([c.data, np.zeros((parts - c.parts, *c.data.shape[1:]))]) for c in (a, b))
        return Ciphertext(self.ring.add(x, y, sign), a.scale)

    def subtract(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        return self.add(a, b, -1)

    def negate(self, a: Ciphertext) -> Ciphertext:
        return self.subtract(Ciphertext(np.zeros_like(a.data), a.scale), a)

    def total(self, items: Sequence[Ciphertext]) -> Ciphertext:
        result = items[0]
        for item in items[1:]:
            result = self.add(result, item)
        return result

    def add_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        return self.add(a, Ciphertext(b.data[None], b.scale))

    # ---- products ---------------------------------------------------------------------------------------------------

    def tensor(self, a: Sequence[Ciphertext], b: Sequence[Ciphertext]) -> Ciphertext:
        return Ciphertext(self.ring.tensor([x.data for x in a], [y.data for y in b]), a[0].scale * b[0].scale)

    def relinearise(self, a: Ciphertext, *, rescale: bool = False) -> Ciphertext:
        key = self.keys[RELINEARISATION]
        data = self.ring.key_switch(a.data[2], key, a.data[0], a.data[1], 1, rescale)
        return Ciphertext(data, self._rescaled(a) if rescale else a.scale)

    def multiply(self, a: Ciphertext, b: Ciphertext, *, rescale: bool = True) -> Ciphertext:
        return self.relinearise(self.tensor([a], [b]), rescale=rescale)

    def plain_products(self, a: Sequence[Ciphertext], b: Sequence[Plaintext]) -> Ciphertext:
        data = self.ring.multiply_plain([x.data for x in a], [y.data for y in b])
        return Ciphertext(data, a[0].scale * b[0].scale)

    def multiply_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        return self.plain_products([a], [b])

    def multiply_monomial(self, a: Ciphertext, exponent: int) -> Ciphertext:
        """Coefficient j moves to j + exponent, and changes its sign each time it passes X^n = -1."""
        primes, n = self.ring.chain[: a.limbs], self.ring.n
        parts = []
        for part in a.data:
            moved = [0] * n
            for j, c in enumerate(reference.lift(part, primes)):
                turns, place = divmod(j + exponent, n)
                moved[place] = c if turns % 2 == 0 else -c
            parts.append(reference.lower(moved, primes))
        return Ciphertext(np.stack(parts), a.scale)

    def combine(self, items: Sequence[tuple[Ciphertext, float]], scale: float) -> Ciphertext:
        integers = [round(factor * (scale / x.scale)) for x, factor in items]
        return Ciphertext(self.ring.multiply_scalars([x.data for x, _ in items], integers), scale)

    # ---- levels -----------------------------------------------------------------------------------------------------

    def rescale(self, a: Ciphertext, levels: int = 1) -> Ciphertext:
        return Ciphertext(self.ring.divide(a.data, levels), self._rescaled(a, levels))

    def truncate(self, a: Ciphertext, level: int) -> Ciphertext:
        """The same integers modulo fewer primes."""
        primes, fewer = self.ring.chain[: a.limbs], self.ring.chain[: level + 1]
        return Ciphertext(np.stack([reference.lower(reference.lift(x, primes), fewer) for x in a.data]), a.scale)

    def at_level(self, a: Ciphertext, level: int, factor: float = 1.0) -> Ciphertext:
        wanted = self.scale(level + 1) * self.scale(level + 1)
        return self.rescale(self.combine([(self.truncate(a, level + 1), factor)], wanted))

    # ---- automorphisms ----------------------------------------------------------------------------------------------

    def automorphism(self, a: Ciphertext, galois: int) -> Ciphertext:
        data = self.ring.key_switch(a.data[1], self.keys[galois], a.data[0], None, galois, False)
        return Ciphertext(data, a.scale)

    def rotate(self, a: Ciphertext, steps: int) -> Ciphertext:
        return self.automorphism(a, rotation(self.parameters, steps))

    def conjugate(self, a: Ciphertext, steps: int = 0) -> Ciphertext:
        return self.automorphism(a, conjugation(self.parameters, steps))

    def hoisted(self, a: Ciphertext, galois_elements: Sequence[int]) -> list[Ciphertext]:
        return [a if g == 1 else self.automorphism(a, g) for g in galois_elements]

    def real(self, a: Ciphertext) -> Ciphertext:
        return self.add(a, self.conjugate(a))

    # ---- programs ---------------------------------------------------------------------------------------------------

    def transform(
        self, a: Ciphertext, rows: Mapping[int, Sequence[tuple[int, Array]]], plain_scale: float
    ) -> Ciphertext:
        """sum_j rot_{g_j}( sum_i p_ij * rot_{b_i}(x) ) with every sum modulo Q P: rows {g_j: [(b_i, p_ij) ...]}."""
        ring, primes = self.ring, self.ring.extended(a.limbs)
        modulus = reference.prod(primes)
        totals = [[0] * ring.n, [0] * ring.n]
        for giant, row in rows.items():
            elements = [rotation(self.parameters, small) for small, _ in row]
            keys = [None if g == 1 else self.keys[g] for g in elements]
            inner = ring.hoisted_transform(a.data, keys, elements, [[p] for _, p in row])[0]
            sums = [reference.lift(part, primes) for part in inner]
            if giant:
                galois = rotation(self.parameters, giant)
                second = ring.mod_down(inner[1:], None, None, 1)[0]
                switched = [reference.lift(part, primes) for part in ring.inner_product(second, self.keys[galois])]
                switched[0] = [x + y for x, y in zip(switched[0], sums[0], strict=True)]
                sums = [reference.automorphism(part, galois, modulus) for part in switched]
            totals = [[x + y for x, y in zip(t, s, strict=True)] for t, s in zip(totals, sums, strict=True)]
        extended = np.stack([reference.lower(t, primes) for t in totals])
        return Ciphertext(ring.mod_down(extended, None, None, 1), a.scale * plain_scale)
