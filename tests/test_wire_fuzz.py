"""Readers under random damage: nothing but a named error may come out, and nothing large may be allocated."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attacks.damage import damaged, edits, paths_of, put, values
from attacks.forge import join, raw, split
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from toy import ToySecretKey, toy_parameters

from cipherlens.errors import CipherlensError, FormatError
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.results import Reply, TrainedModel
from cipherlens.owner import Keys, OwnerSecrets
from cipherlens.owner.sealed import new_sealing_keys, unseal, unwrap
from cipherlens.planning.plan import plan
from cipherlens.planning.task import Task
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.keys import RELINEARISATION, KeyRequest, rotation
from cipherlens.server import classify, train
from cipherlens.wire.container import Reader
from cipherlens.wire.fields import parse_json
from cipherlens.wire.key_change import read_key_change, write_key_change
from cipherlens.wire.keys import read_evaluation_keys, read_public_key, write_evaluation_keys, write_public_key
from cipherlens.wire.packed import unpack_ciphertext

KINDS = 8
"""Kinds of files whose readers are fuzzed: all but the public half of a task, which travels inside the others."""

TOY = toy_parameters(64, (30, 26), (33,), 1)
EXTRA_BYTES = 1 << 30
"""Address space that the readers may take beyond what the tests have; a promise of more must not be believed."""

few = settings(max_examples=1000, deadline=None, database=None)
fuzz = settings(
    max_examples=2500,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module", autouse=True)
def limited_memory() -> Iterator[None]:
    if not sys.platform.startswith("linux"):
        yield
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + EXTRA_BYTES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Target:
    """Valid files, a place for damaged ones, and how each is read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "fuzzed.cl"
        self.engine = Engine(TOY)
        owner = ToySecretKey.create(self.engine)
        keys = owner.evaluation_keys([KeyRequest(RELINEARISATION, 1), KeyRequest(rotation(TOY, 1), 0)])
        write_evaluation_keys(folder / "evaluation.cl", keys)
        write_public_key(folder / "public.cl", owner.public_key(), bytes(range(32)))
        write_key_change(folder / "switching.cl", owner.key_change(ToySecretKey.create(self.engine), 1))
        self.readers: dict[str, Callable[[Path], Any]] = {
            "evaluation.cl": lambda path: read_evaluation_keys(path, self.engine),
            "public.cl": lambda path: read_public_key(path, self.engine),
            "switching.cl": lambda path: read_key_change(path, self.engine),
            **self._write_a_real_task(folder),
        }
        self.names = list(self.readers)
        assert len(self.names) == KINDS
        self.files = [(folder / name).read_bytes() for name in self.names]
        self.parts = [split(data) for data in self.files]

    def _write_a_real_task(self, folder: Path) -> dict[str, Callable[[Path], Any]]:
        """Files of a small task, whose parameters its readers look up in the security table."""
        rng = np.random.default_rng(0)
        labels = np.arange(40) % 2
        table = rng.normal(size=(40, 3)) + labels[:, None]
        task = plan(table, labels, learner="linear_means", features="table", dimension=4)
        keys = Keys.create(task)
        images = keys.encrypt(table, labels)
        model = train(images, keys.evaluation)
        task.save(folder / "task.cl")
        keys.secrets.save(folder / "secret.cl", None)
        images.save(folder / "images.cl")
        model.save(folder / "model.cl")
        classify(model, keys.encrypt(table[:3]), keys.evaluation).save(folder / "reply.cl")
        return {
            "task.cl": Task.load,
            "secret.cl": lambda path: OwnerSecrets.load(path, None),
            "images.cl": EncryptedImages.load,
            "model.cl": lambda path: keys.secrets.open(TrainedModel.load(path)),
            "reply.cl": lambda path: keys.decrypt(Reply.load(path)),
        }

    def survives(self, which: int, data: bytes) -> bool:
        """Whether the reader takes it; anything but a named error escapes."""
        self.path.unlink(missing_ok=True)  # some file systems flush a file that is overwritten, and none that is new
        self.path.write_bytes(data)
        try:
            with Reader.open(self.path, None, verify=False) as reader:
                for name in reader.shapes:
                    reader.read(name)
        except CipherlensError as error:
            assert str(error).isprintable() and len(str(error)) < 500
        try:
            self.readers[self.names[which]](self.path)
        except CipherlensError as error:
            assert str(error).isprintable() and len(str(error)) < 500
            return False
        return True


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return Target(tmp_path_factory.mktemp("fuzz"))


@fuzz
@given(st.integers(0, KINDS - 1), edits)
def test_damaged_bytes(target: Target, which: int, changes: list[tuple[int, int, bytes]]) -> None:
    data = damaged(target.files[which], changes)
    assert target.survives(which, data) == (data == target.files[which])


@fuzz
@given(st.integers(0, KINDS - 1), edits)
def test_damaged_headers_with_matching_digests(
    target: Target, which: int, changes: list[tuple[int, int, bytes]]
) -> None:
    fields, body = target.parts[which]
    metadata = fields["__metadata__"] | {"header_sha256": "0" * 64}
    text = json.dumps(fields | {"__metadata__": metadata}, sort_keys=True, separators=(",", ":")).encode()
    target.survives(which, raw(damaged(text, changes), body))


@fuzz
@given(st.integers(0, KINDS - 1), edits)
def test_damaged_bodies_with_matching_digests(
    target: Target, which: int, changes: list[tuple[int, int, bytes]]
) -> None:
    fields, body = target.parts[which]
    target.survives(which, join(json.loads(json.dumps(fields)), damaged(body, changes)))


@fuzz
@given(st.integers(0, KINDS - 1), st.integers(0), values, st.booleans(), st.booleans())
def test_other_values_with_matching_digests(
    target: Target, which: int, place: int, value: Any, inner: bool, remove: bool
) -> None:
    fields, body = target.parts[which]
    fields = json.loads(json.dumps(fields))
    subject = json.loads(fields["__metadata__"]["header"]) if inner else fields
    everywhere = list(paths_of(subject))
    put(subject, everywhere[place % len(everywhere)], value, remove)
    if inner:
        fields["__metadata__"]["header"] = json.dumps(subject)
    target.survives(which, join(fields, body))


@few
@given(st.binary(max_size=300))
def test_noise(target: Target, data: bytes) -> None:
    for which in range(KINDS):
        assert not target.survives(which, data)
        assert not target.survives(which, len(data).to_bytes(8, "little") + data)


@few
@given(st.binary(max_size=200))
def test_json_noise(data: bytes) -> None:
    try:
        json.dumps(parse_json(data, "noise"), allow_nan=False)
    except FormatError as error:
        assert str(error).isprintable()


@few
@given(st.binary(max_size=4000))
def test_ciphertext_noise(target: Target, data: bytes) -> None:
    packed = np.frombuffer(data, np.uint8)
    try:
        ciphertext = unpack_ciphertext(target.engine, packed, 2, 2, 1.0)
    except FormatError:
        return
    assert packed.size == TOY.ciphertext_bytes(1, 2)
    assert (np.abs(ciphertext.data) <= (np.array(TOY.primes)[:, None] - 1) / 2).all()


@few
@given(st.binary(max_size=200))
def test_sealed_noise(data: bytes) -> None:
    private, _ = new_sealing_keys()
    with pytest.raises(CipherlensError):
        unseal(private, data)
    head = data[:50]
    with pytest.raises(FormatError):  # never a cost that was not agreed on
        unwrap(head if not head.startswith(b"CLW1") else b"", b"passphrase")
