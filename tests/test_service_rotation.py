"""A data set goes over to its owner's new key on the service: whole or not at all, and nothing is left of the way."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from rotation_world import Bench, World, look, make_world, mark, somewhere
from service_world import Owner, Service, client, rows, serving, token
from sqlalchemy import select, update

import cipherlens as cl
from cipherlens.cli.main import main
from cipherlens.client.connection import Connection
from cipherlens.errors import KeyMismatch, ServerError
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.owner.keys import Keys
from cipherlens.service import switching
from cipherlens.service.audit import CURRENT
from cipherlens.service.database import NAME, File, Tenant
from cipherlens.service.errors import NotFound, QuotaExceeded
from cipherlens.service.jobs import MOST_DEATHS
from cipherlens.wire.key_change import write_key_change

# ---- a real service -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service") / "data") as running:
        yield running


@contextmanager
def connected(service: Service, tenant: str) -> Iterator[tuple[Connection, Owner]]:
    """The library's client and a plain one, of one tenant."""
    secret = token(service.data, tenant)
    with cl.connect(service.url, secret) as connection, client(service.url, secret) as owner:
        yield connection, owner


def test_a_data_set_goes_over_and_work_goes_on(service: Service, world: World) -> None:
    """The owner's images and a contributor's; afterwards neither the old files nor the switching key are there."""
    with connected(service, "whole") as (connection, owner):
        data_set = connection.create_data_set([connection.upload(world.parts[0])])
        with cl.connect(service.url, token(service.data, "whole", data_set)) as contributor:
            contributor.append(data_set, world.parts[1])
        before = look(owner, data_set)
        assert connection.rotate(data_set, world.key) == world.new_id
        after = look(owner, data_set)
        assert (after["key_id"], after["images"]) == (world.new_id, before["images"])
        assert [owner.download(file_id) for file_id in after["file_ids"]] == list(world.switched[:2])
        assert {owner.ask("GET", f"/v1/files/{i}/info").status_code for i in before["file_ids"]} == {404}
        for gone in (world.key, *world.parts[:2]):
            assert somewhere(service.data, mark(gone)) == []
        [told] = connection.deletions()
        receipt = connection.receipt(told.id).receipt
        assert receipt.reason == "rotation" and {thing.id for thing in receipt.objects} == set(before["file_ids"])
        assert connection.rotate(data_set, world.change) == world.new_id  # asks once, and sends nothing
        assert [job.kind for job in connection.jobs()] == ["switch"]
        assert somewhere(service.data, mark(world.key)) == []

        keys_file = connection.upload_keys(world.new.evaluation)
        trained = owner.submit("t", kind="train", dataset_id=data_set, keys_file_id=keys_file.id)
        model = connection._end(connection.job(trained), None).result_id
        assert model is not None
        queries, truth = rows(100, 2)
        query = connection.upload(world.new.encrypt(queries))
        classified = owner.submit(
            "c", kind="classify", model_file_id=model, query_file_id=query.id, keys_file_id=keys_file.id
        )
        reply = connection._end(connection.job(classified), None).result_id
        assert reply is not None
        found = service.data.parent / "reply.cl"
        found.write_bytes(owner.download(reply))
    from cipherlens.learning.results import Reply

    answers = world.new.decrypt(Reply.load(found))
    assert sum(a == b for a, b in zip(answers.labels, truth, strict=True)) > 90
    with pytest.raises(KeyMismatch, match="another key"):
        world.old.decrypt(Reply.load(found))


def test_old_files_stay_if_asked_or_needed(service: Service, world: World) -> None:
    with connected(service, "kept") as (connection, owner):
        files = [connection.upload(part) for part in world.parts[:3]]
        kept = connection.create_data_set(files[:1])
        shared = [connection.create_data_set(files[1:]), connection.create_data_set(files[2:])]
        connection.rotate(kept, world.key, keep_old=True)
        assert owner.download(files[0].id) == world.parts[0].read_bytes()
        connection.rotate(shared[0], world.key)
        assert owner.ask("GET", f"/v1/files/{files[1].id}/info").status_code == 404
        assert look(owner, shared[1])["key_id"] == world.old_id
        assert owner.download(files[2].id) == world.parts[2].read_bytes()
        connection.rotate(shared[1], world.key)
        assert owner.ask("GET", f"/v1/files/{files[2].id}/info").status_code == 404
        # Switched twice, it gave the same bytes, and is one file.
        assert look(owner, shared[1])["file_ids"] == look(owner, shared[0])["file_ids"][1:]
        assert somewhere(service.data, mark(world.key)) == []


