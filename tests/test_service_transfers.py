"""Uploads and downloads: what is refused where, what can be repeated, and who sees what."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from service_world import Material, Owner, in_process, make_material, manifest, split, token

import cipherlens as cl
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.service.database import Database, File, Tenant
from cipherlens.service.jobs import Jobs
from cipherlens.service.pieces import Store
from cipherlens.service.settings import PIECE_BYTES, Settings
from cipherlens.service.sweep import Sweeper
from cipherlens.service.tokens import list_tokens, revoke_token
from cipherlens.wire.container import Reader
from cipherlens.wire.layout import Kind, compose, parse, place


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(tmp_path_factory.mktemp("material") / "files", images=512)


@dataclass
class World:
    """A service in this process, with two tenants. With both databases for tests that use `database_url`."""

    data: Path
    url: SecretStr | None
    database: Database
    http: Any
    owner: Owner
    stranger: Owner
    secret: str

    def token(self, dataset: str | None = None) -> str:
        return token(self.data, dataset=dataset, url=self.url)

    def other(self, text: str) -> Owner:
        return Owner(self.http, text)

    def on_disk(self, folder: str) -> list[Path]:
        return [path for path in self.data.glob(f"tenants/*/{folder}/**/*") if path.is_file()]


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    data = tmp_path / "data"
    url = request.getfixturevalue("database_url") if "database_url" in request.fixturenames else None
    owner, stranger = token(data, url=url), token(data, "rival", url=url)
    database = Database(data, url)
    with in_process(Settings(data=data, database=url), database) as http:
        yield World(data, url, database, http, Owner(http, owner), Owner(http, stranger), owner)
    database.close()


def refused(answer: Any, status: int, kind: str) -> str:
    assert (answer.status_code, answer.json()["error"]["kind"]) == (status, kind), answer.text
    return str(answer.json()["error"]["message"])


# ---- the way it is meant ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["images", "evaluation_keys"])
def test_a_file_comes_back_as_it_went(world: World, material: Material, kind: str) -> None:
    path = material.keys if kind == "evaluation_keys" else material.parts[0]
    file_id = world.owner.upload(path, kind)
    assert world.owner.download(file_id) == path.read_bytes()
    info = world.owner.done("GET", f"/v1/files/{file_id}/info")
    assert (info["state"], info["size"], info["kind"]) == ("ready", path.stat().st_size, kind)
    assert world.on_disk("pieces") == []  # the whole file replaces them


def test_ranges(world: World, material: Material) -> None:
    content = material.parts[0].read_bytes()
    file_id = world.owner.upload(material.parts[0])
    for asked, start, stop in (("0-9", 0, 10), ("100-", 100, len(content)), ("-7", len(content) - 7, len(content))):
        answer = world.owner.ask("GET", f"/v1/files/{file_id}", headers={"Range": f"bytes={asked}"})
        assert (answer.status_code, answer.content) == (206, content[start:stop])
        assert answer.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    beyond = world.owner.ask("GET", f"/v1/files/{file_id}", headers={"Range": f"bytes={len(content)}-"})
    refused(beyond, 416, "BadRange")
    refused(world.owner.ask("GET", f"/v1/files/{file_id}", headers={"Range": "bytes=0-1,3-4"}), 400, "Invalid")


@pytest.mark.usefixtures("database_url")
def test_an_interrupted_upload_goes_on(world: World, material: Material) -> None:
    announced, pieces = manifest(material.keys, "evaluation_keys"), split(material.keys.read_bytes())
    assert len(pieces) > 1
    first = world.owner.done("POST", "/v1/files", json=announced)
    assert first["missing"] == list(range(len(pieces)))
    world.owner.done("PUT", f"/v1/files/{first['file_id']}/pieces/1", content=pieces[1])
    refused(world.owner.ask("POST", f"/v1/files/{first['file_id']}/complete"), 409, "Incomplete")
    refused(world.owner.ask("GET", f"/v1/files/{first['file_id']}"), 404, "NotFound")  # nothing half-visible
    again = world.owner.done("POST", "/v1/files", json=announced)
    assert again["file_id"] == first["file_id"]
    assert again["missing"] == [i for i in range(len(pieces)) if i != 1]
    assert world.owner.upload(material.keys, "evaluation_keys") == first["file_id"]


@pytest.mark.usefixtures("database_url")
def test_replays_change_nothing(world: World, material: Material) -> None:
    file_id = world.owner.upload(material.parts[0])
    before = world.on_disk("files")
    assert world.owner.upload(material.parts[0]) == file_id
    piece = split(material.parts[0].read_bytes())[0]
    assert world.owner.ask("PUT", f"/v1/files/{file_id}/pieces/0", content=piece).status_code == 204
    assert world.owner.done("POST", f"/v1/files/{file_id}/complete")["state"] == "ready"
    assert world.on_disk("files") == before
    assert world.on_disk("pieces") == []


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"size": 0}, 422, "Invalid"),
        ({"size": True}, 422, "Invalid"),
        ({"size": 1 << 60}, 422, "Invalid"),
        ({"sha256": "A" * 64}, 422, "Invalid"),
        ({"sha256": "../" * 21 + "a"}, 422, "Invalid"),
        ({"kind": "secret_key"}, 422, "Invalid"),
        ({"kind": "model"}, 422, "Invalid"),
        ({"kind": "evaluation_keys"}, 422, "FormatError"),
        ({"header": "****"}, 400, "Invalid"),
        ({"header": base64.b64encode(bytes(8)).decode()}, 422, "FormatError"),
        ({"header": base64.b64encode(b"\xff" * 40).decode()}, 422, "FormatError"),
        ({"pieces": []}, 422, "Invalid"),
        ({"pieces": ["0" * 64] * 9}, 400, "Invalid"),
        ({"further": 1}, 422, "Invalid"),
    ],
)
def test_announcements_that_are_none(
    world: World, material: Material, change: dict[str, Any], status: int, kind: str
) -> None:
    answer = world.owner.ask("POST", "/v1/files", json=manifest(material.parts[0], "images") | change)
    refused(answer, status, kind)
    assert world.on_disk("pieces") == []


def rewritten(path: Path, **changes: Any) -> dict[str, Any]:
    """An announcement whose header says something else of a body of fitting size."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    layout = parse(content[8 : 8 + length], "x")
    header = dict(layout.header) | changes.pop("header", {})
    shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in layout.tensors.items()} | changes.pop("shapes", {})
    start = compose(Kind.IMAGES, header, place(shapes), layout.body_sha256)
    size = len(start) + max(tensor.end for tensor in place(shapes).values())
    pieces = ["0" * 64] * -(-size // PIECE_BYTES)
    return {
        "kind": "images", "size": size, "sha256": "0" * 64, "header": base64.b64encode(start).decode(),
        "pieces": pieces,
    }  # fmt: skip


def test_headers_that_promise_too_much(world: World, material: Material) -> None:
    """As a zip bomb does: small in transfer, and large or weak once believed."""
    refused(
        world.owner.ask("POST", "/v1/files", json=rewritten(material.parts[0], header={"images": 1 << 39})),
        422, "FormatError",
    )  # fmt: skip
    names = {"names": ("u1", (200 << 20,))}
    assert "names" in refused(
        world.owner.ask("POST", "/v1/files", json=rewritten(material.parts[0], shapes=names)), 422, "FormatError"
    )
    content = material.parts[0].read_bytes()
    task = dict(parse(content[8 : 8 + int.from_bytes(content[:8], "little")], "x").header["task"])  # type: ignore[arg-type]
    task["parameters"] = dict(task["parameters"]) | {"ring_dimension": task["parameters"]["ring_dimension"] // 2}
    refused(
        world.owner.ask("POST", "/v1/files", json=rewritten(material.parts[0], header={"task": task})),
        422, "SecurityError",
    )  # fmt: skip


def test_pieces_that_are_not_what_was_announced(world: World, material: Material) -> None:
    pieces = split(material.keys.read_bytes())
    file_id = world.owner.done("POST", "/v1/files", json=manifest(material.keys, "evaluation_keys"))["file_id"]
    put = f"/v1/files/{file_id}/pieces"
    refused(world.owner.ask("PUT", f"{put}/0", content=pieces[1]), 400, "Invalid")
    refused(world.owner.ask("PUT", f"{put}/0", content=pieces[0][:-1]), 400, "Invalid")
    refused(world.owner.ask("PUT", f"{put}/0", content=pieces[0] + b"x"), 413, "TooLarge")
    refused(world.owner.ask("PUT", f"{put}/{len(pieces)}", content=pieces[0]), 404, "NotFound")
    for index in ("-1", "1e3", "٣", "0x0", "9" * 30, "1.0"):
        assert world.owner.ask("PUT", f"{put}/{index}", content=pieces[0]).status_code == 404
    assert world.on_disk("pieces") == []


@pytest.mark.usefixtures("database_url")
def test_a_whole_that_is_not_what_was_announced_is_forgotten(world: World, material: Material) -> None:
    content = bytearray(material.parts[0].read_bytes())
    content[-1] ^= 1  # the manifest is honest about the bytes, but the body does not match the header's hash
    altered = world.data.parent / "altered.cl"
    altered.write_bytes(content)
    declared = world.owner.done("POST", "/v1/files", json=manifest(altered, "images"))
    for index, piece in enumerate(split(bytes(content))):
        world.owner.done("PUT", f"/v1/files/{declared['file_id']}/pieces/{index}", content=piece)
    message = refused(world.owner.ask("POST", f"/v1/files/{declared['file_id']}/complete"), 422, "FormatError")
    assert "the upload" in message
    refused(world.owner.ask("GET", f"/v1/files/{declared['file_id']}/info"), 404, "NotFound")
    assert world.on_disk("pieces") == world.on_disk("files") == []


def test_bodies_beyond_their_bound(world: World) -> None:
    refused(world.owner.ask("POST", "/v1/datasets", content=b" " * (70 << 10)), 413, "TooLarge")
    chunks = (b" " * 4096 for _ in range(100))  # without a Content-Length
    refused(world.owner.ask("POST", "/v1/jobs", content=chunks), 413, "TooLarge")
    zipped = world.owner.ask("POST", "/v1/jobs", content=b"{}", headers={"Content-Encoding": "gzip"})
    refused(zipped, 415, "UnsupportedEncoding")
    for text in (b"[" * 60000, b"\xff\xfe", b'{"file_ids": ' + b"9" * 5000 + b"}", b"null", b'"' + b"x" * 50):
        answer = world.owner.ask("POST", "/v1/datasets", content=text, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/../../etc/passwd",
        "/v1/files/%2e%2e%2f%2e%2e%2fservice.sqlite3",
        "/v1/files/..%2f..%2f..%2fservice.sqlite3/info",
        "/v1/files/" + "A" * 32,
        "/v1/files/" + "0" * 31 + "%00",
        "/v1/files/" + "٣" * 32,
        "/v1/jobs/" + "0" * 33,
        "//v1/files",
        "/v1",
        "/V1/files",
    ],
)
def test_path_tricks_find_nothing(world: World, path: str) -> None:
    answer = world.owner.ask("GET", path)
    assert answer.status_code in (404, 405), answer.text
    assert set(answer.json()) == {"error"}


# ---- tenants and tokens ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("database_url")
def test_tenants_do_not_see_each_other(world: World, material: Material) -> None:
    file_id = world.owner.upload(material.parts[0])
    keys_id = world.owner.upload(material.keys, "evaluation_keys")
    dataset = world.owner.done("POST", "/v1/datasets", json={"file_ids": [file_id]})["dataset_id"]
    job = world.owner.submit("k", kind="train", dataset_id=dataset, keys_file_id=keys_id)
    asked = [
        ("GET", f"/v1/files/{file_id}", None), ("GET", f"/v1/files/{file_id}/info", None),
        ("PUT", f"/v1/files/{file_id}/pieces/0", None), ("POST", f"/v1/files/{file_id}/complete", None),
        ("DELETE", f"/v1/files/{file_id}", None), ("POST", "/v1/datasets", {"file_ids": [file_id]}),
        ("GET", f"/v1/datasets/{dataset}", None), ("DELETE", f"/v1/datasets/{dataset}", None),
        ("POST", f"/v1/datasets/{dataset}/append", {"file_id": file_id}), ("GET", f"/v1/jobs/{job}", None),
        ("GET", f"/v1/jobs/{job}/events", None), ("POST", f"/v1/jobs/{job}/cancel", None),
        ("POST", "/v1/jobs", {"kind": "train", "dataset_id": dataset, "keys_file_id": keys_id}),
    ]  # fmt: skip
    for method, path, body in asked:
        answer = world.stranger.ask(method, path, json=body, headers={"Idempotency-Key": "k"})
        theirs = refused(answer, 404, "NotFound")
        unknown = path.replace(file_id, "0" * 32).replace(dataset, "0" * 32).replace(job, "0" * 32)
        if unknown != path and body is None:  # word for word what is said of things that do not exist
            assert refused(world.stranger.ask(method, unknown), 404, "NotFound") == theirs
    assert world.stranger.done("GET", "/v1/jobs") == {"jobs": [], "next": None}
    mine = world.stranger.upload(material.parts[0])  # the same bytes are not found again across tenants
    assert mine != file_id
    assert world.owner.done("GET", f"/v1/jobs/{job}")["state"] == "queued"


@pytest.mark.usefixtures("database_url")
def test_a_contributor_only_adds(world: World, material: Material) -> None:
    first = world.owner.upload(material.parts[0])
    dataset = world.owner.done("POST", "/v1/datasets", json={"file_ids": [first]})["dataset_id"]
    contributor = world.other(world.token(dataset))
    second = contributor.upload(material.parts[1])
    grown = contributor.done("POST", f"/v1/datasets/{dataset}/append", json={"file_id": second})
    own = contributor.done("GET", f"/v1/files/{second}/info")["images"]
    assert (grown["file_ids"], grown["images"]) == ([second], own)  # and not what others gave, nor how much
    assert world.owner.done("GET", f"/v1/datasets/{dataset}")["file_ids"] == [first, second]
    assert contributor.upload(material.parts[0]) != first  # nor learns which files there are already
    for method, path in [
        ("GET", f"/v1/files/{second}"), ("DELETE", f"/v1/files/{second}"), ("GET", f"/v1/files/{first}/info"),
        ("GET", f"/v1/datasets/{dataset}"), ("DELETE", f"/v1/datasets/{dataset}"), ("GET", "/v1/jobs"),
    ]:  # fmt: skip
        refused(contributor.ask(method, path), 404, "NotFound")
    refused(contributor.ask("POST", "/v1/datasets", json={"file_ids": [second]}), 404, "NotFound")
    refused(contributor.ask("POST", "/v1/files", json=manifest(material.keys, "evaluation_keys")), 404, "NotFound")
    refused(contributor.ask("POST", "/v1/files", json=manifest(material.query, "images")), 400, "Invalid")
    refused(contributor.ask("POST", "/v1/files", json=manifest(material.foreign, "images")), 400, "Invalid")
    elsewhere = world.owner.done("POST", "/v1/datasets", json={"file_ids": [first]})["dataset_id"]
    refused(contributor.ask("POST", f"/v1/datasets/{elsewhere}/append", json={"file_id": second}), 404, "NotFound")


def test_tokens_that_do_not_count(world: World) -> None:
    good = world.token()
    bad = [
        "", "Bearer", "Bearer  x", good, f"Basic {good}", f"Bearer {good}x", f"Bearer {good[:-1]}", "Bearer clt__",
        f"Bearer {good[:-1]}{'A' if good[-1] != 'A' else 'B'}", f"Bearer clt_{'0' * 32}_{good[37:]}",
        "Bearer clt_" + "0" * 32 + "_" + "\xe9" * 43,
    ]  # fmt: skip
    answers = set()
    for text in bad:
        answer = world.http.get("/v1/jobs", headers={"Authorization": text.encode("latin-1")})
        answers.add(refused(answer, 401, "Unauthorized"))
        assert answer.headers["www-authenticate"] == "Bearer"
    assert len(answers) == 1  # which never says why
    assert world.http.get("/v1/jobs").status_code == 401
    twice = [("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {good}")]
    refused(world.http.get("/v1/jobs", headers=twice), 400, "Invalid")
    assert good.rpartition("_")[2].encode() not in (world.data / "service.sqlite3").read_bytes()


def test_a_token_revoked_in_mid_upload(world: World, material: Material) -> None:
    text = world.token()
    doomed = world.other(text)
    pieces = split(material.keys.read_bytes())
    file_id = doomed.done("POST", "/v1/files", json=manifest(material.keys, "evaluation_keys"))["file_id"]
    doomed.done("PUT", f"/v1/files/{file_id}/pieces/1", content=pieces[1])

    def dripping() -> Iterator[bytes]:
        yield pieces[0][:1000]
        revoke_token(world.database, Settings(data=world.data), text.split("_")[1])
        yield pieces[0][1000:]

    answer = doomed.ask("PUT", f"/v1/files/{file_id}/pieces/0", content=dripping())
    refused(answer, 401, "Unauthorized")
    assert len(world.on_disk("pieces")) == 1
    refused(doomed.ask("POST", f"/v1/files/{file_id}/complete"), 401, "Unauthorized")
    assert [t.revoked is not None for t in list_tokens(world.database)][-1]
    # The tenant's other token goes on with it.
    assert world.owner.done("POST", "/v1/files", json=manifest(material.keys, "evaluation_keys"))["missing"] == [
        i for i in range(len(pieces)) if i != 1
    ]


@pytest.mark.usefixtures("database_url")
def test_quotas(world: World, material: Material) -> None:
    with world.database.writing() as session:
        for tenant in session.query(Tenant):
            tenant.quota_bytes = material.parts[0].stat().st_size + 10
    world.owner.upload(material.parts[0])
    refused(world.owner.ask("POST", "/v1/files", json=manifest(material.parts[1], "images")), 413, "QuotaExceeded")


def test_an_upload_cannot_grow_past_the_quota(world: World, material: Material) -> None:
    """A lie about what a hash stands for comes out at the end; until then it has room for what it says, and no more."""
    small, large = manifest(material.query, "images"), manifest(material.keys, "evaluation_keys")
    with world.database.writing() as session:
        for tenant in session.query(Tenant):
            tenant.quota_bytes = large["size"] - 1
    declared = world.owner.done("POST", "/v1/files", json=small)
    refused(world.owner.ask("POST", "/v1/files", json=large | {"sha256": small["sha256"]}), 413, "QuotaExceeded")
    world.owner.done("PUT", f"/v1/files/{declared['file_id']}/pieces/0", content=split(material.query.read_bytes())[0])
    other = manifest(material.foreign, "images") | {"sha256": small["sha256"]}
    assert world.owner.done("POST", "/v1/files", json=other)["file_id"] == declared["file_id"]
    assert world.on_disk("pieces") == []  # which count for nothing, and so do not stay
    assert world.owner.upload(material.query) == declared["file_id"]  # who tells the truth is not kept out


@pytest.mark.usefixtures("database_url")
def test_nobody_waits_for_a_file_that_is_put_together(
    world: World, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More completions of one file than there are threads: the service answers all the same, and both clients succeed."""
    declared = world.owner.done("POST", "/v1/files", json=manifest(material.parts[0], "images"))
    for index, piece in enumerate(split(material.parts[0].read_bytes())):
        world.owner.done("PUT", f"/v1/files/{declared['file_id']}/pieces/{index}", content=piece)
    begun, go_on, assemble = threading.Event(), threading.Event(), Store.assemble

    def slowly(*arguments: Any) -> str:
        begun.set()
        assert go_on.wait(20)
        return assemble(*arguments)

    monkeypatch.setattr(Store, "assemble", slowly)
    path = f"/v1/files/{declared['file_id']}/complete"
    with ThreadPoolExecutor(50) as pool:
        first = pool.submit(world.owner.ask, "POST", path)
        assert begun.wait(20)
        busy = [pool.submit(world.owner.ask, "POST", path).result(5) for _ in range(45)]
        with cl.connect(str(world.http.base_url), world.secret) as patient:
            waiting = pool.submit(patient.upload, material.parts[0])
            assert world.http.get("/healthz", timeout=5).is_success
            assert not waiting.done()
            go_on.set()
            assert waiting.result(20).id == first.result(20).json()["file_id"] == declared["file_id"]
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in busy} == {(503, "1")}
    refused(busy[0], 503, "Busy")


def test_an_upload_that_goes_on_is_not_forgotten(world: World, material: Material) -> None:
    file_id = world.owner.done("POST", "/v1/files", json=manifest(material.keys, "evaluation_keys"))["file_id"]
    first, second = split(material.keys.read_bytes())[:2]

    def touched(after: float) -> bool:
        """Whether a piece moves the time of an upload that was touched so many seconds ago."""
        before = time.time() - after
        with world.database.writing() as session:
            session.get_one(File, file_id).touched = before
        for index, piece in enumerate((first, second)):
            world.owner.done("PUT", f"/v1/files/{file_id}/pieces/{index}", content=piece)
        with world.database.reading() as session:
            return session.get_one(File, file_id).touched > before

    assert touched(after=4000)
    assert not touched(after=1000)  # pieces are many, and each would be a write


@pytest.mark.usefixtures("database_url")
def test_the_view_of_many_files(world: World, material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file at a time is open, and no name is read."""
    ids = [world.owner.upload(part) for part in material.parts]
    dataset = world.owner.done("POST", "/v1/datasets", json={"file_ids": ids})["dataset_id"]
    seen, read = [], Reader.read

    def noted(self: Reader, name: str, *span: Any) -> Any:
        targets = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        seen.append((name, sum(target.startswith(str(world.data / "tenants")) for target in targets)))
        return read(self, name, *span)

    with monkeypatch.context() as patched:
        patched.setattr(Reader, "read", noted)
        view = world.owner.done("GET", f"/v1/datasets/{dataset}/view")
    assert seen == [("labels", 2)] * 2  # held and read: two descriptors
    assert (view["images"], view["classes"], view["files"]) == (512, [256, 256], 2)
    assert view["names"] == sum(len(EncryptedImages.load(part).names) for part in material.parts)


# ---- deletion, and what a crash leaves ------------------------------------------------------------------------------


@pytest.mark.usefixtures("database_url")
def test_deleting_what_nobody_needs(world: World, material: Material) -> None:
    file_id = world.owner.upload(material.parts[0])
    dataset = world.owner.done("POST", "/v1/datasets", json={"file_ids": [file_id]})["dataset_id"]
    refused(world.owner.ask("DELETE", f"/v1/files/{file_id}"), 409, "Conflict")
    world.owner.done("DELETE", f"/v1/datasets/{dataset}")
    world.owner.done("DELETE", f"/v1/files/{file_id}")
    assert world.on_disk("files") == []
    refused(world.owner.ask("DELETE", f"/v1/files/{file_id}"), 404, "NotFound")
    half = world.owner.done("POST", "/v1/files", json=manifest(material.parts[0], "images"))["file_id"]
    world.owner.done("PUT", f"/v1/files/{half}/pieces/0", content=split(material.parts[0].read_bytes())[0])
    world.owner.done("DELETE", f"/v1/files/{half}")
    assert world.on_disk("pieces") == []


@pytest.mark.usefixtures("database_url")
def test_datasets_hold_one_task_and_key(world: World, material: Material) -> None:
    ours, other = world.owner.upload(material.parts[0]), world.owner.upload(material.foreign)
    query = world.owner.upload(material.query)
    refused(world.owner.ask("POST", "/v1/datasets", json={"file_ids": [ours, other]}), 422, "KeyMismatch")
    refused(world.owner.ask("POST", "/v1/datasets", json={"file_ids": [query]}), 422, "InputError")
    refused(world.owner.ask("POST", "/v1/datasets", json={"file_ids": [ours, ours]}), 409, "Conflict")
    again = [
        world.owner.done("POST", "/v1/datasets", json={"file_ids": [ours]}, headers={"Idempotency-Key": "one"})
        for _ in range(2)
    ]
    assert again[0] == again[1]
    clash = world.owner.ask("POST", "/v1/datasets", json={"file_ids": [other]}, headers={"Idempotency-Key": "one"})
    refused(clash, 409, "Conflict")


@pytest.mark.usefixtures("database_url")
def test_the_sweep_removes_only_what_belongs_to_nothing(world: World, material: Material) -> None:
    file_id = world.owner.upload(material.parts[0])
    half = world.owner.done("POST", "/v1/files", json=manifest(material.parts[1], "images"))["file_id"]
    pieces = split(material.parts[1].read_bytes())
    world.owner.done("PUT", f"/v1/files/{half}/pieces/0", content=pieces[0])
    store, jobs = Store(world.data), Jobs(world.database, Store(world.data), 10)
    tenant = next((world.data / "tenants").iterdir())
    litter = [
        tenant / "files" / f"{'a' * 32}.cl", tenant / "files" / ".x.cl.0123.part", tenant / "checkpoints" / "b.sums",
        tenant / "pieces" / "owner" / "cc" / ("c" * 64),
    ]  # fmt: skip
    for path in litter:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    sweeper = Sweeper(world.database, store, jobs, Settings(data=world.data))
    sweeper.look()  # others may be at work: what is young may be theirs
    assert [path for path in litter if path.exists()] == litter[:3]
    sweeper.start()
    assert [path for path in litter if path.exists()] == []
    assert world.owner.download(file_id) == material.parts[0].read_bytes()
    announced = world.owner.done("POST", "/v1/files", json=manifest(material.parts[1], "images"))
    assert 0 not in announced["missing"]
    with world.database.writing() as session:
        session.get_one(File, half).touched = 0.0
    sweeper.hurry()
    sweeper.look()
    assert world.on_disk("pieces") == []
    refused(world.owner.ask("GET", f"/v1/files/{half}/info"), 404, "NotFound")


def test_a_damaged_piece_is_asked_for_again(world: World, material: Material) -> None:
    declared = world.owner.done("POST", "/v1/files", json=manifest(material.parts[0], "images"))
    for index, piece in enumerate(split(material.parts[0].read_bytes())):
        world.owner.done("PUT", f"/v1/files/{declared['file_id']}/pieces/{index}", content=piece)
    stored = world.on_disk("pieces")[0]
    stored.write_bytes(os.urandom(100))
    refused(world.owner.ask("POST", f"/v1/files/{declared['file_id']}/complete"), 409, "Incomplete")
    assert world.owner.upload(material.parts[0]) == declared["file_id"]
