"""From a public seed to uniform residues: part of the file format, the same for ever.

The stream is AES-256 in counter mode, its key the seed, its first counter block (16 bytes, big-endian)
kind (2) | index (4) | prime index (2) | 0 (8). Residues are made of its 64-bit little-endian words; words at or above
floor(2^64 / p) * p are skipped. So each limb expands on its own, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cipherlens._evaluator import Ring
from cipherlens.scheme.types import Limbs

SEED_BYTES = 32

SHORT = 1 << 18
"""Fewer residues (about 1 ms) take less time than starting threads for them."""

PIECE = 1 << 16
"""Bytes of the stream at a time: they are made and read again within the second-level cache."""


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


def expand(
    ring: Ring,
    seed: bytes,
    use: SeedUse,
    index: int,
    prime_indices: Sequence[int],
    threads: int = 1,
    *,
    out: Limbs | None = None,
) -> Limbs:
    """Uniform limbs, float64 of shape (len(prime_indices), N), NTT form; written to `out` where that is given."""
    limbs = ring.empty((len(prime_indices), ring.n)) if out is None else out

    def fill(limb: Limbs, prime_index: int) -> None:
        cipher = Cipher(algorithms.AES(seed), modes.CTR(_first_block(use, index, prime_index))).encryptor()
        zeros, stream = bytes(PIECE), np.empty(PIECE + 16, np.uint8)
        filled = 0
        while filled < ring.n:
            wanted = min(PIECE, 8 * (ring.n - filled) + 128)  # hardly ever is a word skipped
            length = cipher.update_into(zeros[:wanted], stream.data)
            filled = ring.uniform(limb, stream[:length], prime_index, filled)

    if threads <= 1 or limbs.size < SHORT:
        for limb, prime_index in zip(limbs, prime_indices, strict=True):
            fill(limb, prime_index)
    else:
        with ThreadPoolExecutor(threads) as team:
            for _ in team.map(fill, limbs, prime_indices):
                pass  # raises what a thread raised
    return limbs
