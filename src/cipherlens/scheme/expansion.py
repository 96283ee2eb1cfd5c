"""From a public seed to uniform residues: part of the file format, the same for ever.

The stream is AES-256 in counter mode, its key the seed, its first counter block (16 bytes, big-endian)
kind (2) | index (4) | prime index (2) | 0 (8). Residues are made of its 64-bit little-endian words; words at or above
floor(2^64 / p) * p are skipped. So each limb expands on its own, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cipherlens._evaluator import Ring
from cipherlens.scheme.types import Limbs

SEED_BYTES = 32


class SeedUse(IntEnum):
    """What a seed is expanded into. One seed serves one use."""

    CIPHERTEXT = 1
    SWITCHING_KEY = 2
    PUBLIC_KEY = 3


def keystream(key: bytes, first_block: bytes, length: int) -> bytes:
    """`length` bytes of AES-256-CTR."""
    return Cipher(algorithms.AES(key), modes.CTR(first_block)).encryptor().update(bytes(length))


def _first_block(use: SeedUse, index: int, prime_index: int) -> bytes:
    return int(use).to_bytes(2) + index.to_bytes(4) + prime_index.to_bytes(2) + bytes(8)


def expand(ring: Ring, seed: bytes, use: SeedUse, index: int, prime_indices: Sequence[int]) -> Limbs:
    """Uniform limbs, float64 of shape (len(prime_indices), N), NTT form."""
    limbs = []
    for prime_index in prime_indices:
        words = ring.n + 64  # a word is skipped with probability below 2^-14
        limb = None
        while limb is None:
            stream = keystream(seed, _first_block(use, index, prime_index), 8 * words)
            limb = ring.uniform(np.frombuffer(stream, np.uint8), prime_index)
            words *= 2
        limbs.append(limb)
    return np.stack(limbs)
