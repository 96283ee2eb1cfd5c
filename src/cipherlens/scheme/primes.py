"""Primes that a negacyclic transform of a given length can use."""

from __future__ import annotations

from collections.abc import Iterator, Set
from math import log2

from cipherlens.errors import PlanError

# Bases that decide primality for every n below 3.3e24 (Sorenson and Webster, "Strong pseudoprimes to twelve prime
# bases", 2015).
_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)

SMALLEST_BITS = 26
LARGEST = 1 << 50


def is_prime(n: int) -> bool:
    """Whether n < 3.3e24 is prime (Miller-Rabin with a deciding set of bases)."""
    if n < 2:
        return False
    for p in _WITNESSES:
        if n % p == 0:
            return n == p
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in _WITNESSES:
        x = pow(base, odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def _candidates(target: int, ring_dimension: int) -> Iterator[int]:
    """Numbers in (2^25, 2^50) that are 1 modulo 2 * ring_dimension, ordered by their distance from target."""
    step = 2 * ring_dimension
    below = target - (target - 1) % step
    above = below + step
    smallest = 1 << (SMALLEST_BITS - 1)
    while below > smallest or above < LARGEST:
        if above >= LARGEST or (below > smallest and target - below <= above - target):
            yield below
            below -= step
        else:
            yield above
            above += step


def nearest_prime(target: float, ring_dimension: int, taken: Set[int]) -> int:
    """The prime nearest to target that is 1 modulo 2 * ring_dimension and not taken.

    Raises:
        PlanError: there is none in (2^25, 2^50).
    """
    nearest = min(max(round(target), 1 << (SMALLEST_BITS - 1)), LARGEST)
    for candidate in _candidates(nearest, ring_dimension):
        if candidate not in taken and is_prime(candidate):
            return candidate
    raise PlanError(f"no unused prime below 2^50 near 2^{log2(target):.1f} for ring dimension {ring_dimension}")
