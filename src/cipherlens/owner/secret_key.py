"""The secret key: making it, encrypting and decrypting with it, and making the keys that are given away."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from cipherlens._secret import SecretRing
from cipherlens.errors import KeyMismatch
from cipherlens.owner.randomness import Small, fresh_error, fresh_seed, fresh_ternary
from cipherlens.scheme.ciphertext import Ciphertext, Plaintext
from cipherlens.scheme.engine import Engine, usable_cores
from cipherlens.scheme.expansion import SeedStreams, SeedUse
from cipherlens.scheme.keys import RELINEARISATION, EvaluationKeys, KeyChange, KeyRequest, PublicKey, SwitchingKey
from cipherlens.scheme.parameters import require_secure
from cipherlens.scheme.types import Limbs, Slots


def secret_ring(engine: Engine) -> SecretRing:
    """The owner's compiled ring for the same parameters and kernels."""
    p = engine.parameters
    primes = [*p.primes, *p.special_primes]
    return SecretRing(p.ring_dimension, primes, len(p.special_primes), p.digit, engine.kernel, usable_cores())


@dataclass(frozen=True, eq=False)
class SeededCiphertext:
    """A fresh ciphertext whose uniform part is a seed: half the size.

    Attributes:
        data: float64 (limbs, N), the part that depends on the message.
        seed: 32 bytes from which the other part expands.
        scale: scale of the message.
    """

    data: Limbs
    seed: bytes
    scale: float


@dataclass(frozen=True, eq=False)
class SecretKey:
    """A uniform ternary secret.

    Attributes:
        engine: the ring.
        key_id: 32 random hexadecimal digits that name the key; they reveal nothing of it.
        coefficients: int8 (N,) in {-1, 0, 1}.

    Raises:
        SecurityError: the ring is not inside the security table.
        KeyMismatch: the coefficients are no secret of this ring.
    """

    engine: Engine
    key_id: str
    coefficients: Small = field(repr=False)
    _ring: SecretRing = field(init=False, repr=False)
    _secret: Limbs = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check_security()
        n = self.engine.parameters.ring_dimension
        if self.coefficients.shape != (n,) or not np.isin(self.coefficients, (-1, 0, 1)).all():
            raise KeyMismatch("this secret key is not ternary or belongs to another ring dimension")
        object.__setattr__(self, "_ring", secret_ring(self.engine))
        object.__setattr__(self, "_secret", self._ring.secret(self.coefficients, usable_cores()))

    def _check_security(self) -> None:
        require_secure(self.engine.parameters)

    @classmethod
    def create(cls, engine: Engine) -> Self:
        """A fresh key from the operating system's randomness."""
        return cls(engine, os.urandom(16).hex(), fresh_ternary(engine.parameters.ring_dimension))

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret key is never pickled; store it with a passphrase instead")

    def encrypt_seeded(self, plaintext: Plaintext, threads: int = 1) -> SeededCiphertext:
        """Encrypt with a fresh seed and a fresh error."""
        ciphertext, seed = self._encrypt(plaintext, threads)
        return SeededCiphertext(ciphertext.data[0], seed, plaintext.scale)

    def encrypt(self, plaintext: Plaintext, threads: int = 1) -> Ciphertext:
        """Encrypt; both parts in full."""
        return self._encrypt(plaintext, threads)[0]

    def _encrypt(self, plaintext: Plaintext, threads: int) -> tuple[Ciphertext, bytes]:
        """A fresh ciphertext, and the seed that its second part was expanded from."""
        n, seed = self.engine.parameters.ring_dimension, fresh_seed()
        parts = self.engine.ring.empty((2, plaintext.limbs, n))
        streams = SeedStreams(n, seed, SeedUse.CIPHERTEXT, [(0, i) for i in range(plaintext.limbs)], threads)
        self._ring.encrypt(parts, plaintext.data, fresh_error(n), self._secret, streams.room, streams, threads)
        return Ciphertext(parts, plaintext.scale), seed

    def decrypt(self, ciphertext: Ciphertext) -> Slots:
        """Slot values, complex128 (N / 2,). They carry the encryption's error: for the owner alone."""
        coefficients = self._ring.decrypt(ciphertext.data, self._secret)
        return self.engine.encoder.project(coefficients, ciphertext.scale)

    def public_key(self, threads: int = 1) -> PublicKey:
        """The key that contributors encrypt with, modulo all primes."""
        p = self.engine.parameters
        seed = fresh_seed()
        limbs = [(0, i) for i in range(len(p.primes) + len(p.special_primes))]
        data = self.engine.ring.empty((2, len(limbs), p.ring_dimension))
        streams = SeedStreams(p.ring_dimension, seed, SeedUse.PUBLIC_KEY, limbs, threads)
        self._ring.public_key(data, fresh_error(p.ring_dimension), self._secret, streams.room, streams, threads)
        return PublicKey(p, self.key_id, data, seed)

    def switching_key(self, request: KeyRequest, threads: int = 1) -> SwitchingKey:
        """One evaluation key. An automorphism's key switches to the secret *before* it; see core/key_switching.cpp."""
        if request.number == RELINEARISATION:
            source, target = self._ring.square(self._secret, threads), self._secret
        else:
            inverse = pow(request.number, -1, 2 * self.engine.parameters.ring_dimension)
            source, target = self._secret, self._ring.automorphism(self._secret, inverse, threads)
        return self._switching_key(source, target, request.level, threads)

    def key_change(self, successor: SecretKey, level: int, threads: int = 1) -> KeyChange:
        """What takes ciphertexts up to this level to a successor on the same ring: this secret, under that one.

        It is attacked as a ciphertext under the successor modulo q_0 ... q_level and the special primes, a part of what
        the parameters were checked for. Raises KeyMismatch for a secret of another ring, or this one itself.
        """
        p = self.engine.parameters
        if successor.engine.parameters.id != p.id or successor.key_id == self.key_id:
            raise KeyMismatch(
                "a key is switched to another key on the same ring; create the new one from the same task"
            )
        key = self._switching_key(self._secret, successor._secret, level, threads)
        return KeyChange(p, self.key_id, successor.key_id, key)

    def _switching_key(self, source: Limbs, target: Limbs, level: int, threads: int) -> SwitchingKey:
        p, n = self.engine.parameters, self.engine.parameters.ring_dimension
        seed = fresh_seed()
        indices, digits = self.engine.extended_indices(level + 1), range(p.digits(level + 1))
        data = self.engine.ring.empty((len(digits), 2, len(indices), n))
        limbs = [(d, i) for d in digits for i in indices]
        streams = SeedStreams(n, seed, SeedUse.SWITCHING_KEY, limbs, threads)
        errors = np.concatenate([fresh_error(n) for _ in digits])
        self._ring.switching_key(data, errors, source, target, streams.room, streams, threads)
        return SwitchingKey(data, seed)

    def evaluation_keys(
        self, requests: Sequence[KeyRequest], threads: int = 1, progress: Callable[[int, int], None] | None = None
    ) -> EvaluationKeys:
        """The keys that a plan lists, and no others."""
        keys = {}
        for done, request in enumerate(requests):
            keys[request.number] = self.switching_key(request, threads)
            if progress is not None:
                progress(done + 1, len(requests))
        return EvaluationKeys(self.engine.parameters, self.key_id, keys)
