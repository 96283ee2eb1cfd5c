"""The frozen vectors of the format, and the words of docs/format.md in plain Python."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from toy import ToyParameters, limbs_of, toy_parameters
from vectors.make_format_1 import KEY_ID, NEW_KEY_ID, SEED, canonical, formula, make, small_parameters

from cipherlens.owner.sealed import unseal, unwrap
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.expansion import SeedUse, expand
from cipherlens.scheme.primes import is_prime
from cipherlens.wire.container import Kind, Reader
from cipherlens.wire.key_change import read_key_change
from cipherlens.wire.keys import list_evaluation_keys, read_evaluation_keys
from cipherlens.wire.packed import pack_limbs

VECTORS = Path(__file__).parent / "vectors"
TOY = toy_parameters(64, (30, 41, 26), (50, 33), 2)


def test_the_format_still_makes_the_same_bytes(tmp_path: Path) -> None:
    make(tmp_path)
    for name in ("format_1.json", "container_1.cl", "evaluation_1.cl", "switching_1.cl"):
        assert (tmp_path / name).read_bytes() == (VECTORS / name).read_bytes(), name


def plain_expansion(seed: bytes, use: int, index: int, prime_index: int, p: int, n: int) -> list[int]:
    """The expansion as docs/format.md words it, one number at a time."""
    block = use.to_bytes(2, "big") + index.to_bytes(4, "big") + prime_index.to_bytes(2, "big") + bytes(8)
    stream = Cipher(algorithms.AES256(seed), modes.CTR(block)).encryptor().update(bytes(16 * n))
    words = (int.from_bytes(stream[i : i + 8], "little") for i in range(0, len(stream), 8))
    return [word % p for word in words if word < 2**64 // p * p][:n]


def test_seed_expansion_vectors() -> None:
    vectors = json.loads((VECTORS / "format_1.json").read_text())
    primes = vectors["parameters"]["primes"] + vectors["parameters"]["special_primes"]
    seed = bytes.fromhex(vectors["seed"])
    for v in vectors["expansion"]:
        plain = plain_expansion(seed, v["use"], v["index"], v["prime_index"], primes[v["prime_index"]], 4096)
        assert plain[:4] == v["first"]
        assert hashlib.sha256(np.array(plain, "<i8").tobytes()).hexdigest() == v["sha256"]


def test_expansion_where_words_are_skipped() -> None:
    # Of 50 bits, and 2^64 mod p is nearly p: about one word in 2^14 is skipped.
    start = (1 << 50) - int(0.95 * (1 << 36))
    prime = next(p for p in range(start - start % 128 + 1, 0, -128) if is_prime(p))
    assert 0.9 * prime < 2**64 % prime
    engine = Engine(ToyParameters(64, (prime,), TOY.special_primes, 1, 20))
    skipped, index = 0, 0
    for n in range(1500):
        stream = plain_expansion(SEED, SeedUse.CIPHERTEXT, n, index, prime, 64)
        limb = expand(engine.ring, SEED, SeedUse.CIPHERTEXT, n, [index])[0]
        assert canonical(limb, prime).tolist() == stream
        block = bytes([0, 1]) + n.to_bytes(4, "big") + index.to_bytes(2, "big") + bytes(8)
        first = Cipher(algorithms.AES256(SEED), modes.CTR(block)).encryptor().update(bytes(512))
        skipped += any(w >= 2**64 // prime * prime for w in np.frombuffer(first, "<u8").tolist())
    assert skipped > 0


def test_packing_vectors() -> None:
    vectors = json.loads((VECTORS / "format_1.json").read_text())
    primes = vectors["parameters"]["primes"] + vectors["parameters"]["special_primes"]
    for v in vectors["packing"]:
        p = primes[v["prime_index"]]
        bits = p.bit_length()
        number = sum((i * 0x9E3779B97F4A7C15 % 2**64 % p) << i * bits for i in range(4096))
        data = number.to_bytes(4096 * bits // 8, "little")
        assert (data[:16].hex(), len(data)) == (v["first_hex"], v["bytes"])
        assert hashlib.sha256(data).hexdigest() == v["sha256"]


def test_files_of_format_1_load() -> None:
    with Reader.open(VECTORS / "container_1.cl", Kind.MODEL) as reader:
        assert reader.header == {"key_id": "000102030405060708090a0b0c0d0e0f", "images": 3, "scale": 0.1, "label": "ü"}
        assert reader.read("a").tolist() == [1.5, -2.0, 0.1] and reader.read("b").tolist() == [[0, 1, 2], [3, 4, 5]]
        assert reader.read("c").shape == (0,)
    keys = read_evaluation_keys(VECTORS / "evaluation_1.cl")
    engine = Engine(small_parameters())
    assert keys.parameters == engine.parameters and set(keys.keys) == {0, 5}
    np.testing.assert_array_equal(keys[5].data[0, 0], formula(engine, [0, 2]))
    listing = list_evaluation_keys(VECTORS / "evaluation_1.cl")
    assert (listing.key_id, dict(listing.levels)) == (keys.key_id, {0: 1, 5: 0})
    change = read_key_change(VECTORS / "switching_1.cl", engine)
    assert (change.old_key_id, change.key_id, change.level) == (KEY_ID, NEW_KEY_ID, 1)
    np.testing.assert_array_equal(change.key.data, keys[0].data)


def test_sealing_vectors() -> None:
    v = json.loads((VECTORS / "sealing_1.json").read_text())
    assert unseal(bytes.fromhex(v["private_key"]), bytes.fromhex(v["sealed"])) == v["message"].encode()
    assert unwrap(bytes.fromhex(v["wrapped"]), v["passphrase"].encode()) == v["secret"].encode()


def test_packing_follows_the_words_of_the_format() -> None:
    engine = Engine(TOY)
    data = limbs_of(TOY.primes, 64, np.random.default_rng(1))
    expected = b""
    for limb, p in zip(data, TOY.primes, strict=True):
        number = sum(int(x) % p << i * p.bit_length() for i, x in enumerate(limb))
        expected += number.to_bytes(8 * p.bit_length(), "little")
    assert pack_limbs(engine, data, [0, 1, 2]).tobytes() == expected


def test_the_reading_example_of_the_documentation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(__file__).parent.parent
    monkeypatch.chdir(root)
    [code] = re.findall("```python\n(.*?)```", (root / "docs" / "format.md").read_text(), re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.startswith('model {"images":3,')


def test_the_documentation_lists_every_kind() -> None:
    text = (Path(__file__).parent.parent / "docs" / "format.md").read_text()
    assert [kind for kind in Kind if f"| `{kind.value}`" not in text] == []