def test_training_on_a_data_set_that_went_over(service: Service, world: World) -> None:
    """What was trained on before stays fixed; asked again, the data set is trained on under its new key."""
    with connected(service, "fit") as (connection, owner):
        data_set = connection.create_data_set([connection.upload(world.parts[0])])
        with cl.connect(service.url, token(service.data, "fit", data_set)) as contributor:
            contributor.append(data_set, world.parts[1])
        before = connection.fit(connection.data_set(data_set), world.old.evaluation)
        connection.rotate(data_set, world.key)
        with pytest.raises(ServerError, match="several keys"):
            connection.start_fit(connection.data_set(data_set), world.old.evaluation)
        after = connection.fit(connection.data_set(data_set), world.new.evaluation)
        assert after.sha256 != before.sha256
        held = [EncryptedImages.load(service.data.parent / f"{i}.cl") for i in _saved(service, owner, data_set)]
        own = service.data.parent / "own.cl"
        cl.server.train(held, world.new.evaluation).save(own)
        assert owner.download(after.id) == own.read_bytes()


def _saved(service: Service, owner: Owner, data_set: str) -> list[str]:
    """The files of a data set, downloaded beside the service's folder; their ids in order."""
    ids: list[str] = look(owner, data_set)["file_ids"]
    for file_id in ids:
        (service.data.parent / f"{file_id}.cl").write_bytes(owner.download(file_id))
    return ids


def test_contributors_go_on_with_the_new_public_key(service: Service, world: World, tmp_path: Path) -> None:
    with connected(service, "guests") as (connection, owner):
        data_set = connection.create_data_set([connection.upload(world.parts[0])])
        with cl.connect(service.url, token(service.data, "guests", data_set)) as guest:
            connection.rotate(data_set, world.key)
            with pytest.raises(ServerError, match="encrypt with its task"):
                guest.append(data_set, world.parts[1])
            table, labels = rows(64, 5)
            guest.append(data_set, world.new.public.encrypt(table, labels))
        assert look(owner, data_set)["images"] == 256 + 64
        assert not [job for job in connection.jobs() if job.state != "done"]


def test_what_does_not_belong_together_is_refused(service: Service, world: World) -> None:
    with connected(service, "strict") as (connection, owner), connected(service, "stranger") as (stranger, other):
        data_set = connection.create_data_set([connection.upload(world.parts[0])])
        third = Keys.create(world.new.task, threads=2).secrets.secret
        away = third.key_change(world.new.secrets.secret, world.change.level)
        with pytest.raises(KeyMismatch, match="does not lead"):
            connection.rotate(data_set, away)
        with pytest.raises(ServerError, match="no such data set"):
            stranger.rotate(data_set, world.key)
        key_file = owner.upload(world.key, "switching_key")
        recipe = {"kind": "switch", "dataset_id": data_set, "switching_key_file_id": key_file}
        headers = {"Idempotency-Key": "x"}
        assert other.ask("POST", "/v1/jobs", json=recipe, headers=headers).status_code == 404
        assert other.ask("GET", f"/v1/files/{key_file}").status_code == 404
        with client(service.url, token(service.data, "strict", data_set)) as guest:
            assert guest.ask("POST", "/v1/jobs", json=recipe, headers=headers).status_code == 404
        path = world.key.with_name("away.cl")
        write_key_change(path, away)
        answer = owner.ask(
            "POST", "/v1/jobs", headers=headers,
            json=recipe | {"switching_key_file_id": owner.upload(path, "switching_key")},
        )  # fmt: skip
        assert (answer.status_code, answer.json()["error"]["kind"]) == (422, "KeyMismatch")
        wrong_kind = recipe | {"switching_key_file_id": look(owner, data_set)["file_ids"][0]}
        assert owner.ask("POST", "/v1/jobs", json=wrong_kind, headers=headers).status_code == 404
        assert look(owner, data_set)["key_id"] == world.old_id


