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

SHORT = 1 << 18
"""Fewer residues (0.4 ms) take less time than starting threads for them."""

GROUP = 16
"""Limbs at a time, which bounds the memory for their streams: 8 MB at N = 2^16."""

SPARE = 1 << 10
"""Bytes of the stream that are read beyond 8 a residue. At most one word in 2^14 is skipped, so 4 of a limb at N = 2^16
on average, and more than these 128 with a probability below 2^-300."""


class SeedUse(IntEnum):
    """What a seed is expanded into. One seed serves one use."""

    CIPHERTEXT = 1
    SWITCHING_KEY = 2
    PUBLIC_KEY = 3


def keystream(key: bytes, first_block: bytes, length: int) -> bytes:
    """`length` bytes of AES-256-CTR: as public or as secret as the key."""
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
    """Uniform limbs, float64 of shape (len(prime_indices), N), NTT form; written to `out` where that is given.

    The streams are made on one thread: with two, Python's lock cost more than was won.
    """
    limbs = ring.empty((len(prime_indices), ring.n)) if out is None else out
    threads = threads if limbs.size >= SHORT else 1
    length, done = 8 * ring.n + SPARE, 0
    zeros, room = bytes(length), np.empty(GROUP * length + 16, np.uint8)  # OpenSSL wants room for one block more
    while done < len(prime_indices):
        group = prime_indices[done : done + GROUP]
        for i, prime_index in enumerate(group):
            cipher = Cipher(algorithms.AES(seed), modes.CTR(_first_block(use, index, prime_index)))
            cipher.encryptor().update_into(zeros, room[i * length :].data)
        streams = room[: len(group) * length].reshape(len(group), length)
        if min(ring.uniform(limbs[done : done + GROUP], streams, group, threads)) < ring.n:
            raise RuntimeError("a stream gave too few residues, which does not happen by chance")
        done += len(group)
    return limbs
