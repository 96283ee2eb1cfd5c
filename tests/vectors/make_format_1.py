"""How the vectors of format 1 were made. They are frozen: run this only to see that it still makes the same bytes.

python tests/vectors/make_format_1.py FOLDER
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cipherlens.scheme.engine import Engine
from cipherlens.scheme.expansion import SeedUse, expand
from cipherlens.scheme.keys import EvaluationKeys, KeyChange, SwitchingKey
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.types import Limbs
from cipherlens.wire.container import Kind, Writer
from cipherlens.wire.key_change import write_key_change
from cipherlens.wire.keys import write_evaluation_keys
from cipherlens.wire.packed import pack_limbs

SEED = bytes(range(32))
KEY_ID = "000102030405060708090a0b0c0d0e0f"
NEW_KEY_ID = "101112131415161718191a1b1c1d1e1f"


def small_parameters() -> Parameters:
    """The smallest ring of the security table."""
    return Parameters.generate(1 << 12, 1, scale_bits=30, first_bits=36, special=1, special_bits=36, digit=1)


def canonical(limb: NDArray[np.float64], prime: int) -> NDArray[np.int64]:
    """Centred residues to int64 in [0, p)."""
    return limb.astype(np.int64) % prime


def formula(engine: Engine, indices: list[int]) -> Limbs:
    """Residues that anybody can make: the i-th of a limb is i * 0x9E3779B97F4A7C15 mod 2^64 mod p, centred."""
    p = engine.parameters
    words = np.arange(p.ring_dimension, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    rows = []
    for index in indices:
        prime = (p.primes + p.special_primes)[index]
        residues = (words % np.uint64(prime)).astype(np.int64)
        rows.append(np.where(residues > prime // 2, residues - prime, residues).astype(np.float64))
    return np.stack(rows)


def switching_key(engine: Engine, level: int) -> SwitchingKey:
    """Halves by the formula, and the uniform ones from the seed."""
    indices = engine.extended_indices(level + 1)
    halves = np.stack([formula(engine, indices)] * engine.parameters.digits(level + 1))
    uniform = np.stack([expand(engine.ring, SEED, SeedUse.SWITCHING_KEY, d, indices) for d in range(len(halves))])
    return SwitchingKey(np.stack([halves, uniform], axis=1), SEED)


def make(folder: Path) -> None:
    """Write every vector into a folder."""
    engine = Engine(small_parameters())
    p = engine.parameters
    primes = p.primes + p.special_primes
    every = list(range(len(primes)))
    expansion = [
        {
            "use": int(use), "index": index, "prime_index": i, "first": canonical(limb, primes[i])[:4].tolist(),
            "sha256": hashlib.sha256(canonical(limb, primes[i]).astype("<i8").tobytes()).hexdigest(),
        }
        for use in SeedUse for index in (0, 1, 70000)
        for i, limb in enumerate(expand(engine.ring, SEED, use, index, every))
    ]  # fmt: skip
    packed = [pack_limbs(engine, formula(engine, [i]), [i]).tobytes() for i in every]
    packing = [
        {"prime_index": i, "first_hex": data[:16].hex(), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for i, data in enumerate(packed)
    ]
    text = {"parameters": p.to_dict(), "seed": SEED.hex(), "expansion": expansion, "packing": packing}
    (folder / "format_1.json").write_text(json.dumps(text, indent=1) + "\n")

    header = {"key_id": KEY_ID, "images": 3, "scale": 0.1, "label": "ü"}
    tensors = {
        "a": np.array([1.5, -2.0, 0.1]),
        "b": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "c": np.zeros(0, np.int32),
    }
    with Writer(
        folder / "container_1.cl", Kind.MODEL, header, {n: (a.dtype, a.shape) for n, a in tensors.items()}
    ) as writer:
        for name, array in tensors.items():
            writer.write(name, array)

    keys = {number: switching_key(engine, level) for number, level in ((0, 1), (5, 0))}
    write_evaluation_keys(folder / "evaluation_1.cl", EvaluationKeys(p, KEY_ID, keys))
    write_key_change(folder / "switching_1.cl", KeyChange(p, KEY_ID, NEW_KEY_ID, switching_key(engine, 1)))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
