"""The compiled evaluator for one set of parameters, and the choice of its kernels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, log2, prod

import numpy as np

from cipherlens._evaluator import Encoder, Ring, available_kernels, check_kernels
from cipherlens.errors import InputError, PlanError, RangeError
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.types import Limbs, Slots

KERNEL_VARIABLE = "CIPHERLENS_KERNEL"


def choose_kernel() -> str:
    """The fastest kernels of this machine, or those that the environment variable CIPHERLENS_KERNEL names.

    Raises:
        PlanError: the variable names kernels that this machine cannot run, or none passes its self-check.
    """
    names = available_kernels()
    wanted = os.environ.get(KERNEL_VARIABLE)
    if wanted:
        if wanted not in names:
            raise PlanError(f"{KERNEL_VARIABLE}={wanted} does not run on this machine; it has {', '.join(names)}")
        names = [wanted]
    for name in names:
        try:
            check_kernels(name)
        except RuntimeError:
            continue
        return name
    raise PlanError("no kernels pass their self-check on this machine; `cipherlens doctor` says more")


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Engine:
    """Tables and kernels for one set of parameters. Immutable, shared freely between threads.

    Attributes:
        parameters: what the tables were made for.
        kernel: name of the kernels in use.
        ring: the compiled ring.
        encoder: the compiled canonical embedding.
    """

    parameters: Parameters
    kernel: str = field(default_factory=choose_kernel)
    ring: Ring = field(init=False, repr=False, compare=False)
    encoder: Encoder = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        p = self.parameters
        primes = [*p.primes, *p.special_primes]
        ring = Ring(p.ring_dimension, primes, len(p.special_primes), p.digit, self.kernel, usable_cores())
        object.__setattr__(self, "ring", ring)
        object.__setattr__(self, "encoder", Encoder(p.ring_dimension))

    def special_indices(self) -> list[int]:
        """Prime indices of the special primes."""
        return list(range(self.ring.chain, self.ring.chain + self.ring.special))

    def extended_indices(self, limbs: int) -> list[int]:
        """Prime indices of an extended polynomial: the first `limbs` of the chain, then the special ones."""
        return [*range(limbs), *self.special_indices()]

    def encode(
        self,
        values: Sequence[complex] | Slots,
        scale: float,
        limbs: int,
        threads: int = 1,
        *,
        extended: bool = False,
    ) -> Limbs:
        """Slot values, shape (N / 2,), to a plaintext (limbs, N) in NTT form; with `extended`, (limbs + special, N).

        Raises:
            InputError: another number of values.
            PlanError: the chain has no such number of limbs, or the scale is not positive.
            RangeError: coefficients exceed 2^62 or half the modulus, or are not finite.
        """
        slots = np.ascontiguousarray(values, np.complex128)
        if slots.shape != (self.parameters.slots,):
            raise InputError(f"a plaintext takes {self.parameters.slots} slot values, not an array of {slots.shape}")
        if not 1 <= limbs <= self.ring.chain:
            raise PlanError(f"there is no level {limbs - 1}; these parameters have 0 to {self.parameters.top_level}")
        if not (isfinite(scale) and scale > 0):
            raise PlanError(f"the scale of a plaintext must be a positive number, not {scale}")
        coefficients = self.encoder.embed(slots, scale)
        # Three primes are above 2^75, where the core's own limit is far below.
        modulus = prod(self.parameters.primes[: min(limbs, 3)])
        if not np.abs(coefficients).max() < modulus / 2:
            raise RangeError(
                f"these values cannot be encoded: at a scale of 2^{log2(scale):.1f} they reach half the modulus of "
                f"2^{log2(modulus):.1f} at level {limbs - 1}; use smaller values or a higher level"
            )
        try:
            return self.ring.residues(coefficients, limbs, threads, extended)
        except ValueError as error:
            raise RangeError(f"these values cannot be encoded: {error}") from None

    def constant(self, value: float, scale: float, limbs: int) -> list[float]:
        """The integer round(value * scale), centred modulo each of the first `limbs` primes.

        Raises:
            RangeError: it reaches half the modulus, or is not finite.
        """
        primes = self.parameters.primes[:limbs]
        modulus, product = prod(primes), value * scale
        integer = round(product) if isfinite(product) else modulus
        if 2 * abs(integer) >= modulus:
            raise RangeError(
                f"the factor {value:.6g} at a scale of {scale:.6g} reaches half the modulus of 2^{log2(modulus):.1f} at "
                f"level {limbs - 1}; use a smaller factor or a higher level"
            )
        residues = (integer % prime for prime in primes)
        return [float(r - p if r > p // 2 else r) for r, p in zip(residues, primes, strict=True)]
