"""Toy rings, far below the security table, and what the engine's tests share.

`ToyParameters` and `ToySecretKey` exist here alone: the public API refuses them (`require_secure`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from reference import ReferenceRing

from cipherlens._evaluator import available_kernels
from cipherlens.owner.secret_key import SecretKey
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import KeyRequest, merge_requests
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.primes import nearest_prime
from cipherlens.scheme.types import Limbs, Slots

KERNELS = tuple(available_kernels())


class ToyParameters(Parameters):
    """Parameters without the security table."""

    def _check_security(self) -> None:
        """Toys are insecure on purpose."""


class ToySecretKey(SecretKey):
    """A secret key of any ring, toys among them."""

    def _check_security(self) -> None:
        """Toys are insecure on purpose."""


def toy_parameters(n: int, chain_bits: Sequence[int], special_bits: Sequence[int], digit: int) -> ToyParameters:
    """A ring of any shape: primes of exactly these bit lengths, as large as they come."""
    taken: set[int] = set()
    primes = []
    for bits in (*chain_bits, *special_bits):
        # Just below a power of two is where exactness bounds are tightest.
        primes.append(nearest_prime(2.0**bits * (1 - 2.0**-12), n, taken))
        assert primes[-1].bit_length() == bits
        taken.add(primes[-1])
    return ToyParameters(n, tuple(primes[: len(chain_bits)]), tuple(primes[len(chain_bits) :]), digit, 20)


def reference_ring(p: Parameters) -> ReferenceRing:
    """The oracle for the same ring."""
    return ReferenceRing(p.ring_dimension, p.primes, p.special_primes, p.digit)


def limbs_of(primes: Sequence[int], n: int, rng: np.random.Generator, leading: tuple[int, ...] = ()) -> Limbs:
    """Uniform centred residues of shape (*leading, len(primes), n)."""
    rows = [rng.integers(-((p - 1) // 2), (p - 1) // 2, (*leading, n), endpoint=True) for p in primes]
    return np.stack(rows, axis=-2).astype(np.float64)


def extreme_limbs_of(primes: Sequence[int], n: int, rng: np.random.Generator, leading: tuple[int, ...] = ()) -> Limbs:
    """Residues at the ends of their range, zero and one, in long runs and at random."""
    out = np.empty((*leading, len(primes), n))
    for at in np.ndindex(*leading):
        for limb, p in enumerate(primes):
            half = (p - 1) // 2
            runs = np.repeat(rng.choice([half, -half], n // 16), 16)
            mixed = rng.choice([half, -half, half - 1, 1 - half, 0, 1, -1], n)
            out[(*at, limb)] = np.where(np.arange(n) < n // 2, runs, mixed)
    return out


def random_slots(n: int, rng: np.random.Generator) -> Slots:
    """Slots of magnitude at most 1 with uniform real and imaginary parts."""
    half = np.sqrt(0.5)
    return rng.uniform(-half, half, n // 2) + 1j * rng.uniform(-half, half, n // 2)


def owner_and_evaluator(
    parameters: Parameters, requests: Sequence[KeyRequest], kernel: str | None = None
) -> tuple[SecretKey, Evaluator]:
    """A fresh secret key, and an evaluator with the evaluation keys asked for."""
    engine = Engine(parameters) if kernel is None else Engine(parameters, kernel)
    owner = ToySecretKey.create(engine)
    return owner, Evaluator(engine, owner.evaluation_keys(merge_requests(requests)))


def integers(x: NDArray[np.int8]) -> list[int]:
    """Small coefficients as Python integers."""
    return [int(v) for v in x]


def given_streams(limbs: Limbs, primes: Sequence[int]) -> tuple[NDArray[np.uint8], Callable[[int, int], None]]:
    """Room and maker of the streams from which these residues are sampled, one row after the other."""
    rows = limbs.reshape(-1, limbs.shape[-1])
    moduli = np.resize(np.array(primes, np.int64), len(rows))
    words = np.mod(rows.astype(np.int64), moduli[:, None]).astype("<u8")
    room = np.zeros((3, words.shape[1] * 8), np.uint8)

    def make(task: int, slot: int) -> None:
        room[slot] = words[task].view(np.uint8)

    return room, make
