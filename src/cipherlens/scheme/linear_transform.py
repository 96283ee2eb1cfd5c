"""Products of an encrypted vector with a clear matrix.

M x = sum_k d_k * rot_k(x) over the non-zero generalised diagonals d_k of M (Halevi, Shoup, "Algorithms in HElib",
2014). Baby step giant step, k = giant + baby: sum_j rot_{g_j}( sum_i rot_{-g_j}(d_{ij}) * rot_{b_i}(x) ). Double
hoisting (Bossuat, Mouchet, Troncoso-Pastoriza, Hubaux, "Efficient bootstrapping for approximate homomorphic encryption
with non-sparse keys", 2021, section 4) leaves every inner and outer sum modulo Q P, so that x is decomposed once, each
giant step once, and the whole transform is divided by P once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import PlanError
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import KeyRequest, merge_requests, rotation
from cipherlens.scheme.types import Limbs


@dataclass(frozen=True, eq=False)
class LinearTransform:
    """A clear matrix made ready for ciphertexts of one level.

    Attributes:
        level: of the ciphertexts it takes.
        scale: of its plaintexts.
        rows: for each giant step (its rotation), the baby rotations and their encoded diagonals, float64
            (limbs + special primes, N).
    """

    level: int
    scale: float
    rows: Mapping[int, tuple[tuple[int, Limbs], ...]]

    @classmethod
    def encode(
        cls,
        engine: Engine,
        diagonals: Mapping[int, NDArray[np.complex128]],
        level: int,
        *,
        scale: float | None = None,
        baby: int | None = None,
        threads: int = 1,
    ) -> LinearTransform:
        """Encode diagonals {k: (N / 2,) values}, where result[j] = sum_k diagonals[k][j] * x[j + k].

        scale: of the plaintexts, the level's own by default. baby: baby steps, about the root of twice the number of
        diagonals by default (a giant step costs about twice a baby step). threads: shared among the diagonals.

        Raises:
            PlanError: no diagonal, or a level that there is not.
            InputError: a diagonal of another length.
            RangeError: a diagonal too large for the level's modulus.
        """
        if not diagonals:
            raise PlanError("a linear transform needs at least one diagonal that is not zero")
        p = engine.parameters
        scale = Evaluator(engine).scale(level) if scale is None else scale
        baby = baby or baby_steps(len(diagonals))
        ordered = sorted(((k % p.slots, v) for k, v in diagonals.items()), key=lambda pair: pair[0])

        def plaintext(evaluator: Evaluator, item: tuple[int, NDArray[np.complex128]]) -> Limbs:
            k, diagonal = item
            values = np.ascontiguousarray(np.roll(diagonal, k - k % baby), np.complex128)
            return engine.encode(values, scale, level + 1, evaluator.threads, extended=True)

        rows: dict[int, list[tuple[int, Limbs]]] = {}
        for (k, _), plain in zip(ordered, Evaluator(engine, threads=threads).map(plaintext, ordered), strict=True):
            rows.setdefault(k - k % baby, []).append((k % baby, plain))
        return cls(level, scale, {giant: tuple(row) for giant, row in rows.items()})

    def key_requests(self, engine: Engine) -> tuple[KeyRequest, ...]:
        """The keys that it uses."""
        p = engine.parameters
        steps = set(self.rows) | {small for row in self.rows.values() for small, _ in row}
        return merge_requests(KeyRequest(rotation(p, step), self.level) for step in steps)

    def apply(self, evaluator: Evaluator, x: Ciphertext) -> Ciphertext:
        """M x, not rescaled; no level. Key switches: one decomposition for the baby steps, one a giant step.

        Raises PlanError for a ciphertext of another level, of three parts or of a scale that leaves no room for the
        product; KeyMismatch when a key is missing.
        """
        if x.level != self.level:
            raise PlanError(f"this transform is encoded for level {self.level}, not {x.level}")
        evaluator.require_two_parts(x)
        evaluator.require_room(x.scale * self.scale, x.limbs)
        ring, p, threads = evaluator.engine.ring, evaluator.engine.parameters, evaluator.threads
        digits = ring.decompose(x.data[1], threads)
        steps = sorted({small for row in self.rows.values() for small, _ in row})
        elements = [rotation(p, small) for small in steps]
        keys = [None if g == 1 else evaluator.key(g, x.limbs) for g in elements]
        rows = [dict(row) for row in self.rows.values()]
        plain = [[row.get(small) for row in rows] for small in steps]
        sums = ring.hoisted_transform(digits, x.data, keys, elements, plain, threads)
        total = sums[0] if 0 in self.rows else np.zeros_like(sums[0])
        for giant, inner in zip(self.rows, sums, strict=True):
            if giant:
                # Only the second part is divided and switched; the first joins modulo Q P as it is.
                galois = rotation(p, giant)
                second = ring.decompose(ring.mod_down(inner[1:], None, None, 1, threads)[0], threads)
                ring.add_switched(total, second, inner[0], evaluator.key(galois, x.limbs), galois, threads)
        return Ciphertext(ring.mod_down(total, None, None, 1, threads), x.scale * self.scale)


def baby_steps(diagonals: int) -> int:
    """A power of two near the root of twice the number of diagonals."""
    return 1 << max(0, (isqrt(2 * diagonals) - 1).bit_length())
