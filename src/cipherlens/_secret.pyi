"""The engine's secret half: keys, encryption, decryption. Randomness is passed in as bytes.

Arrays are C-contiguous; limbs are float64, one row of n centred residues for each prime. ValueError is raised for
arrays of other shapes than stated.

Uniform halves are made limb by limb, each from the stream that `make(task, slot)` writes to `room[slot]`, 8 n bytes and
some to spare: on the calling thread, while other threads use what is made. `room` has a row for every thread.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_Limbs = NDArray[np.float64]
_Small = NDArray[np.int8]

def sample_ternary(stream: NDArray[np.uint8]) -> _Small:
    """One coefficient uniform in {-1, 0, 1} for every 8 bytes."""

def sample_error(stream: NDArray[np.uint8]) -> _Small:
    """One coefficient of the centred binomial distribution, eta = 21, for every 8 bytes."""

class SecretRing:
    """The owner's side of a ring."""

    def __init__(
        self, n: int, primes: Sequence[int], special: int, digit: int, kernel: str, threads: int = 1
    ) -> None: ...
    def secret(self, ternary: _Small, threads: int = 1) -> _Limbs:
        """The secret polynomial modulo every prime, NTT form."""

    def square(self, secret: _Limbs, threads: int = 1) -> _Limbs:
        """Its square."""

    def automorphism(self, secret: _Limbs, galois: int, threads: int = 1) -> _Limbs:
        """X -> X^galois."""

    def encrypt(
        self,
        out: _Limbs,
        message: _Limbs | None,
        error: _Small,
        secret: _Limbs,
        room: NDArray[np.uint8],
        make: Callable[[int, int], object],
        threads: int = 1,
    ) -> None:
        """out[1] from the streams and out[0] = message + error - out[1] * secret; out is (2, limbs, n)."""

    def switching_key(
        self,
        key: _Limbs,
        errors: _Small,
        source: _Limbs,
        target: _Limbs,
        room: NDArray[np.uint8],
        make: Callable[[int, int], object],
        threads: int = 1,
    ) -> None:
        """Fill a key from source to target, (digits, 2, limbs + special, n): key[:, 1] from the streams, and key[:, 0]."""

    def public_key(
        self,
        key: _Limbs,
        error: _Small,
        secret: _Limbs,
        room: NDArray[np.uint8],
        make: Callable[[int, int], object],
        threads: int = 1,
    ) -> None:
        """key[1] from the streams and key[0] = error - key[1] * secret modulo every prime, special ones included.

        key is (2, all primes, n).
        """

    def public_encrypt(
        self,
        out: _Limbs,
        message: _Limbs,
        key: _Limbs,
        ephemeral: _Small,
        error0: _Small,
        error1: _Small,
        threads: int = 1,
    ) -> None:
        """Encryption with a public key (2, all primes, n) at the top level, to out (2, limbs, n)."""

    def decrypt(self, parts: _Limbs, secret: _Limbs) -> NDArray[np.float64]:
        """Coefficients (n,) of the plaintext, rounded to float64."""
