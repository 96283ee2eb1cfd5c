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


class SeedStreams:
    """The streams of one seed, one limb after the other, for the compiled rings.

    Called with a task and a slot it writes the stream of limb `limbs[task]` to `room[slot]`, on one thread: two would
    only wait for Python's lock. The other threads meanwhile use the streams that are made.

    Attributes:
        room: uint8 (slots, stream length), a slot for every thread and as many more.
    """

    def __init__(self, n: int, seed: bytes, use: SeedUse, limbs: Sequence[tuple[int, int]], threads: int = 1) -> None:
        """`limbs`: index and prime index of each."""
        self._key, self._use, self._limbs = algorithms.AES(seed), int(use).to_bytes(2), limbs
        self._zeros = bytes(8 * n + SPARE)
        slots, length = 2 * threads if threads > 1 else 1, len(self._zeros)
        self._flat = np.empty(slots * length + 16, np.uint8)  # OpenSSL wants room for a block more than it writes
        self.room = self._flat[: slots * length].reshape(slots, length)

    def __call__(self, task: int, slot: int) -> None:
        """Write one stream."""
        index, prime_index = self._limbs[task]
        first_block = self._use + index.to_bytes(4) + prime_index.to_bytes(2) + bytes(8)
        place = self._flat[slot * len(self._zeros) :].data
        Cipher(self._key, modes.CTR(first_block)).encryptor().update_into(self._zeros, place)


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
    threads = threads if limbs.size >= SHORT else 1
    streams = SeedStreams(ring.n, seed, use, [(index, i) for i in prime_indices], threads)
    ring.uniform(limbs, prime_indices, streams.room, streams, threads)
    return limbs
