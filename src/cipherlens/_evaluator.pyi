"""The engine's evaluator: every operation that needs no secret key.

Arrays are C-contiguous; limbs are float64, one row of n centred residues for each prime. ValueError is raised for
arrays of other shapes than stated. Operations release the interpreter's lock.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_Limbs = NDArray[np.float64]

def available_kernels() -> list[str]:
    """Kernels this machine can run, fastest first."""

def check_kernels(name: str) -> None:
    """Raise RuntimeError when these kernels fail their self-check."""

class Ring:
    """A ring modulo a chain of primes and special primes; limbs are float64 arrays."""

    def __init__(
        self, n: int, primes: Sequence[int], special: int, digit: int, kernel: str, threads: int = 1
    ) -> None: ...
    @property
    def n(self) -> int:
        """The ring dimension."""

    @property
    def chain(self) -> int:
        """How many primes a ciphertext has at the top level."""

    @property
    def special(self) -> int:
        """How many special primes the key switch divides by."""

    @property
    def kernel(self) -> str:
        """The kernels in use."""

    def empty(self, shape: Sequence[int]) -> _Limbs:
        """An array to fill, aligned to a line of the cache; on those that numpy makes, products take up to twice as long."""

    def ntt(self, x: _Limbs, indices: Sequence[int], inverse: bool = False, threads: int = 1) -> _Limbs:
        """Transform (len(indices), n), row i modulo prime indices[i]."""

    def residues(self, coefficients: _Limbs, limbs: int, threads: int = 1, extended: bool = False) -> _Limbs:
        """Integer coefficients (n,) to (limbs, n) in NTT form; with extended, modulo the special primes too."""

    def add(self, a: _Limbs, b: _Limbs, threads: int = 1) -> _Limbs:
        """Sum of (parts, limbs, n); b may have fewer parts than a."""

    def subtract(self, a: _Limbs, b: _Limbs, threads: int = 1) -> _Limbs:
        """Difference of (parts, limbs, n); b may have fewer parts than a."""

    def multiply_plain(self, ciphertexts: Sequence[_Limbs], plaintexts: Sequence[_Limbs], threads: int = 1) -> _Limbs:
        """sum_t ciphertexts[t] * plaintexts[t]"""

    def multiply_scalars(
        self, ciphertexts: Sequence[_Limbs], residues: Sequence[Sequence[float]], threads: int = 1
    ) -> _Limbs:
        """sum_t residues[t] * ciphertexts[t], centred residues, one for each limb"""

    def tensor(self, a: Sequence[_Limbs], b: Sequence[_Limbs], threads: int = 1) -> _Limbs:
        """sum_t a[t] (x) b[t], three parts"""

    def accumulate_scatter(
        self,
        sums: Sequence[_Limbs],
        babies: Sequence[Sequence[_Limbs]],
        giants: Sequence[Sequence[_Limbs]],
        threads: int = 1,
    ) -> None:
        """Add to sums[m], (3, limbs, n), in place: sum_t babies[t][m % g] (x) giants[t][m // g]."""

    def divide(self, x: _Limbs, tail: int = 1, threads: int = 1) -> _Limbs:
        """Divide by the last `tail` primes of the chain and drop them."""

    def automorphism(self, x: _Limbs, galois: int, threads: int = 1) -> _Limbs:
        """X -> X^galois on (parts, limbs, n)."""

    def decompose(self, c: _Limbs, threads: int = 1) -> _Limbs:
        """(limbs, n) to its digits, (digits, limbs + special, n)."""

    def inner_product(self, digits: _Limbs, key: _Limbs, threads: int = 1) -> _Limbs:
        """Digits times a switching key, (2, limbs + special, n), not yet divided by P."""

    def hoisted_transform(
        self,
        digits: _Limbs,
        ciphertext: _Limbs,
        keys: Sequence[_Limbs | None],
        galois: Sequence[int],
        plain: Sequence[Sequence[_Limbs | None]],
        threads: int = 1,
    ) -> _Limbs:
        """For each row r: sum_k plain[k][r] * automorphism_k(key switch of the ciphertext), times P, not divided:
        (rows, 2, limbs + special, n)."""

    def add_switched(
        self, total: _Limbs, digits: _Limbs, first: _Limbs, key: _Limbs, galois: int, threads: int = 1
    ) -> None:
        """total += automorphism(digits * key + (first, 0)), (2, limbs + special, n), none of them divided by P."""

    def mod_down(
        self, extended: _Limbs, add0: _Limbs | None, add1: _Limbs | None, galois: int = 1, threads: int = 1
    ) -> _Limbs:
        """Divide (parts, limbs + special, n) by P, add, and apply an automorphism."""

    def key_switch(
        self,
        c: _Limbs,
        key: _Limbs,
        add0: _Limbs | None,
        add1: _Limbs | None,
        galois: int = 1,
        rescale: bool = False,
        threads: int = 1,
    ) -> _Limbs:
        """Decompose (limbs, n), inner product, divide by P, add, automorphism: (2, limbs, n), or one limb less."""

    def multiply(self, a: _Limbs, b: _Limbs, key: _Limbs, rescale: bool = False, threads: int = 1) -> _Limbs:
        """a * b for (2, limbs, n) each, relinearised: (2, limbs, n), or one limb less."""

    def key_switch_digits(
        self,
        digits: _Limbs,
        key: _Limbs,
        add0: _Limbs | None,
        add1: _Limbs | None,
        galois: int = 1,
        rescale: bool = False,
        threads: int = 1,
    ) -> _Limbs:
        """`key_switch` from the output of `decompose`."""

    def uniform(
        self,
        limbs: _Limbs,
        indices: Sequence[int],
        room: NDArray[np.uint8],
        make: Callable[[int, int], object],
        threads: int = 1,
    ) -> None:
        """Fill limbs (len(indices), n) with residues uniform modulo primes.

        Limb i comes from the stream that `make(i, slot)` writes to `room[slot]`, 8 n bytes and some to spare: on the
        calling thread, while other threads use what is made. `room` has a row for every thread. ValueError if a stream
        was too short.
        """

    def pack(self, x: _Limbs, indices: Sequence[int], threads: int = 1) -> bytes:
        """Residues (len(indices), n), each in as many bits as its prime has."""

    def unpack(self, bytes: NDArray[np.uint8], indices: Sequence[int], threads: int = 1) -> _Limbs | None:
        """Residues (len(indices), n), or None when one is not below its prime."""

class Encoder:
    """Complex slots to integer coefficients and back, the same bits everywhere."""

    def __init__(self, n: int) -> None: ...
    def embed(self, values: NDArray[np.complex128], scale: float) -> NDArray[np.float64]:
        """Slot values (n / 2,) to integer coefficients (n,)."""

    def project(self, coefficients: NDArray[np.float64], scale: float) -> NDArray[np.complex128]:
        """Coefficients (n,) to slot values (n / 2,)."""
