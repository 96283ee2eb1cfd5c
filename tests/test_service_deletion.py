"""Deletion: what goes together, that its bytes are gone, and the receipts for it."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from service_world import Material, Owner, client, in_process, make_material, manifest, serving, split, token
from structlog.testing import capture_logs

import cipherlens as cl
from cipherlens.cli.main import main
from cipherlens.errors import FormatError, SecurityError, ServerError
from cipherlens.service.audit import CURRENT, Audit
from cipherlens.service.database import Database, Deletion, File, Job, Tenant
from cipherlens.service.deletion import Deletions
from cipherlens.service.identity import Identity
from cipherlens.service.jobs import Jobs
from cipherlens.service.pieces import Store
from cipherlens.service.settings import Settings
from cipherlens.service.sweep import Sweeper
from cipherlens.service.tokens import Caller
from cipherlens.service.worker import Worker
from cipherlens.wire.receipt import Deleted, Receipt, SignedReceipt, public_pem, read_public_key


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(tmp_path_factory.mktemp("material") / "files", images=512)


@dataclass
class World:
    """A service without workers in this process; `work` does one job."""

    settings: Settings
    database: Database
    http: Any
    owner: Owner
    stranger: Owner

    def work(self) -> None:
        jobs = Jobs(self.database, Store(self.settings.data), self.settings.lease_seconds)
        claim = jobs.claim("w")
        assert claim is not None
        Worker(self.settings, "w", self.database).work(claim)

    @property
    def sweeper(self) -> Sweeper:
        store = Store(self.settings.data)
        return Sweeper(self.database, store, Jobs(self.database, store, 10), self.settings)

    @property
    def deletions(self) -> Deletions:
        data = self.settings.data
        return Deletions(self.database, Store(data), Identity.open(data), Audit(data))

    @property
    def tenant(self) -> str:
        with self.database.reading() as session:
            return session.query(Tenant).filter(Tenant.name == "clinic").one().id

    def on_disk(self) -> set[str]:
        return {path.stem for path in self.settings.data.glob("tenants/**/*") if path.is_file()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    data = tmp_path / "data"
    owner, stranger = token(data), token(data, "rival")
    settings, database = Settings(data=data), Database(data)
    with in_process(settings, database) as http:
        yield World(settings, database, http, Owner(http, owner), Owner(http, stranger))
    database.close()


@dataclass
class Ids:
    """Everything of an owner that has trained and classified, and has queued another classification."""

    files: list[str]
    keys: str
    query: str
    dataset: str
    model: str
    reply: str
    jobs: list[str]


def used(world: World, material: Material) -> Ids:
    files = [world.owner.upload(part) for part in material.parts]
    keys, query = world.owner.upload(material.keys, "evaluation_keys"), world.owner.upload(material.query)
    dataset = world.owner.done("POST", "/v1/datasets", json={"file_ids": files})["dataset_id"]
    training = world.owner.submit("t", kind="train", dataset_id=dataset, keys_file_id=keys)
    world.work()
    model = world.owner.wait(training)["result_file_id"]
    recipe = {"kind": "classify", "model_file_id": model, "query_file_id": query, "keys_file_id": keys}
    classifying = world.owner.submit("c", **recipe)
    world.work()
    reply = world.owner.wait(classifying)["result_file_id"]
    return Ids(
        files, keys, query, dataset, model, reply, [training, classifying, world.owner.submit("later", **recipe)]
    )


def plan(owner: Owner, kind: str, id: str) -> Any:
    return owner.done("POST", "/v1/deletions/plan", json={"kind": kind, "id": id})


def order(owner: Owner, kind: str, id: str) -> Any:
    """Delete what the plan shows; the checked receipt."""
    shown = plan(owner, kind, id)
    body = {"kind": kind, "id": id, "plan_sha256": shown["plan_sha256"]}
    signed = SignedReceipt.from_dict(owner.done("POST", "/v1/deletions", json=body))
    signed.verify(read_public_key(owner.http.get("/v1/identity").json()["public_key"].encode()))
    assert [vars(thing) for thing in signed.receipt.objects] == shown["objects"]
    return signed.receipt


def ids(receipt: Receipt) -> set[str]:
    return {thing.id for thing in receipt.objects}


def refused(answer: Any, status: int, kind: str) -> None:
    assert (answer.status_code, answer.json()["error"]["kind"]) == (status, kind), answer.text


# ---- what goes together ----------------------------------------------------------------------------------------------


def test_a_data_set_goes_with_everything_made_of_it(world: World, material: Material) -> None:
    have = used(world, material)
    shown = plan(world.owner, "data_set", have.dataset)
    assert shown["unfinished"] == have.jobs[2:]
    assert shown["size"] == sum(p.stat().st_size for p in material.parts) + len(material.model) + len(material.reply)
    receipt = order(world.owner, "data_set", have.dataset)
    assert ids(receipt) == {*have.files, have.dataset, have.model, have.reply, *have.jobs}
    assert world.on_disk() == {have.keys, have.query}
    for path in (
        f"datasets/{have.dataset}",
        f"files/{have.model}",
        f"files/{have.reply}",
        *(f"jobs/{j}" for j in have.jobs),
    ):
        refused(world.owner.ask("GET", f"/v1/{path}"), 404, "NotFound")
    assert {f["file_id"] for f in world.owner.done("GET", "/v1/files")["files"]} == {have.keys, have.query}
    assert world.owner.done("GET", "/v1/usage")["unfinished_jobs"] == 0


def test_a_key_goes_with_everything_under_it(world: World, material: Material) -> None:
    have = used(world, material)
    foreign = world.owner.upload(material.foreign)
    half = world.owner.done("POST", "/v1/files", json=manifest(material.parts[0], "images") | {"sha256": "0" * 64})
    world.owner.done("PUT", f"/v1/files/{half['file_id']}/pieces/0", content=split(material.parts[0].read_bytes())[0])
    key = world.owner.done("GET", f"/v1/files/{have.keys}/info")["key_id"]
    refused(world.stranger.ask("POST", "/v1/deletions/plan", json={"kind": "key", "id": key}), 404, "NotFound")
    receipt = order(world.owner, "key", key)
    assert {have.keys, have.query, have.model, have.dataset, half["file_id"]} <= ids(receipt)
    assert {thing.kind for thing in receipt.objects if thing.id == half["file_id"]} == {"upload"}
    assert world.on_disk() == {foreign}  # also the piece of the upload is gone


def test_other_data_sets_lose_a_file_and_stay(world: World, material: Material) -> None:
    first, second = (world.owner.upload(part) for part in material.parts)
    both = world.owner.done("POST", "/v1/datasets", json={"file_ids": [first, second]})["dataset_id"]
    alone = world.owner.done("POST", "/v1/datasets", json={"file_ids": [first]})["dataset_id"]
    assert plan(world.owner, "file", first)["shrunk"] == [both]
    assert ids(order(world.owner, "file", first)) == {first, alone}
    assert world.owner.done("GET", f"/v1/datasets/{both}")["file_ids"] == [second]


def test_what_contributors_have_begun_goes_with_the_data_set(world: World, material: Material) -> None:
    first = world.owner.upload(material.parts[0])
    dataset = world.owner.done("POST", "/v1/datasets", json={"file_ids": [first]})["dataset_id"]
    contributor = Owner(world.http, token(world.settings.data, dataset=dataset))
    given = contributor.upload(material.parts[1])
    refused(contributor.ask("POST", "/v1/deletions/plan", json={"kind": "file", "id": given}), 404, "NotFound")
    assert ids(order(world.owner, "data_set", dataset)) == {first, given, dataset}
    assert world.on_disk() == set()


def test_nothing_goes_that_was_not_shown(world: World, material: Material) -> None:
    first = world.owner.upload(material.parts[0])
    dataset = world.owner.done("POST", "/v1/datasets", json={"file_ids": [first]})["dataset_id"]
    body = {"kind": "data_set", "id": dataset, "plan_sha256": plan(world.owner, "data_set", dataset)["plan_sha256"]}
    second = world.owner.upload(material.parts[1])
    world.owner.done("POST", f"/v1/datasets/{dataset}/append", json={"file_id": second})
    refused(world.owner.ask("POST", "/v1/deletions", json=body), 409, "Conflict")
    assert world.on_disk() == {first, second}
    for wrong in (body | {"plan_sha256": "0" * 63}, body | {"kind": "tenant"}, body | {"id": "../x"}, {}):
        refused(world.owner.ask("POST", "/v1/deletions", json=wrong), 422, "Invalid")
    refused(world.stranger.ask("POST", "/v1/deletions", json=body), 404, "NotFound")


def test_a_job_in_hand_is_stopped(tmp_path: Path, material: Material) -> None:
    data = tmp_path / "data"
    with serving(data, checkpoint_seconds=0.0) as running, client(running.url, token(data)) as owner:
        files = [owner.upload(part) for part in material.parts]
        keys = owner.upload(material.keys, "evaluation_keys")
        dataset = owner.done("POST", "/v1/datasets", json={"file_ids": files})["dataset_id"]
        job = owner.submit("t", kind="train", dataset_id=dataset, keys_file_id=keys)
        while owner.done("GET", f"/v1/jobs/{job}")["state"] == "queued":
            time.sleep(0.01)
        assert job in ids(order(owner, "data_set", dataset))
        deadline = time.monotonic() + 30
        while '"event": "job ends"' not in running.log():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        left = {path.stem for path in data.glob("tenants/**/*") if path.is_file()}
        assert left == {keys}
        assert running.stop() == 0
    assert '"event": "defect"' not in running.log()


# ---- receipts --------------------------------------------------------------------------------------------------------


def test_receipts_stay_and_say_nothing_private(world: World, material: Material) -> None:
    file_id = world.owner.upload(material.parts[0])
    dataset = world.owner.done("POST", "/v1/datasets", json={"file_ids": [file_id]})["dataset_id"]
    body = {"kind": "data_set", "id": dataset, "plan_sha256": plan(world.owner, "data_set", dataset)["plan_sha256"]}
    first = world.owner.done("POST", "/v1/deletions", json=body)
    assert world.owner.done("POST", "/v1/deletions", json=body) == first  # the answer to the first may have been lost
    listed = world.owner.done("GET", "/v1/deletions")["receipts"]
    assert [r["receipt_id"] for r in listed] == [first["receipt"]["id"]]
    assert listed[0]["erased"] is not None
    path = f"/v1/deletions/{first['receipt']['id']}"
    assert world.owner.done("GET", path) == first
    refused(world.stranger.ask("GET", path), 404, "NotFound")
    assert world.stranger.done("GET", "/v1/deletions") == {"receipts": [], "next": None}
    again = world.owner.upload(material.parts[0])  # the same bytes once more are another file
    gone = world.owner.ask("DELETE", f"/v1/files/{again}")
    assert world.owner.done("GET", f"/v1/deletions/{gone.headers['receipt']}")["receipt"]["objects"][0]["id"] == again
    assert "clinic" not in json.dumps(first)


def test_receipts_are_checked() -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    service = Identity(key).info.service
    things = (Deleted("images", "a" * 32, "b" * 64, 7), Deleted("job", "c" * 32))
    signed = Identity(key).sign(Receipt("0" * 32, service, "1" * 32, "request", 1, 2, things))
    assert SignedReceipt.from_bytes(signed.to_bytes()) == signed
    signed.verify(read_public_key(public_pem(key.public_key()).encode()))
    with pytest.raises(SecurityError, match="use its key"):
        signed.verify(other.public_key())
    text = signed.to_bytes()
    for before, after in (
        (b'"size":7', b'"size":8'),
        (b'"erased":2', b'"erased":3'),
        (b'"reason":"request"', b'"reason":"retention"'),
    ):
        with pytest.raises(SecurityError, match="altered"):
            SignedReceipt.from_bytes(text.replace(before, after)).verify(key.public_key())
    for before, after in (
        (b'"size":7', b'"size":-1'), (b'"size":7', b'"size":null'), (b'"format":1', b'"format":2'), (b'"erased":2', b'"erased":2.0'),
        (b'"kind":"images"', b'"kind":"cats"'), (b'"reason"', b'"more":1,"reason"'), (b'"objects":[', b'"objects":[1,'),
        (b'{', b''),
    ):  # fmt: skip
        with pytest.raises(FormatError):
            SignedReceipt.from_bytes(text.replace(before, after, 1))


def test_the_key_is_the_operators_alone_and_stays(world: World) -> None:
    path = world.settings.data / "identity.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert Identity.open(world.settings.data).info.model_dump() == world.http.get("/v1/identity").json()
    assert b"PRIVATE" not in world.http.get("/v1/identity").content


# ---- crashes and limits ----------------------------------------------------------------------------------------------


def test_a_crash_before_the_bytes_are_gone(world: World, material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    file_id = world.owner.upload(material.parts[0])
    body = {"kind": "file", "id": file_id, "plan_sha256": plan(world.owner, "file", file_id)["plan_sha256"]}
    with monkeypatch.context() as patch:
        patch.setattr(Deletions, "_erase", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        assert world.owner.ask("POST", "/v1/deletions", json=body).status_code == 500
    refused(world.owner.ask("GET", f"/v1/files/{file_id}"), 404, "NotFound")
    assert world.on_disk() == {file_id}
    assert world.owner.done("GET", "/v1/deletions")["receipts"][0]["erased"] is None  # and no receipt yet
    world.sweeper.look()
    assert world.on_disk() == set()
    assert world.owner.done("GET", "/v1/deletions")["receipts"][0]["erased"] is not None
    assert (
        SignedReceipt.from_dict(world.owner.done("POST", "/v1/deletions", json=body)).receipt.objects[0].id == file_id
    )


def age(world: World, *file_ids: str, days: float) -> None:
    with world.database.writing() as session:
        for file_id in file_ids:
            session.get_one(File, file_id).created -= days * 86400


def test_what_is_over_its_time_goes_with_everything_made_of_it(world: World, material: Material) -> None:
    have = used(world, material)
    theirs = world.stranger.upload(material.parts[0])
    age(world, have.files[0], have.keys, theirs, days=31)
    with world.database.writing() as session:
        session.query(Tenant).filter(Tenant.name == "clinic").one().retention_days = 30
    world.sweeper.look()
    assert world.on_disk() == {have.files[1], have.keys, have.query, theirs}  # the keys still serve the others
    receipts = world.owner.done("GET", "/v1/deletions")["receipts"]
    assert [(r["reason"], r["objects"]) for r in receipts] == [("retention", 6)]
    age(world, have.files[1], have.query, days=31)
    world.sweeper.look()
    assert world.on_disk() == {theirs}
    assert world.stranger.done("GET", "/v1/deletions") == {"receipts": [], "next": None}
    world.settings = Settings(data=world.settings.data, retention_days=30)
    world.sweeper.look()
    assert world.on_disk() == set()
    world.sweeper.look()
    assert len(world.stranger.done("GET", "/v1/deletions")["receipts"]) == 1


def test_a_crash_loses_no_record_of_a_deletion(
    world: World, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of a retention nor of a request whose answer, and with it the record, did not come to be."""
    old, young = (world.owner.upload(part) for part in material.parts)
    age(world, old, days=31)
    world.settings = Settings(data=world.settings.data, retention_days=30)
    with monkeypatch.context() as patch, capture_logs():
        patch.setattr(Deletions, "_erase", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        world.sweeper.look()
        with pytest.raises(RuntimeError):
            caller = Caller(world.tenant, "0" * 32, None, None)
            world.deletions.delete_file(caller, young)
    world.sweeper.look()
    listed = {r["receipt_id"]: r["reason"] for r in world.owner.done("GET", "/v1/deletions")["receipts"]}
    records = [json.loads(line) for line in (world.settings.data / CURRENT).read_text().splitlines()]
    found = {r["object"]: r["action"] for r in records if r["action"] in ("deletion", "retention")}
    assert sorted(listed.values()) == ["request", "retention"]
    assert found == {receipt: {"request": "deletion"}.get(reason, reason) for receipt, reason in listed.items()}


def test_the_service_enforces_its_limit(tmp_path: Path, material: Material) -> None:
    data = tmp_path / "data"
    settings = {"retention_days": 2.5 / 86400, "sweep_seconds": 0.2}
    with serving(data, **settings) as running, client(running.url, token(data)) as owner:
        owner.upload(material.parts[0])
        deadline = time.monotonic() + 20
        while not (listed := owner.done("GET", "/v1/deletions")["receipts"]) or listed[0]["erased"] is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert [path for path in data.glob("tenants/**/*") if path.is_file()] == []


def test_rows_are_gone_from_the_database_files(world: World, material: Material) -> None:
    file_id = world.owner.upload(material.parts[0])
    dataset = world.owner.done(
        "POST", "/v1/datasets", json={"file_ids": [file_id]}, headers={"Idempotency-Key": "xyzzy-plugh"}
    )
    order(world.owner, "data_set", dataset["dataset_id"])
    content = b"".join(path.read_bytes() for path in world.settings.data.glob("service.sqlite3*"))
    assert b"xyzzy-plugh" not in content
    with world.database.reading() as session:
        assert session.query(Deletion).count() == 1
        assert session.query(Job).count() == 0


# ---- the owner's side ------------------------------------------------------------------------------------------------


def test_the_client_and_the_commands(
    world: World, material: Material, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    text = token(world.settings.data)
    url = str(world.http.base_url)
    with cl.connect(url, text) as server:
        files = [server.upload(part) for part in material.parts]
        server.upload_keys(material.keys)
        data_set = server.create_data_set(files)
        shown = server.plan_deletion(data_set=data_set)
        assert (len(shown.objects), shown.size) == (3, sum(f.size for f in files))
        receipt = server.erase(shown).receipt
        assert server.receipt(receipt.id).receipt == receipt
        assert [deletion.id for deletion in server.deletions()] == [receipt.id]
        server.upload(material.parts[0])
        assert (server.usage().retention_days, server.data_sets()) == (None, [])
    monkeypatch.chdir(tmp_path)
    Path("token").write_text(text)
    remote = ("--server", url, "--token-file", "token")

    def run(*arguments: str, status: int = 0) -> str:
        assert main(arguments) == status
        said = capsys.readouterr()
        return said.out + said.err

    assert "evaluation keys" in run("stored", *remote)
    for answer in (io.StringIO("n\n"), io.StringIO(), None):
        monkeypatch.setattr(sys, "stdin", answer)
        said = run("delete", "--data", str(material.parts[0]), *remote, status=1)
        assert "nothing was deleted" in said and "defect" not in said

    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(readline=interrupted))
    with pytest.raises(SystemExit, match="130"):
        main(("delete", "--data", str(material.parts[0]), *remote))
    assert "interrupted" in capsys.readouterr().err
    assert world.owner.done("GET", "/v1/usage")["stored"].keys() == {"images", "evaluation_keys"}
    said = run("delete", "--data", str(material.parts[0]), "--yes", "--receipt", "r.json", *remote)
    assert "will go: 1 image file" in said
    assert "no file with the bytes" in run("delete", "--data", str(material.parts[0]), "--yes", *remote, status=1)
    run("delete", "--evaluation-keys", str(material.keys), "--yes", *remote)
    assert world.on_disk() == set()
    assert "request" in run("receipt", "list", *remote)
    run("receipt", "key", "--out", "key.pem", *remote)
    assert "genuine: 1 object" in run("receipt", "verify", "r.json", "--server-key", "key.pem")
    assert "genuine" in run("receipt", "verify", "r.json", *remote)
    run("receipt", "fetch", receipt.id, "--out", "copy.json", *remote)
    assert "genuine: 3 objects" in run("receipt", "verify", "copy.json", "--server-key", "key.pem")
    altered = Path("r.json").read_bytes().replace(b'"size":', b'"size":1')
    Path("r.json").write_bytes(altered)
    assert "altered" in run("receipt", "verify", "r.json", "--server-key", "key.pem", status=1)
    assert "no public key" in run("receipt", "verify", "copy.json", "--server-key", "r.json", status=1)
    assert "one thing" in run("delete", "--yes", *remote, status=1)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("deletions", {"receipts": [{"receipt_id": "x"}]}),
        ("deletions", {"receipts": [{"receipt_id": "0" * 32, "objects": "many", "size": 1, "requested": 1}]}),
        ("data_sets", {"datasets": [{"dataset_id": "0" * 32, "images": -1, "file_ids": []}]}),
        ("data_sets", {"datasets": [{"dataset_id": "\x1b[2J", "images": 1, "file_ids": []}]}),
        ("usage", {"stored": {"images": 1e300}}),
        ("usage", {"stored": []}),
        ("files", {"files": [{"state": "ready", "file_id": "../x"}]}),
        ("service_key", {"public_key": "-----BEGIN"}),
    ],
)
def test_answers_that_are_none(path: str, answer: dict[str, Any]) -> None:
    server = cl.connect("http://localhost:1", "clt_x")
    server._http.json = lambda *_, **__: answer  # type: ignore[method-assign]
    with server, pytest.raises(ServerError):
        getattr(server, path)()
