"""Parameters of one ring: its dimension, its chain of primes, and the scale that belongs to each level."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from cipherlens.errors import FormatError, SecurityError
from cipherlens.scheme.primes import is_prime, nearest_prime
from cipherlens.scheme.security import check_security, modulus_bits


@dataclass(frozen=True)
class Parameters:
    """RNS-CKKS parameters (Cheon, Han, Kim, Kim, Song, "A full RNS variant of approximate homomorphic encryption",
    2018), with hybrid key switching (Han, Ki, ePrint 2019/688).

    Attributes:
        ring_dimension: N, a power of two; a ciphertext has N / 2 complex slots.
        primes: q_0 ... q_L, each below 2^50 and 1 modulo 2N. A ciphertext at level l is modulo q_0 ... q_l.
        special_primes: the primes whose product P the key switch divides by.
        digit: how many q share a digit of the key switch.
        scale_bits: log2 of the scale at the top level.

    Raises:
        SecurityError: the modulus is above the security table.
        FormatError: the primes do not fit the ring.
    """

    ring_dimension: int
    primes: tuple[int, ...]
    special_primes: tuple[int, ...]
    digit: int
    scale_bits: int

    def __post_init__(self) -> None:
        self._check_security()
        everything = self.primes + self.special_primes
        if not self.primes or not self.special_primes or len(set(everything)) != len(everything):
            raise FormatError("parameters need at least one prime, one special prime, and no prime twice")
        if not 1 <= self.digit <= len(self.primes) or not 10 <= self.scale_bits <= 60:
            raise FormatError(f"a digit of {self.digit} primes or a scale of 2^{self.scale_bits} is out of range")
        for p in everything:
            if not 1 << 25 < p < 1 << 50 or p % (2 * self.ring_dimension) != 1 or not is_prime(p):
                raise FormatError(f"{p} is no prime below 2^50 that is 1 modulo {2 * self.ring_dimension}")

    def _check_security(self) -> None:
        check_security(self.ring_dimension, self.primes + self.special_primes)

    @classmethod
    def generate(
        cls,
        ring_dimension: int,
        levels: int,
        *,
        scale_bits: int,
        first_bits: int,
        special: int,
        special_bits: int,
        digit: int,
    ) -> Parameters:
        """Choose primes for `levels` rescalings by about 2^scale_bits.

        q_0 is near 2^first_bits and the special primes near 2^special_bits. Each q_l is the free prime nearest to
        scale_l^2 / 2^scale_bits, so that the scales of lower levels stay near 2^scale_bits instead of drifting
        (Kim, Papadimitriou, Polyakov, "Approximate homomorphic encryption with reduced approximation error", 2022).
        """
        taken: set[int] = set()

        chain: list[int] = []
        special_chain: list[int] = []
        for bits, count, into in ((first_bits, 1, chain), (special_bits, special, special_chain)):
            for _ in range(count):
                into.append(nearest_prime(2.0**bits, ring_dimension, taken))
                taken.add(into[-1])
        scale = target = 2.0**scale_bits
        descending: list[int] = []
        for _ in range(levels):
            prime = nearest_prime(scale * scale / target, ring_dimension, taken)
            taken.add(prime)
            descending.append(prime)
            scale = scale * scale / prime
        return cls(ring_dimension, (*chain, *reversed(descending)), tuple(special_chain), digit, scale_bits)

    @property
    def slots(self) -> int:
        """Complex slots of a ciphertext: N / 2."""
        return self.ring_dimension // 2

    @property
    def top_level(self) -> int:
        """The level of a fresh ciphertext: how many times it can be rescaled."""
        return len(self.primes) - 1

    @cached_property
    def scales(self) -> tuple[float, ...]:
        """The scale that belongs to each level, lowest first: scale[l - 1] = scale[l]^2 / q_l.

        Every operation keeps ciphertexts at the scale of their level, so sums need no correction and equal scales
        are equal numbers, bit for bit.
        """
        scales = [2.0**self.scale_bits]
        for prime in reversed(self.primes[1:]):
            scales.append(scales[-1] * scales[-1] / prime)
        return tuple(reversed(scales))

    def rescaled(self, scale: float, level: int) -> float:
        """The scale of a ciphertext at `level` after dividing by q_level.

        The order in which floats were multiplied may have rounded away from the next level's own scale, by far less
        than the noise of any operation; that scale is taken then, so that equal scales compare equal.
        """
        divided, own = scale / self.primes[level], self.scales[level - 1]
        return own if abs(divided - own) <= own * 2.0**-48 else divided

    @property
    def modulus_bits(self) -> float:
        """log2(QP), the number that the security table bounds."""
        return modulus_bits(self.primes + self.special_primes)

    @property
    def security_margin_bits(self) -> float:
        """Unused bits below the limit of the security table."""
        return check_security(self.ring_dimension, self.primes + self.special_primes)

    def digits(self, limbs: int) -> int:
        """Digits that a key switch at this many limbs uses."""
        return -(-limbs // self.digit)

    def packed_limb_bytes(self, prime: int) -> int:
        """Bytes of one packed limb modulo this prime."""
        return self.ring_dimension // 8 * prime.bit_length()

    def ciphertext_bytes(self, level: int, parts: int) -> int:
        """Bytes of `parts` packed polynomials at a level."""
        return parts * sum(self.packed_limb_bytes(p) for p in self.primes[: level + 1])

    def switching_key_bytes(self, level: int) -> int:
        """Bytes of a packed switching key for a level, its uniform halves being a seed."""
        width = sum(self.packed_limb_bytes(p) for p in self.primes[: level + 1] + self.special_primes)
        return self.digits(level + 1) * width

    def to_dict(self) -> dict[str, object]:
        """A JSON-able description; `from_dict` is its inverse."""
        return {
            "ring_dimension": self.ring_dimension,
            "primes": list(self.primes),
            "special_primes": list(self.special_primes),
            "digit": self.digit,
            "scale_bits": self.scale_bits,
        }

    @classmethod
    def from_dict(cls, values: object) -> Parameters:
        """Parameters from untrusted JSON.

        Raises:
            FormatError: missing or ill-typed fields, or primes that do not fit.
            SecurityError: above the security table.
        """
        if not isinstance(values, dict):
            raise FormatError("parameters must be a JSON object")

        def integer(name: str) -> int:
            value = values.get(name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise FormatError(f"parameter {name!r} must be an integer")
            return value

        def integers(name: str) -> tuple[int, ...]:
            value = values.get(name)
            if not isinstance(value, list) or len(value) > 128 or not all(type(v) is int for v in value):
                raise FormatError(f"parameter {name!r} must be a list of at most 128 integers")
            if not all(0 < v < 1 << 50 for v in value):
                raise FormatError(f"parameter {name!r} holds a number that is no prime below 2^50")
            return tuple(value)

        return cls(
            integer("ring_dimension"), integers("primes"), integers("special_primes"), integer("digit"),
            integer("scale_bits"),
        )  # fmt: skip

    @cached_property
    def id(self) -> str:
        """The first 128 bits of SHA-256 over the canonical JSON description, in hexadecimal."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def require_secure(parameters: Parameters) -> None:
    """Refuse anything but `Parameters` proper, whose construction checked the table.

    Raises:
        SecurityError: a subclass, such as the toy rings of tests.
    """
    if type(parameters) is not Parameters:
        raise SecurityError("only parameters inside the security table can be used here")