def test_retiring_the_old_key_takes_everything_under_it_and_nothing_else(service: Service, world: World) -> None:
    with connected(service, "retired") as (connection, owner):
        kept = connection.create_data_set([connection.upload(world.parts[0])])
        left = connection.create_data_set([connection.upload(world.parts[1])])
        connection.upload_keys(world.old.evaluation)
        connection.rotate(kept, world.key, keep_old=True)
        unused = owner.upload(world.key, "switching_key")
        receipt = connection.erase(connection.plan_deletion(key=world.old_id)).receipt
        kinds = sorted(thing.kind for thing in receipt.objects)
        assert kinds == ["data_set", "evaluation_keys", "images", "images", "job", "switching_key"]
        assert owner.ask("GET", f"/v1/datasets/{left}").status_code == 404
        assert owner.ask("GET", f"/v1/files/{unused}/info").status_code == 404
        [file_id] = look(owner, kept)["file_ids"]
        assert owner.download(file_id) == world.switched[0]


def test_the_command(service: Service, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with connected(service, "typed") as (connection, owner):
        files = [connection.upload(part) for part in world.parts[:2]]
        data_set = connection.create_data_set(files)
        connection.create_data_set(files[1:])  # which needs the second one
        (tmp_path / "token").write_text(token(service.data, "typed"))
        key = ("--switching-key", str(world.key))
        there = ("switch", *key, "--server", service.url, "--token-file", str(tmp_path / "token"))
        for wrong in (
            ("switch", *key),
            ("switch", *key, "--data", str(world.parts[0]), "--out", str(tmp_path / "out.cl"), "--keep-old"),
            there,
            (*there, "--data-set", data_set, "--data", str(world.parts[0])),
        ):
            assert main(wrong) == 1
            assert "--data" in capsys.readouterr().err
        assert main((*there, "--data-set", data_set, "--json")) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["key_id"] == world.new_id == look(owner, data_set)["key_id"]
        assert (said["old_files_deleted"], said["old_files_kept"]) == (1, 1)
        assert owner.ask("GET", f"/v1/files/{files[0].id}/info").status_code == 404
        assert owner.download(files[1].id) == world.parts[1].read_bytes()
        assert main((*there, "--data-set", data_set)) == 0
        assert "it was under that key already" in capsys.readouterr().out


def test_a_service_that_is_killed_goes_on(service: Service, world: World) -> None:
    """kill -9 of everything while the job is queued or running, and a start: the owner notices a pause."""
    secret = token(service.data, "killed")
    with client(service.url, secret, patience=60) as owner:
        files = [owner.upload(part) for part in world.parts]
        data_set = owner.done("POST", "/v1/datasets", json={"file_ids": files})["dataset_id"]
        key = owner.upload(world.key, "switching_key")
        job = owner.submit("switch", kind="switch", dataset_id=data_set, switching_key_file_id=key)
        service.kill("all")
        service.start()
        assert owner.wait(job)["state"] == "done"
        assert [owner.download(file_id) for file_id in look(owner, data_set)["file_ids"]] == list(world.switched)
        assert f"{key}.cl" not in somewhere(service.data, mark(world.key))


# ---- one job by hand ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("rotation"))


@pytest.fixture
def bench(tmp_path: Path, world: World) -> Iterator[Bench]:
    made = Bench(tmp_path, world)
    yield made
    made.database.close()


CRASHES = {
    "in the middle of the first file": ("cipherlens.server.switching.pack_ciphertext", 1, False),
    "in the second file": ("cipherlens.server.switching.pack_ciphertext", 2, True),
    "before the results are listed": ("os.link", 1, True),
    "when one of them is listed": ("os.link", 2, False),
    "when the switching key is gone and nothing counts yet": ("cipherlens.service.pieces.Store.sync", 1, True),
    "when all counts and old files are still there": ("cipherlens.service.deletion.Deletions._erase", 1, True),
}
"""Where a worker dies: in which call of which function, and whether the whole service is started again then."""

DIE = """
import os, sys
from pathlib import Path
from pydoc import locate
from cipherlens.service.audit import Audit
from cipherlens.service.database import Database
from cipherlens.service.deletion import Deletions
from cipherlens.service.identity import Identity
from cipherlens.service.jobs import Jobs
from cipherlens.service.pieces import Store
from cipherlens.service.switching import Switching

data, name, left = Path(sys.argv[1]), sys.argv[2], [int(sys.argv[3])]
where, _, attribute = name.rpartition(".")
owner = locate(where)
original = getattr(owner, attribute)

def dying(*args, **kwargs):
    left[0] -= 1
    if left[0] == 0:
        os._exit(9)
    return original(*args, **kwargs)

database, store = Database(data), Store(data)
jobs = Jobs(database, store, 10.0)
claim = jobs.claim("worker-0")
setattr(owner, attribute, dying)
deletions = Deletions(database, store, Identity.open(data), Audit(data))
Switching(database, store, jobs, deletions, 1).run(claim, lambda stage, share: None)
"""
"""A worker that ends without a word, as by kill -9, in a call of a function."""


@pytest.mark.parametrize("place", CRASHES)
def test_a_worker_that_dies_loses_nothing(bench: Bench, world: World, place: str) -> None:
    """Another goes on, at once or after a restart: in the end the same bytes, and nothing is left of the way."""
    name, call, restarted = CRASHES[place]
    dead = subprocess.run([sys.executable, "-c", DIE, str(bench.data), name, str(call)], timeout=60, check=False)
    assert dead.returncode == 9
    old, new = [part.read_bytes() for part in world.parts[:2]], list(world.switched[:2])
    found = bench.state()
    assert found in (("running", world.old_id, old), ("done", world.new_id, new))
    if restarted:
        bench.tidy()
    else:
        bench.jobs.bury("worker", "worker-0")
    if found[0] == "running":
        assert bench.work(bench.claim())
    bench.tidy()
    assert bench.state() == ("done", world.new_id, new)
    with bench.owner() as owner:
        assert bench.there() == set(look(owner, bench.data_set)["file_ids"])
    for gone in (world.key, *world.parts[:2]):
        assert somewhere(bench.data, mark(gone)) == []


def test_what_is_switched_already_is_not_switched_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    original = switching.switch_images

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs["path"].name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(switching, "switch_images", counted)
    with pytest.raises(KeyboardInterrupt):
        bench.work(bench.claim())
    bench.jobs.bury("worker", "worker-1")
    assert bench.work(bench.claim())
    assert calls == [f"{bench.files[0]}.cl", f"{bench.files[1]}.cl", f"{bench.files[1]}.cl"]


def test_the_deletion_of_old_files_is_recorded(bench: Bench) -> None:
    assert bench.work(bench.claim())
    with bench.owner() as owner:
        (receipt,) = owner.done("GET", "/v1/deletions")["receipts"]
    records = [json.loads(line) for line in (bench.data / CURRENT).read_text().splitlines()]
    assert [r["object"] for r in records if r["action"] == "rotation"] == [receipt["receipt_id"]]


def test_a_backup_holds_what_its_database_names(bench: Bench, tmp_path: Path) -> None:
    """As docs/operations.md tells: files, database, files again, though a switch ends in between."""
    backup = tmp_path / "backup"
    shutil.copytree(bench.data / "tenants", backup / "tenants")
    with closing(sqlite3.connect(bench.data / NAME)) as source, closing(sqlite3.connect(backup / NAME)) as copy:
        source.backup(copy)
    assert bench.work(bench.claim())
    shutil.copytree(bench.data / "tenants", backup / "tenants", dirs_exist_ok=True)
    with closing(sqlite3.connect(backup / NAME)) as copy:
        named = {row[0] for row in copy.execute("SELECT id FROM files")}
    assert named == {*bench.files, bench.key}
    assert named <= {path.stem for path in backup.glob("tenants/*/files/*")}


def test_files_that_arrive_meanwhile_are_switched_too(bench: Bench, world: World) -> None:
    added: list[str] = []

    def append(stage: str, share: float) -> None:
        if not added:
            with bench.owner() as owner:
                added.append(owner.upload(world.parts[2]))
                owner.done("POST", f"/v1/datasets/{bench.data_set}/append", json={"file_id": added[0]})

    assert bench.work(bench.claim(), append)
    assert bench.state() == ("done", world.new_id, list(world.switched[:3]))


def test_a_cancelled_job_changes_nothing_and_takes_the_key_along(bench: Bench, world: World) -> None:
    def cancel(stage: str, share: float) -> None:
        with bench.owner() as owner:
            owner.done("POST", f"/v1/jobs/{bench.job}/cancel")

    assert not bench.work(bench.claim(), cancel)
    state, key_id, files = bench.state()
    assert (state, key_id) == ("cancelled", world.old_id)
    assert files == [part.read_bytes() for part in world.parts[:2]]
    assert somewhere(bench.data, mark(world.key)) == []
    with bench.owner() as owner:  # it can be asked for again
        bench.submit(owner, "again")
    assert bench.work(bench.claim())
    assert bench.state()[:2] == ("done", world.new_id)


@pytest.mark.parametrize("how", ["cancelled", "failed", "given up"])
def test_however_a_job_ends_its_switching_key_goes(bench: Bench, world: World, how: str) -> None:
    if how == "cancelled":
        with bench.owner() as owner:
            owner.done("POST", f"/v1/jobs/{bench.job}/cancel")
    elif how == "failed":
        bench.jobs.fail(bench.claim(), "FormatError", "no")
    else:
        for _ in range(MOST_DEATHS):
            bench.claim()
            bench.jobs.bury("worker", "worker-1")
    state, key_id, _ = bench.state()
    assert (state, key_id) == ("failed" if how == "given up" else how, world.old_id)
    assert somewhere(bench.data, mark(world.key)) == []
    assert bench.there() == set(bench.files)


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_deletion_takes_the_switching_key_of_its_job_along(bench: Bench, world: World, state: str) -> None:
    if state == "running":
        bench.claim()
    target = {"kind": "data_set", "id": bench.data_set}
    with bench.owner() as owner:
        plan = owner.done("POST", "/v1/deletions/plan", json=target)
        order = target | {"plan_sha256": plan["plan_sha256"]}
        receipt = owner.done("POST", "/v1/deletions", json=order)["receipt"]
        assert 'jobs_ended_total{kind="switch",state="cancelled"} 1.0' in owner.ask("GET", "/metrics").text
    assert {thing["id"] for thing in receipt["objects"]} == {*bench.files, bench.data_set, bench.job, bench.key}
    assert receipt["objects"] == plan["objects"]
    assert somewhere(bench.data, mark(world.key)) == []
    assert bench.there() == set()


def test_a_switching_key_stays_while_another_job_needs_it(bench: Bench, world: World) -> None:
    with bench.owner() as owner:
        other = owner.done("POST", "/v1/datasets", json={"file_ids": bench.files[:1]})["dataset_id"]
        job = owner.submit("second", kind="switch", dataset_id=other, switching_key_file_id=bench.key)
        assert bench.work(bench.claim())
        assert somewhere(bench.data, mark(world.key)) == [f"{bench.key}.cl"]
        assert bench.files[0] in bench.there()  # the other data set's
        bench.job = job
        assert bench.work(bench.claim())
        assert somewhere(bench.data, mark(world.key)) == []
        assert bench.there() == set(look(owner, bench.data_set)["file_ids"])


def test_one_switch_of_a_data_set_at_a_time(bench: Bench, world: World) -> None:
    recipe = {"kind": "switch", "dataset_id": bench.data_set, "switching_key_file_id": bench.key}
    with bench.owner() as owner:
        answer = owner.ask("POST", "/v1/jobs", json=recipe, headers={"Idempotency-Key": "two"})
        assert (answer.status_code, answer.json()["error"]["kind"]) == (422, "InputError")
        assert "being switched already" in answer.json()["error"]["message"]


def test_no_room_is_told_before_the_work(bench: Bench, world: World) -> None:
    """Seeded images take twice the room: the quota is that of before."""
    with bench.database.writing() as session:
        used = sum(session.scalars(select(File.size)).all())
        session.execute(update(Tenant).values(quota_bytes=used))
    with pytest.raises(QuotaExceeded, match="bytes more"):
        bench.work(bench.claim())
    assert bench.there() == {*bench.files, bench.key}


def test_a_deleted_data_set_is_not_switched(bench: Bench) -> None:
    with bench.owner() as owner:
        owner.done("DELETE", f"/v1/datasets/{bench.data_set}")
    with pytest.raises(NotFound):
        bench.work(bench.claim())


def test_switching_keys_that_nobody_uses_are_forgotten(bench: Bench, world: World) -> None:
    with bench.owner() as owner:
        owner.done("POST", f"/v1/jobs/{bench.job}/cancel")
        owner.upload(world.key, "switching_key")
    bench.tidy()
    assert len(somewhere(bench.data, mark(world.key))) == 1
    with bench.database.writing() as session:
        session.execute(update(File).values(touched=time.time() - 8 * 86400))
    bench.tidy()
    assert somewhere(bench.data, mark(world.key)) == []
    assert bench.there() == set(bench.files)
