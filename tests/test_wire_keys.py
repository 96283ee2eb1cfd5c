"""Packed ciphertexts, files of keys, sealed names, wrapped secrets, and the frozen vectors of the format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attacks.forge import Fields, edit, join, split
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import ToySecretKey, limbs_of, toy_parameters
from vectors.make_format_1 import SEED, small_parameters

from cipherlens.errors import FormatError, InputError, KeyMismatch, SecurityError
from cipherlens.owner.sealed import new_sealing_keys, unseal, unwrap, wrap
from cipherlens.owner.secret_key import SecretKey
from cipherlens.scheme.ciphertext import Ciphertext, Plaintext
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.expansion import SeedUse, expand
from cipherlens.scheme.keys import RELINEARISATION, EvaluationKeys, KeyRequest, rotation
from cipherlens.wire.container import Kind, Writer
from cipherlens.wire.keys import (
    list_evaluation_keys,
    read_evaluation_keys,
    read_public_key,
    stream_evaluation_keys,
    write_evaluation_keys,
    write_public_key,
)
from cipherlens.wire.packed import (
    pack_ciphertext,
    pack_half,
    packed_bytes,
    packed_ciphertext_bytes,
    unpack_ciphertext,
    unpack_limbs,
    unpack_seeded,
)
from cipherlens.wire.sealed import seal

VECTORS = Path(__file__).parent / "vectors"
TOY = toy_parameters(64, (30, 41, 26), (50, 33), 2)
ROTATION = rotation(TOY, 1)


@pytest.fixture(scope="module")
def owner() -> SecretKey:
    return ToySecretKey.create(Engine(TOY))


@pytest.fixture(scope="module")
def keys(owner: SecretKey) -> EvaluationKeys:
    return owner.evaluation_keys([KeyRequest(RELINEARISATION, 2), KeyRequest(ROTATION, 1)])


@pytest.fixture
def key_file(tmp_path: Path, keys: EvaluationKeys) -> Path:
    write_evaluation_keys(tmp_path / "evaluation.cl", keys)
    return tmp_path / "evaluation.cl"


# Packed ciphertexts


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32))
def test_ciphertexts_round_trip(parts: int, limbs: int, seed: int) -> None:
    engine = Engine(TOY)
    data = limbs_of(TOY.primes[:limbs], 64, np.random.default_rng(seed), (parts,))
    packed = pack_ciphertext(engine, Ciphertext(data, 2.0**20))
    assert packed.size == packed_ciphertext_bytes(TOY, parts, limbs) == TOY.ciphertext_bytes(limbs - 1, parts)
    back = unpack_ciphertext(engine, packed, parts, limbs, 2.0**20)
    np.testing.assert_array_equal(back.data, data)
    assert back.scale == 2.0**20


def test_seeded_ciphertexts_round_trip(owner: SecretKey) -> None:
    engine = owner.engine
    fresh = owner.encrypt_seeded(Plaintext(engine.encode(np.ones(32, complex), 2.0**20, 3), 2.0**20))
    packed = pack_half(engine, fresh.data)
    back = unpack_seeded(engine, packed, np.frombuffer(fresh.seed, np.uint8), 3, fresh.scale)
    np.testing.assert_array_equal(back.data[0], fresh.data)
    np.testing.assert_array_equal(back.data[1], expand(engine.ring, fresh.seed, SeedUse.CIPHERTEXT, 0, range(3)))
    for seed in (b"", bytes(31), np.zeros(33, np.uint8)):
        with pytest.raises(FormatError, match="a seed has 32 bytes"):
            unpack_seeded(engine, packed, seed, 3, fresh.scale)


@pytest.mark.parametrize("index", range(5))
def test_a_residue_must_be_below_its_prime(index: int) -> None:
    engine = Engine(TOY)
    prime = (TOY.primes + TOY.special_primes)[index]
    bits = prime.bit_length()
    for position in (0, 17, 63):
        for value, good in ((prime - 1, True), (prime, False), (prime + 1, False), ((1 << bits) - 1, False)):
            packed = np.frombuffer((value << position * bits).to_bytes(8 * bits, "little"), np.uint8)
            if good:
                assert unpack_limbs(engine, packed, [index])[0, position] == -1
            else:
                with pytest.raises(FormatError, match="not below its prime"):
                    unpack_limbs(engine, packed, [index])


@pytest.mark.parametrize("change", [-1, 1, -1000, 10**6])
def test_packed_bytes_of_another_length(change: int) -> None:
    engine = Engine(TOY)
    size = packed_ciphertext_bytes(TOY, 2, 3)
    with pytest.raises(FormatError, match=f"take {size} bytes, but {max(0, size + change)} are there"):
        unpack_ciphertext(engine, np.zeros(max(0, size + change), np.uint8), 2, 3, 1.0)
    with pytest.raises(FormatError):
        unpack_ciphertext(engine, np.zeros((2, size // 2), np.uint8), 2, 3, 1.0)
    with pytest.raises(FormatError):
        unpack_ciphertext(engine, np.zeros(size // 8, np.float64), 2, 3, 1.0)


# Files of keys


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_evaluation_keys_round_trip(
    key_file: Path, keys: EvaluationKeys, owner: SecretKey, threads: int | None
) -> None:
    seen: list[tuple[int, int]] = []
    write_evaluation_keys(key_file, keys, lambda done, total: seen.append((done, total)), engine=owner.engine)
    assert seen == [(1, 2), (2, 2)]
    back = read_evaluation_keys(key_file, owner.engine, threads=threads)
    assert back.key_id == keys.key_id and back.parameters is TOY and back.keys.keys() == keys.keys.keys()
    for number, key in keys.keys.items():
        np.testing.assert_array_equal(back[number].data, key.data)
        assert back[number].seed == key.seed
    size = sum(TOY.switching_key_bytes(level) for level in (2, 1))
    assert size < key_file.stat().st_size < size + 1500


def test_only_the_keys_asked_for_are_read(key_file: Path, owner: SecretKey) -> None:
    back = read_evaluation_keys(key_file, owner.engine, [KeyRequest(ROTATION, 1), KeyRequest(1, 2)])
    assert set(back.keys) == {ROTATION}
    for request in (KeyRequest(ROTATION, 2), KeyRequest(rotation(TOY, 2), 0)):
        with pytest.raises(KeyMismatch, match=f"lacks the key {request.number} at level {request.level}"):
            read_evaluation_keys(key_file, owner.engine, [request])


def test_keys_are_streamed_in_order_and_all_of_them(tmp_path: Path, owner: SecretKey) -> None:
    requests = [KeyRequest(0, 2), KeyRequest(ROTATION, 1)]
    made = (owner.switching_key(request) for request in requests)
    stream_evaluation_keys(tmp_path / "a.cl", owner.engine, owner.key_id, requests, made)
    assert set(read_evaluation_keys(tmp_path / "a.cl", owner.engine).keys) == {0, ROTATION}
    with pytest.raises(InputError, match="ascending order"):
        stream_evaluation_keys(tmp_path / "b.cl", owner.engine, owner.key_id, requests[::-1], [])
    with pytest.raises(ValueError):  # a key of a lower level than its request
        stream_evaluation_keys(tmp_path / "b.cl", owner.engine, "", requests[:1], [owner.switching_key(requests[1])])
    with pytest.raises(ValueError):  # fewer keys than requests
        stream_evaluation_keys(tmp_path / "b.cl", owner.engine, "", requests, [owner.switching_key(requests[0])])
    assert not (tmp_path / "b.cl").exists()


def test_toy_rings_are_refused_from_outside(key_file: Path, tmp_path: Path, owner: SecretKey) -> None:
    write_public_key(tmp_path / "public.cl", owner.public_key(), bytes(32))
    for read, path in (
        (read_evaluation_keys, key_file),
        (list_evaluation_keys, key_file),
        (read_public_key, tmp_path / "public.cl"),
    ):
        with pytest.raises(SecurityError, match="ring dimension 64 is not in the security table"):
            read(path)


def test_keys_of_another_ring(key_file: Path, tmp_path: Path, owner: SecretKey) -> None:
    other = Engine(toy_parameters(64, (30, 41, 26), (50, 32), 2))
    with pytest.raises(KeyMismatch, match="made for other parameters"):
        read_evaluation_keys(key_file, other)
    write_public_key(tmp_path / "public.cl", owner.public_key(), bytes(32))
    with pytest.raises(KeyMismatch, match="made for other parameters"):
        read_public_key(tmp_path / "public.cl", other)


def test_public_key_round_trip(tmp_path: Path, owner: SecretKey) -> None:
    key = owner.public_key()
    write_public_key(tmp_path / "public.cl", key, SEED)
    back, sealing_key = read_public_key(tmp_path / "public.cl", owner.engine)
    np.testing.assert_array_equal(back.data, key.data)
    assert (back.key_id, back.seed, sealing_key) == (key.key_id, key.seed, SEED)
    with pytest.raises(FormatError, match=r"holds a public key, but should hold evaluation keys"):
        read_evaluation_keys(tmp_path / "public.cl", owner.engine)


def header(**changes: Any) -> Callable[[bytes], bytes]:
    def change(fields: Fields) -> None:
        inner = json.loads(fields["__metadata__"]["header"]) | changes
        fields["__metadata__"]["header"] = json.dumps({k: v for k, v in inner.items() if v != "gone"})

    return edit(change)


def above_the_table(**changes: Any) -> dict[str, Any]:
    return small_parameters().to_dict() | changes


def residue_out_of_range(data: bytes) -> bytes:
    fields, body = split(data)
    start = fields["key.0"]["data_offsets"][0]
    return join(fields, body[:start] + b"\xff" * 8 + body[start + 8 :])


ATTACKS: dict[str, tuple[Callable[[bytes], bytes], type[Exception], str]] = {
    "residue_out_of_range": (residue_out_of_range, FormatError, "not below its prime"),
    "no_parameters": (header(parameters="gone"), FormatError, "no field 'parameters'"),
    "parameters_text": (header(parameters="N = 64"), FormatError, "not an object"),
    "toy_parameters": (header(parameters={"ring_dimension": 64, "primes": [], "special_primes": [], "digit": 1,
                                          "scale_bits": 20}), SecurityError, "not in the security table"),
    "parameters_above_the_table": (header(parameters=above_the_table(primes=[68719484929] * 3)), SecurityError, "above"),
    "ring_dimension_not_a_power": (header(parameters=above_the_table(ring_dimension=4095)), SecurityError, "not in"),
    "ring_dimension_text": (header(parameters=above_the_table(ring_dimension="4096")), FormatError, "integer"),
    "prime_twice": (header(parameters=above_the_table(primes=[1073750017] * 2)), FormatError, "no prime twice"),
    "prime_composite": (header(parameters=above_the_table(primes=[68719484929, (1 << 30) + 1])), FormatError, "no prime"),
    "prime_too_small": (header(parameters=above_the_table(primes=[12289, 1073750017])), FormatError, "no prime"),
    "prime_of_64_bits": (header(parameters=above_the_table(primes=[1 << 63])), FormatError, "no prime"),
    "prime_negative": (header(parameters=above_the_table(primes=[-68719484929])), FormatError, "no prime"),
    "thousands_of_primes": (header(parameters=above_the_table(primes=[1073750017] * 5000)), FormatError, "at most 128"),
    "no_primes": (header(parameters=above_the_table(primes=[])), FormatError, "at least one prime"),
    "digit_zero": (header(parameters=above_the_table(digit=0)), FormatError, "out of range"),
    "scale_of_2000_bits": (header(parameters=above_the_table(scale_bits=2000)), FormatError, "out of range"),
    "key_id_text": (header(key_id="../../etc/passwd"), FormatError, "32 hexadecimal digits"),
    "levels_missing": (header(levels="gone"), FormatError, "no field 'levels'"),
    "level_above_the_top": (header(levels=[2, 0]), FormatError, "integers in 0 ... 1"),
    "level_of_another_key": (header(levels=[1, 1]), FormatError, "should be"),
    "one_level_less": (header(levels=[1]), FormatError, "one level each"),
    "numbers_twice": (header(numbers=[5, 5]), FormatError, "ascending order"),
    "number_even": (header(numbers=[0, 6]), FormatError, "neither for relinearisation"),
    "number_identity": (header(numbers=[0, 1]), FormatError, "neither for relinearisation"),
    "number_of_another_ring": (header(numbers=[0, 8193]), FormatError, "integers in 0 ... 8191"),
    "number_without_tensor": (header(numbers=[0, 7]), FormatError, "no tensor 'key.7'"),
    "tensor_without_number": (header(numbers=[0], levels=[1]), FormatError, "should be"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_on_evaluation_keys(tmp_path: Path, name: str) -> None:
    attack, error, sentence = ATTACKS[name]
    (tmp_path / "sent.cl").write_bytes(attack((VECTORS / "evaluation_1.cl").read_bytes()))
    with pytest.raises(error, match=sentence) as refusal:
        read_evaluation_keys(tmp_path / "sent.cl")
    assert str(refusal.value).isprintable() and len(str(refusal.value)) < 300


@pytest.mark.parametrize("missing", ["half", "seed", "sealing_key", None])
def test_a_public_key_of_other_tensors(tmp_path: Path, missing: str | None) -> None:
    p = small_parameters()
    shapes = {"half": packed_bytes(p, range(3)), "seed": 32, "sealing_key": 32, "extra": 1}
    chosen = {name: (np.uint8, (size,)) for name, size in shapes.items() if name != (missing or "")}
    with Writer(tmp_path / "x.cl", Kind.PUBLIC_KEY, {"parameters": p.to_dict(), "key_id": "0" * 32}, chosen) as writer:
        for name, (_, shape) in chosen.items():
            writer.write(name, np.zeros(shape, np.uint8))
    with pytest.raises(FormatError, match=f"'{missing or 'extra'}'"):
        read_public_key(tmp_path / "x.cl")


# Sealed names and wrapped secrets


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=2000))
def test_sealed_for_one_key(message: bytes) -> None:
    private, public = new_sealing_keys()
    sealed = seal(public, message)
    assert unseal(private, sealed) == message
    assert len(sealed) % 256 == 48 and len(sealed) - len(message) < 48 + 8 + 256
    assert seal(public, message) != sealed and (len(message) < 8 or message not in sealed)
    with pytest.raises(KeyMismatch, match="another key or altered"):
        unseal(new_sealing_keys()[0], sealed)


def test_every_flipped_bit_and_length_of_a_sealed_message() -> None:
    private, public = new_sealing_keys()
    sealed = seal(public, b"cat.png")
    damaged = [sealed[:length] for length in range(len(sealed))] + [sealed + b"\0", bytes(304), b"\1" + bytes(303)]
    for byte in range(len(sealed)):
        altered = bytearray(sealed)
        altered[byte] ^= 1 << byte % 7  # X25519 ignores the top bit of its last byte, but the key derivation does not
        damaged.append(bytes(altered))
    for bad in damaged:
        with pytest.raises(KeyMismatch):
            unseal(private, bad)


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(32), b"\1" + bytes(31)])
def test_no_key_to_seal_for(key: bytes) -> None:
    with pytest.raises(FormatError, match="no valid key for sealing"):
        seal(key, b"x")


def test_wrapped_secrets() -> None:
    wrapped = wrap(b"secret", b"passphrase", 14)
    assert unwrap(wrapped, b"passphrase") == b"secret" and b"secret" not in wrapped
    assert wrap(b"secret", b"passphrase", 14) != wrapped
    for wrong in (b"", b"Passphrase", b"passphrase\n"):
        with pytest.raises(KeyMismatch, match="passphrase is wrong"):
            unwrap(wrapped, wrong)
    with pytest.raises(KeyMismatch, match="empty"):
        wrap(b"secret", b"", 14)
    for bad in (
        b"",
        wrapped[:38],
        b"XXXX" + wrapped[4:],
        *(wrapped[:4] + bytes([n]) + wrapped[5:] for n in (0, 13, 20, 255)),
    ):
        with pytest.raises(FormatError):
            unwrap(bad, b"passphrase")
    for at, value in ((5, 9), (5, 255), (6, 2), (6, 0)):
        with pytest.raises(FormatError, match="which is not accepted"):
            unwrap(wrapped[:at] + bytes([value]) + wrapped[at + 1 :], b"passphrase")
    for at in (4, 7, 22, 23, -1):  # another cost that is accepted, the salt, the body, the tag
        with pytest.raises(KeyMismatch):
            altered = bytearray(wrapped)
            altered[at] ^= 1
            unwrap(bytes(altered), b"passphrase")


def test_the_usual_cost_is_that_of_the_format() -> None:
    assert wrap(b"", b"x")[:7] == b"CLW1" + bytes((17, 8, 1))
