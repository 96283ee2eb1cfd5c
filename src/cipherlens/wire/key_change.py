"""The file of a switching key: what takes ciphertexts from an owner's old secret key to the new one."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from cipherlens.errors import FormatError
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.expansion import SEED_BYTES
from cipherlens.scheme.keys import KeyChange
from cipherlens.scheme.parameters import Parameters
from cipherlens.wire.fields import header_hex, header_int
from cipherlens.wire.keys import key_shape, packed_halves, parameters_of, unpack_key
from cipherlens.wire.layout import Kind
from cipherlens.wire.packed import seed_bytes
from cipherlens.wire.reader import Reader
from cipherlens.wire.writer import Writer

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class KeyChangeHeader:
    """What a file of a switching key says about itself; the fields are those of `KeyChange`.

    The primes that the key is used with, q_0 ... q_level and the special ones, are among those of `parameters`, whose
    product is inside the security table.
    """

    parameters: Parameters
    old_key_id: str
    key_id: str
    level: int


def write_key_change(path: Path, change: KeyChange, *, engine: Engine | None = None) -> None:
    """Write a switching key, packed, its uniform halves as a seed; mode 0600, for it is not for publishing.

    Args:
        path: where to.
        change: what to write.
        engine: its ring, if there is one already.

    Raises:
        InputError: the file cannot be written.
    """
    engine = engine or Engine(change.parameters)
    header = {
        "parameters": change.parameters.to_dict(),
        "old_key_id": change.old_key_id,
        "key_id": change.key_id,
        "level": change.level,
    }
    shapes = {"key": (np.uint8, key_shape(change.parameters, change.level)), "seed": (np.uint8, (SEED_BYTES,))}
    with Writer(path, Kind.SWITCHING_KEY, header, shapes, private=True) as writer:
        for row in packed_halves(engine, change.key):
            writer.write("key", row[None])
        writer.write("seed", np.frombuffer(change.key.seed, np.uint8))


def read_key_change(path: Path, engine: Engine | None = None) -> KeyChange:
    """Read a switching key from outside and expand its uniform halves; `engine` as in `read_evaluation_keys`.

    Raises:
        InputError: there is no such file.
        FormatError: it is no switching key, or damaged.
        SecurityError: its parameters are above the security table.
        KeyMismatch: it belongs to other parameters.
    """
    with Reader.open(path, Kind.SWITCHING_KEY) as reader:
        about = check_key_change(reader, engine)
        ring = engine or Engine(about.parameters)
        key = unpack_key(ring, reader.read("key"), seed_bytes(reader.read("seed")), about.level)
    return KeyChange(about.parameters, about.old_key_id, about.key_id, key)


def check_key_change(reader: Reader, engine: Engine | None = None) -> KeyChangeHeader:
    """The header of an open file, and the shapes of its tensors, without reading any.

    Raises:
        FormatError, SecurityError, KeyMismatch: as `read_key_change`.
    """
    p = parameters_of(reader.header, engine, reader.name)
    level = header_int(reader.header, "level", 0, p.top_level)
    old, new = header_hex(reader.header, "old_key_id"), header_hex(reader.header, "key_id")
    if old == new:
        raise FormatError(f"{reader.name} switches from a key to itself; it was not written by Cipherlens")
    reader.expect("key", np.uint8, key_shape(p, level))
    reader.expect("seed", np.uint8, (SEED_BYTES,))
    reader.expect_only({"key", "seed"})
    return KeyChangeHeader(p, old, new, level)
