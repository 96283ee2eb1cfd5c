"""Secret randomness: AES-256-CTR from `cryptography`, keyed afresh by the operating system for every draw.

There is no generator object to copy, fork or resume, so no two draws can ever share a stream.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from cipherlens._secret import sample_error, sample_ternary
from cipherlens.scheme.expansion import SEED_BYTES, keystream

Small = NDArray[np.int8]


def _fresh(length: int) -> NDArray[np.uint8]:
    return np.frombuffer(keystream(os.urandom(32), bytes(16), length), np.uint8)


def fresh_seed() -> bytes:
    """A public seed; never derived from, or used for, anything secret."""
    return os.urandom(SEED_BYTES)


def fresh_ternary(n: int) -> Small:
    """n coefficients uniform in {-1, 0, 1}, int8."""
    return sample_ternary(_fresh(8 * n))


def fresh_error(n: int) -> Small:
    """n coefficients of the centred binomial distribution with eta = 21 (standard deviation 3.24), int8."""
    return sample_error(_fresh(8 * n))
