"""Uploads of every kind under random damage, honestly announced: no failure of the service, and nothing is left behind."""

from __future__ import annotations

import base64
import hashlib
import json
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from attacks.damage import damaged, edits, paths_of, put, values
from attacks.forge import TB, join, raw, split
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from service_world import Owner, in_process, rows, token
from service_world import split as pieces_of

import cipherlens as cl
from cipherlens.owner.keys import Keys
from cipherlens.service.database import Database
from cipherlens.service.headers import LARGEST_HEADER
from cipherlens.service.settings import Settings
from cipherlens.wire.key_change import write_key_change
from cipherlens.wire.keys import write_evaluation_keys

EXTRA_BYTES = 1 << 30
"""Address space that the service may take beyond what the tests have; a promise of more must not be believed."""

KINDS = ("evaluation_keys", "images", "switching_key")


def fuzz(examples: int) -> settings:
    """So many random uploads, each of which takes its time; `test_wire_fuzz.py` has the readers' ten thousand.

    What fails is not made smaller.
    """
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@dataclass(frozen=True)
class World:
    """A service in this process, an owner, and one valid file of each kind with its header and body."""

    data: Path
    owner: Owner
    files: dict[str, bytes] = field(repr=False)
    parts: dict[str, tuple[dict[str, Any], bytes]] = field(repr=False)

    def send(self, kind: str, content: bytes, header: bytes | None = None) -> bool:
        """Whether the service takes this file, announced by what it is; either way nothing stays.

        header: what is announced instead of the file's own beginning.
        """
        announced = {
            "kind": kind,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "header": base64.b64encode(beginning(content) if header is None else header).decode(),
            "pieces": [hashlib.sha256(piece).hexdigest() for piece in pieces_of(content)],
        }
        answer = self.owner.ask("POST", "/v1/files", json=announced)
        if answer.is_success:
            declared = answer.json()
            path = f"/v1/files/{declared['file_id']}"
            for index in declared["missing"]:
                self.owner.done("PUT", f"{path}/pieces/{index}", content=pieces_of(content)[index])
            answer = self.owner.ask("POST", f"{path}/complete")
            if answer.is_success:
                assert self.owner.download(declared["file_id"]) == content
                self.owner.done("DELETE", path)
        self.check_refusal(answer)
        assert self.owner.done("GET", "/v1/files") == {"files": [], "next": None}
        assert [path for path in (self.data / "tenants").rglob("*") if path.is_file()] == []
        return bool(answer.is_success)

    def check_refusal(self, answer: Any) -> None:
        """One sentence that names no path of the server's."""
        if not answer.is_success:
            assert 400 <= answer.status_code < 500, answer.text
            message = answer.json()["error"]["message"]
            assert message.isprintable() and len(message) < 600 and str(self.data) not in message


def beginning(content: bytes) -> bytes:
    """As much of a file as its first bytes call its header, and of more than a service takes just too much."""
    return content[: 8 + min(int.from_bytes(content[:8], "little"), LARGEST_HEADER)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("uploads")
    table, labels = rows(40, 1)
    task = cl.plan(table, labels, learner="linear_means", features="table", dimension=32)
    keys = Keys.create(task)
    write_evaluation_keys(folder / "evaluation_keys", keys.evaluation)
    keys.encrypt(table, labels).save(folder / "images")
    write_key_change(folder / "switching_key", Keys.create_successor(task, keys.secrets)[1])
    files = {kind: (folder / kind).read_bytes() for kind in KINDS}
    secret = token(folder / "data")
    database = Database(folder / "data")
    with in_process(Settings(data=folder / "data"), database) as http, limited_memory():
        yield World(folder / "data", Owner(http, secret), files, {kind: split(files[kind]) for kind in KINDS})
    database.close()


class limited_memory:
    """Within the block this process, and so the service in it, gets EXTRA_BYTES more address space and no further."""

    def __enter__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_AS)
        if sys.platform.startswith("linux"):
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + EXTRA_BYTES, self._before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_AS, self._before)


kinds = st.sampled_from(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_undamaged_file_is_taken(world: World, kind: str) -> None:
    assert world.send(kind, world.files[kind])
    for other in KINDS:
        assert other == kind or not world.send(other, world.files[kind])


@fuzz(30)
@given(kinds, edits)
def test_damaged_bytes(world: World, kind: str, changes: list[tuple[int, int, bytes]]) -> None:
    content = damaged(world.files[kind], changes)
    assert not content or world.send(kind, content) == (content == world.files[kind])


@fuzz(40)
@given(kinds, edits)
def test_damaged_headers_with_matching_digests(world: World, kind: str, changes: list[tuple[int, int, bytes]]) -> None:
    fields, body = world.parts[kind]
    metadata = fields["__metadata__"] | {"header_sha256": "0" * 64}
    text = json.dumps(fields | {"__metadata__": metadata}, sort_keys=True, separators=(",", ":")).encode()
    world.send(kind, raw(damaged(text, changes), body))


@fuzz(20)
@given(kinds, edits)
def test_damaged_bodies_with_matching_digests(world: World, kind: str, changes: list[tuple[int, int, bytes]]) -> None:
    fields, body = world.parts[kind]
    world.send(kind, join(json.loads(json.dumps(fields)), damaged(body, changes)))


@fuzz(60)
@given(kinds, st.integers(0), values, st.booleans(), st.booleans())
def test_other_values_with_matching_digests(
    world: World, kind: str, place: int, value: Any, inner: bool, remove: bool
) -> None:
    fields, body = world.parts[kind]
    fields = json.loads(json.dumps(fields))
    subject = json.loads(fields["__metadata__"]["header"]) if inner else fields
    everywhere = list(paths_of(subject))
    put(subject, everywhere[place % len(everywhere)], value, remove)
    if inner:
        fields["__metadata__"]["header"] = json.dumps(subject)
    world.send(kind, join(fields, body))


@fuzz(10)
@given(kinds, st.binary(min_size=1, max_size=300), st.binary(max_size=300))
def test_noise(world: World, kind: str, content: bytes, header: bytes) -> None:
    assert not world.send(kind, content, header)
    assert not world.send(kind, len(content).to_bytes(8, "little") + content)
    assert not world.send(kind, world.files[kind], header)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("promise", [TB, 1 << 62, (1 << 64) - 1])
def test_a_header_that_promises_terabytes(world: World, kind: str, promise: int) -> None:
    """In the length of the header, in the size of every tensor, and in what is announced beside it."""
    content = world.files[kind]
    assert not world.send(kind, promise.to_bytes(8, "little") + content[8:])
    fields, body = world.parts[kind]
    for name in set(fields) - {"__metadata__"}:
        larger = json.loads(json.dumps(fields))
        start = larger[name]["data_offsets"][0]
        larger[name] |= {"shape": [promise], "data_offsets": [start, start + promise]}
        assert not world.send(kind, join(larger, body))
    announced = {
        "kind": kind, "size": promise, "sha256": "0" * 64, "pieces": ["0" * 64],
        "header": base64.b64encode(beginning(content)).decode(),
    }  # fmt: skip
    world.check_refusal(refusal := world.owner.ask("POST", "/v1/files", json=announced))
    assert refusal.status_code == 422
