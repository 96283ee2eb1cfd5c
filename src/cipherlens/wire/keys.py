"""Files of public and evaluation keys: what the owner gives away."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import FormatError, InputError, KeyMismatch
from cipherlens.scheme.engine import Engine, usable_cores
from cipherlens.scheme.expansion import SEED_BYTES, SeedUse, expand
from cipherlens.scheme.keys import EvaluationKeys, KeyRequest, PublicKey, SwitchingKey
from cipherlens.scheme.parameters import Parameters
from cipherlens.wire.fields import Json, header_hex, header_ints, header_object
from cipherlens.wire.layout import Kind
from cipherlens.wire.packed import pack_limbs, packed_bytes, seed_bytes, unpack_limbs
from cipherlens.wire.reader import Reader
from cipherlens.wire.writer import Writer

MOST_KEYS = 1 << 12
SEALING_KEY_BYTES = 32

Progress = Callable[[int, int], None]
Path = str | os.PathLike[str]


def parameters_of(header: Mapping[str, Json], engine: Engine | None, name: str) -> Parameters:
    """The ring that a header's field `parameters` describes, checked against the security table.

    Args:
        header: from outside.
        engine: the ring that it must be, or None for any inside the table.
        name: of the file, for messages.

    Raises:
        FormatError, SecurityError: parameters that are none, or above the table.
        KeyMismatch: another ring than `engine`.
    """
    described = header_object(header, "parameters")
    if engine is None:
        return Parameters.from_dict(described)
    if described != engine.parameters.to_dict():
        raise KeyMismatch(f"{name} was made for other parameters than this task's; use the keys of the same task")
    return engine.parameters


def write_evaluation_keys(
    path: Path, keys: EvaluationKeys, progress: Progress | None = None, *, engine: Engine | None = None
) -> None:
    """Write evaluation keys, packed, their uniform halves as seeds.

    Args:
        path: where to.
        keys: what to write.
        progress: called with keys done and keys in all.
        engine: the ring of the keys, if there is one already.

    Raises:
        InputError: the file cannot be written.
    """
    engine = engine or Engine(keys.parameters)
    special = len(keys.parameters.special_primes)
    ordered = sorted(keys.keys.items())
    requests = [KeyRequest(number, key.data.shape[2] - special - 1) for number, key in ordered]
    stream_evaluation_keys(path, engine, keys.key_id, requests, (key for _, key in ordered), progress)


def stream_evaluation_keys(
    path: Path,
    engine: Engine,
    key_id: str,
    requests: Collection[KeyRequest],
    keys: Iterable[SwitchingKey],
    progress: Progress | None = None,
) -> None:
    """Write keys while they are made, holding one at a time.

    Args:
        path: where to.
        engine: the ring.
        key_id: which secret key they belong to.
        requests: number and level of each key, ascending by number (`merge_requests` gives them so).
        keys: one for each request, in the same order.
        progress: called with keys done and keys in all.

    Raises:
        InputError: the file cannot be written, or a number comes twice or out of order.
    """
    p = engine.parameters
    numbers = [request.number for request in requests]
    if numbers != sorted(set(numbers)):
        raise InputError("switching keys are written in ascending order of their numbers, each once")
    header = {
        "parameters": p.to_dict(),
        "key_id": key_id,
        "numbers": numbers,
        "levels": [request.level for request in requests],
    }
    shapes: dict[str, tuple[type, tuple[int, ...]]] = {"seeds": (np.uint8, (len(numbers), SEED_BYTES))}
    for request in requests:
        shapes[_tensor(request.number)] = (np.uint8, key_shape(p, request.level))
    with Writer(path, Kind.EVALUATION_KEYS, header, shapes) as writer:
        for done, (request, key) in enumerate(zip(requests, keys, strict=True), 1):
            for row in packed_halves(engine, key):
                writer.write(_tensor(request.number), row[None])
            writer.write("seeds", np.frombuffer(key.seed, np.uint8)[None])
            if progress is not None:
                progress(done, len(numbers))


def read_evaluation_keys(
    path: Path,
    engine: Engine | None = None,
    requests: Iterable[KeyRequest] | None = None,
    *,
    threads: int | None = None,
) -> EvaluationKeys:
    """Read evaluation keys from outside and expand their uniform halves.

    Args:
        path: of the file.
        engine: the ring that the keys must belong to; None for that of the file, checked against the security table.
        requests: the keys that are needed; None for all.
        threads: how many keys to unpack side by side; None for as many as the process has cores.

    Returns:
        The keys that were requested. Each takes about four times its room in the file.

    Raises:
        InputError: there is no such file.
        FormatError: it is no file of evaluation keys, or damaged.
        SecurityError: its parameters are above the security table.
        KeyMismatch: it belongs to other parameters, or lacks a key that is requested or has it at a lower level.
    """
    with Reader.open(path, Kind.EVALUATION_KEYS) as reader:
        listing = check_listing(reader, engine)
        wanted = _wanted(listing.levels, requests, reader.name)
        ring = engine or Engine(listing.parameters)

        def load(position: int, number: int, level: int) -> SwitchingKey:
            seed = seed_bytes(reader.read("seeds", position, position + 1))
            return unpack_key(ring, reader.read(_tensor(number)), seed, level)

        with ThreadPoolExecutor(threads or usable_cores()) as pool:
            jobs = {
                number: pool.submit(load, position, number, level)
                for position, (number, level) in enumerate(listing.levels.items())
                if number in wanted
            }
            try:
                keys = {number: job.result() for number, job in jobs.items()}
            finally:
                for job in jobs.values():
                    job.cancel()
    return EvaluationKeys(ring.parameters, listing.key_id, keys)


def packed_halves(engine: Engine, key: SwitchingKey) -> Iterator[NDArray[np.uint8]]:
    """The halves of a switching key that are no seed, packed, one digit after the other."""
    indices = engine.extended_indices(key.data.shape[2] - len(engine.parameters.special_primes))
    return (pack_limbs(engine, half, indices, usable_cores()) for half in key.data[:, 0])


def unpack_key(engine: Engine, packed: NDArray[Any], seed: bytes, level: int) -> SwitchingKey:
    """The inverse of `packed_halves`, for bytes from outside of the shape that `key_shape` says.

    Raises:
        FormatError: a residue that is not below its prime.
    """
    indices = engine.extended_indices(level + 1)
    data = engine.ring.empty((len(packed), 2, len(indices), engine.ring.n))
    for digit, row in enumerate(packed):
        data[digit, 0] = unpack_limbs(engine, row, indices)
        expand(engine.ring, seed, SeedUse.SWITCHING_KEY, digit, indices, out=data[digit, 1])
    data.flags.writeable = False
    return SwitchingKey(data, seed)


@dataclass(frozen=True)
class KeyListing:
    """What a file of evaluation keys says about itself, its parameters checked against the security table.

    Attributes:
        parameters: the ring.
        key_id: which secret key they belong to.
        levels: the highest level of each key, by its number.
    """

    parameters: Parameters
    key_id: str
    levels: Mapping[int, int]


def list_evaluation_keys(path: Path) -> KeyListing:
    """Read the list of keys without the keys.

    Raises:
        InputError, FormatError, SecurityError: as `read_evaluation_keys`.
    """
    with Reader.open(path, Kind.EVALUATION_KEYS) as reader:
        return check_listing(reader)


def _tensor(number: int) -> str:
    return f"key.{number}"


def key_shape(parameters: Parameters, level: int) -> tuple[int, int]:
    """Digits, and packed bytes of one half of one digit."""
    chain, special = len(parameters.primes), len(parameters.special_primes)
    indices = [*range(level + 1), *range(chain, chain + special)]
    return parameters.digits(level + 1), packed_bytes(parameters, indices)


def check_listing(reader: Reader, engine: Engine | None = None) -> KeyListing:
    """The list of keys of an open file, without the keys; every tensor has the shape that the list says.

    Raises:
        FormatError, SecurityError, KeyMismatch: as `read_evaluation_keys`.
    """
    p = parameters_of(reader.header, engine, reader.name)
    numbers = header_ints(reader.header, "numbers", MOST_KEYS, 0, 2 * p.ring_dimension - 1)
    levels = header_ints(reader.header, "levels", MOST_KEYS, 0, p.top_level)
    if len(levels) != len(numbers) or list(numbers) != sorted(set(numbers)):
        raise FormatError(f"{reader.name} does not list each key once, in ascending order, with one level each")
    if any(number == 1 or (number and number % 2 == 0) for number in numbers):
        raise FormatError(f"{reader.name} lists a key that is neither for relinearisation nor for an automorphism")
    reader.expect("seeds", np.uint8, (len(numbers), SEED_BYTES))
    for number, level in zip(numbers, levels, strict=True):
        reader.expect(_tensor(number), np.uint8, key_shape(p, level))
    reader.expect_only({"seeds", *map(_tensor, numbers)})
    return KeyListing(p, header_hex(reader.header, "key_id"), dict(zip(numbers, levels, strict=True)))


def _wanted(levels: Mapping[int, int], requests: Iterable[KeyRequest] | None, name: str) -> set[int]:
    """The numbers of the keys that are needed, all of which the file holds at a level high enough."""
    if requests is None:
        return set(levels)
    wanted = set()
    for request in requests:
        if request.number == 1:
            continue
        if levels.get(request.number, -1) < request.level:
            raise KeyMismatch(
                f"{name} lacks the key {request.number} at level {request.level}, which this task needs; "
                "create keys from the same task"
            )
        wanted.add(request.number)
    return wanted


def write_public_key(path: Path, key: PublicKey, sealing_key: bytes, *, engine: Engine | None = None) -> None:
    """Write what contributors encrypt with.

    Args:
        path: where to.
        key: the public key.
        sealing_key: 32 bytes, the X25519 public key that file names are sealed for (`cipherlens.wire.sealed`).
        engine: the ring of the key, if there is one already.

    Raises:
        InputError: the file cannot be written.
    """
    engine = engine or Engine(key.parameters)
    indices = range(len(key.parameters.primes) + len(key.parameters.special_primes))
    header = {"parameters": key.parameters.to_dict(), "key_id": key.key_id}
    arrays = {
        "half": pack_limbs(engine, key.data[0], indices, usable_cores()),
        "seed": np.frombuffer(key.seed, np.uint8),
        "sealing_key": np.frombuffer(sealing_key, np.uint8),
    }
    with Writer(path, Kind.PUBLIC_KEY, header, {name: (a.dtype, a.shape) for name, a in arrays.items()}) as writer:
        for name, array in arrays.items():
            writer.write(name, array)


def read_public_key(path: Path, engine: Engine | None = None) -> tuple[PublicKey, bytes]:
    """The public key and the sealing key of a file from outside; `engine` as in `read_evaluation_keys`.

    Raises:
        InputError: there is no such file.
        FormatError: it is no public key, or damaged.
        SecurityError: its parameters are above the security table.
        KeyMismatch: it belongs to other parameters.
    """
    with Reader.open(path, Kind.PUBLIC_KEY) as reader:
        p = parameters_of(reader.header, engine, reader.name)
        indices = range(len(p.primes) + len(p.special_primes))
        reader.expect("half", np.uint8, (packed_bytes(p, indices),))
        reader.expect("seed", np.uint8, (SEED_BYTES,))
        reader.expect("sealing_key", np.uint8, (SEALING_KEY_BYTES,))
        reader.expect_only({"half", "seed", "sealing_key"})
        ring = engine or Engine(p)
        seed = seed_bytes(reader.read("seed"))
        data = ring.ring.empty((2, len(indices), p.ring_dimension))
        data[0] = unpack_limbs(ring, reader.read("half"), indices, usable_cores())
        expand(ring.ring, seed, SeedUse.PUBLIC_KEY, 0, indices, usable_cores(), out=data[1])
        key = PublicKey(p, header_hex(reader.header, "key_id"), data, seed)
        return key, reader.read("sealing_key").tobytes()
