"""Ciphertexts and plaintexts: immutable arrays of limbs with a scale."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

from cipherlens.scheme.types import Limbs


@dataclass(frozen=True, eq=False)
class Ciphertext:
    """An encryption of N / 2 complex slots.

    Attributes:
        data: float64 (parts, limbs, N), NTT form; two parts, or three before relinearisation.
        scale: what the slot values are multiplied with.
    """

    data: Limbs
    scale: float

    @property
    def limbs(self) -> int:
        """Primes of the chain that it is modulo."""
        return int(self.data.shape[1])

    @property
    def level(self) -> int:
        """How many times it can be rescaled."""
        return self.limbs - 1

    @property
    def parts(self) -> int:
        """Polynomials it consists of."""
        return int(self.data.shape[0])

    def __repr__(self) -> str:
        return f"Ciphertext(parts={self.parts}, level={self.level}, scale=2^{log2(self.scale):.1f})"


@dataclass(frozen=True, eq=False)
class Plaintext:
    """Encoded slot values.

    Attributes:
        data: float64 (limbs, N), NTT form.
        scale: what the slot values are multiplied with.
    """

    data: Limbs
    scale: float

    @property
    def limbs(self) -> int:
        """Primes of the chain that it is modulo."""
        return int(self.data.shape[0])

    def __repr__(self) -> str:
        return f"Plaintext(level={self.limbs - 1}, scale=2^{log2(self.scale):.1f})"
