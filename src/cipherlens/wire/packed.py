"""Ciphertexts to packed bytes and back: each residue in as many bits as its prime has.

Levels and scales are arguments here, never read from bytes: they come from the plan of whoever reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import FormatError
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.expansion import SEED_BYTES, SeedUse, expand
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.types import Limbs

Bytes = NDArray[np.uint8]


def packed_bytes(parameters: Parameters, prime_indices: Sequence[int]) -> int:
    """Bytes of one packed polynomial modulo these primes (special primes count after those of the chain)."""
    primes = parameters.primes + parameters.special_primes
    return sum(parameters.packed_limb_bytes(primes[index]) for index in prime_indices)


def pack_limbs(engine: Engine, data: Limbs, prime_indices: Sequence[int], threads: int = 1) -> Bytes:
    """Centred residues, float64 (len(prime_indices), N), to uint8 (packed_bytes,)."""
    return np.frombuffer(engine.ring.pack(np.ascontiguousarray(data), list(prime_indices), threads), np.uint8)


def unpack_limbs(engine: Engine, packed: NDArray[Any], prime_indices: Sequence[int], threads: int = 1) -> Limbs:
    """The inverse of `pack_limbs`, for bytes from outside.

    Raises:
        FormatError: another number of bytes than these limbs take, or a residue that is not below its prime.
    """
    size = packed_bytes(engine.parameters, prime_indices)
    if packed.dtype != np.uint8 or packed.shape != (size,):
        raise FormatError(
            f"{len(prime_indices)} packed limbs of ring dimension {engine.parameters.ring_dimension} take {size} bytes, "
            f"but {packed.nbytes} are there; the data belongs to other parameters or was altered"
        )
    limbs: Limbs | None = engine.ring.unpack(np.ascontiguousarray(packed), list(prime_indices), threads)
    if limbs is None:
        raise FormatError("a residue is not below its prime; the data belongs to other parameters or was altered")
    return limbs


def pack_ciphertext(engine: Engine, ciphertext: Ciphertext, threads: int = 1) -> Bytes:
    """All parts in full, one after the other: uint8 (parts * packed limbs,)."""
    indices = list(range(ciphertext.limbs)) * ciphertext.parts
    return pack_limbs(engine, ciphertext.data.reshape(len(indices), -1), indices, threads)


def unpack_ciphertext(engine: Engine, packed: NDArray[Any], parts: int, limbs: int, scale: float) -> Ciphertext:
    """The inverse of `pack_ciphertext`, for bytes from outside.

    Args:
        engine: the ring.
        packed: uint8 (packed_ciphertext_bytes(engine.parameters, parts, limbs),).
        parts: polynomials it must consist of.
        limbs: primes it must be modulo, from the reader's own plan.
        scale: what the plan says about the scale.

    Raises:
        FormatError: another number of bytes, or a residue that is not below its prime.
    """
    data = unpack_limbs(engine, packed, list(range(limbs)) * parts)
    return Ciphertext(data.reshape(parts, limbs, -1), scale)


def packed_ciphertext_bytes(parameters: Parameters, parts: int, limbs: int) -> int:
    """Length of a packed ciphertext; with one part, of the half beside a seed."""
    return parts * packed_bytes(parameters, range(limbs))


def pack_half(engine: Engine, data: Limbs, threads: int = 1) -> Bytes:
    """The half of a fresh ciphertext that is no seed, float64 (limbs, N), to uint8 (packed limbs,)."""
    return pack_limbs(engine, data, range(data.shape[0]), threads)


def unpack_seeded(
    engine: Engine, packed: NDArray[Any], seed: bytes | NDArray[Any], limbs: int, scale: float
) -> Ciphertext:
    """A fresh ciphertext of two parts from its packed half and its seed.

    Args:
        engine: the ring.
        packed: uint8 (packed_ciphertext_bytes(engine.parameters, 1, limbs),).
        seed: 32 bytes.
        limbs: primes it must be modulo, from the reader's own plan.
        scale: what the plan says about the scale.

    Raises:
        FormatError: another number of bytes, or a residue that is not below its prime.
    """
    data = engine.ring.empty((2, limbs, engine.ring.n))
    data[0] = unpack_limbs(engine, packed, range(limbs))
    expand(engine.ring, seed_bytes(seed), SeedUse.CIPHERTEXT, 0, range(limbs), out=data[1])
    return Ciphertext(data, scale)


def seed_bytes(seed: bytes | NDArray[Any]) -> bytes:
    """A seed as bytes.

    Raises:
        FormatError: not 32 bytes.
    """
    value = bytes(seed) if isinstance(seed, bytes) else seed.tobytes()
    if len(value) != SEED_BYTES:
        raise FormatError(f"a seed has {SEED_BYTES} bytes, not {len(value)}")
    return value
