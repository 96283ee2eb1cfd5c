"""Public and evaluation keys: what the owner gives away. Nothing here decrypts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cipherlens.errors import KeyMismatch
from cipherlens.scheme.notebook import NotebookRepr
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.types import Limbs

RELINEARISATION = 0
"""The key number of relinearisation. Every other key number is a Galois element, which is odd."""


def rotation(parameters: Parameters, steps: int) -> int:
    """The Galois element that moves slot j + steps to slot j: 5^steps modulo 2N."""
    return pow(5, steps % parameters.slots, 2 * parameters.ring_dimension)


def conjugation(parameters: Parameters, steps: int = 0) -> int:
    """The Galois element that rotates by `steps` and conjugates, in one key switch."""
    return 2 * parameters.ring_dimension - rotation(parameters, steps)


@dataclass(frozen=True)
class KeyRequest:
    """One switching key that a plan needs.

    Attributes:
        number: RELINEARISATION or a Galois element.
        level: the highest level it is used at; it serves all levels below too.
    """

    number: int
    level: int


def merge_requests(requests: Iterable[KeyRequest]) -> tuple[KeyRequest, ...]:
    """Each key once, at the highest level asked for, in order of number; the identity needs none."""
    highest: dict[int, int] = {}
    for request in requests:
        if request.number != 1:
            highest[request.number] = max(request.level, highest.get(request.number, 0))
    return tuple(KeyRequest(number, level) for number, level in sorted(highest.items()))


@dataclass(frozen=True, eq=False)
class SwitchingKey:
    """A key that switches to the owner's secret.

    Attributes:
        data: float64 (digits, 2, limbs + special primes, N), NTT form.
        seed: 32 bytes from which the uniform halves data[:, 1] expand.
    """

    data: Limbs
    seed: bytes

    def __repr__(self) -> str:
        return f"SwitchingKey(digits={self.data.shape[0]}, width={self.data.shape[2]})"


@dataclass(frozen=True, eq=False)
class EvaluationKeys(NotebookRepr):
    """The switching keys of one owner for one plan. Safe to publish; not together with decryptions.

    Attributes:
        parameters: the ring.
        key_id: which secret key they belong to.
        keys: by key number.
    """

    parameters: Parameters
    key_id: str
    keys: Mapping[int, SwitchingKey]

    def __getitem__(self, number: int) -> SwitchingKey:
        """The key of this number.

        Raises:
            KeyMismatch: the plan that the keys were made for did not list it.
        """
        try:
            return self.keys[number]
        except KeyError:
            what = "relinearisation" if number == RELINEARISATION else f"the automorphism {number}"
            raise KeyMismatch(
                f"the evaluation keys hold no key for {what}; create keys from a task that plans for it"
            ) from None

    def __repr__(self) -> str:
        return f"EvaluationKeys({len(self.keys)} keys of {self.key_id[:8]}, {self.nbytes / 1e6:.1f} MB packed)"

    @property
    def nbytes(self) -> int:
        """Bytes of all keys, packed as in a file; in memory, at eight bytes a residue and without seeds, they are more."""
        p = self.parameters
        levels = (key.data.shape[2] - len(p.special_primes) - 1 for key in self.keys.values())
        return sum(p.switching_key_bytes(level) for level in levels)


@dataclass(frozen=True, eq=False)
class KeyChange(NotebookRepr):
    """Takes ciphertexts from one secret key to its successor, and decrypts nothing by itself.

    It is the old secret encrypted under the new one: whoever has it and the new secret key has the old one too. So it
    is deleted once everything is switched.

    Attributes:
        parameters: the ring of both keys.
        old_key_id: which secret key it takes from.
        key_id: which secret key it takes to.
        key: at the level of the ciphertexts to switch; it serves all levels below too.
    """

    parameters: Parameters
    old_key_id: str
    key_id: str
    key: SwitchingKey

    @property
    def level(self) -> int:
        """The highest level at which it switches."""
        return int(self.key.data.shape[2]) - len(self.parameters.special_primes) - 1

    def __repr__(self) -> str:
        return f"KeyChange({self.old_key_id[:8]} to {self.key_id[:8]}, level {self.level})"


@dataclass(frozen=True, eq=False)
class PublicKey(NotebookRepr):
    """What contributors encrypt with.

    Attributes:
        parameters: the ring.
        key_id: which secret key it belongs to.
        data: float64 (2, all primes, N), NTT form.
        seed: 32 bytes from which data[1] expands.
    """

    parameters: Parameters
    key_id: str
    data: Limbs
    seed: bytes

    def __repr__(self) -> str:
        return f"PublicKey(of {self.key_id[:8]})"
