"""The security table: how large the modulus may be for a ring dimension.

Largest log2(QP) for 128-bit classical security with uniform ternary secrets, from "Security guidelines for
implementing homomorphic encryption" (Bossuat et al., 2024, ePrint 2024/463, table 4.2). Q is the product of the
ciphertext primes, P that of the special primes of the key switch; a key is attacked through all of them together.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import log2

from cipherlens.errors import SecurityError

SECURITY_BITS = 128
LARGEST_MODULUS_BITS = {
    1 << 12: 106,
    1 << 13: 214,
    1 << 14: 430,
    1 << 15: 868,
    1 << 16: 1747,
    1 << 17: 3523,
}


def modulus_bits(primes: Iterable[int]) -> float:
    """log2 of the product of the primes."""
    return sum(log2(p) for p in primes)


def check_security(ring_dimension: int, primes: Iterable[int]) -> float:
    """The unused bits below the table's limit (>= 0).

    Raises:
        SecurityError: the ring dimension is not in the table, or the modulus is above its line.
    """
    limit = LARGEST_MODULUS_BITS.get(ring_dimension)
    if limit is None:
        known = ", ".join(str(n) for n in LARGEST_MODULUS_BITS)
        raise SecurityError(f"ring dimension {ring_dimension} is not in the security table; it knows {known}")
    bits = modulus_bits(primes)
    if bits > limit:
        raise SecurityError(
            f"log2(QP) = {bits:.1f} is above {limit}, the most that ring dimension {ring_dimension} allows at "
            f"{SECURITY_BITS}-bit security; use fewer levels or a larger ring"
        )
    return limit - bits
