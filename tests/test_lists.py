"""Lists that are longer than one answer, and files that are looked up by their bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_service import FakeService, connection_to, running
from service_world import Material, Owner, in_process, make_material, token
from sqlalchemy import delete, select

import cipherlens as cl
from cipherlens.cli.main import main
from cipherlens.client import connection as client
from cipherlens.client.publishing import PublishingConnection
from cipherlens.errors import ServerError
from cipherlens.service.database import Base, Database, Dataset, Deletion, File, Job, Publication, Tenant, new_id
from cipherlens.service.paging import PORTION
from cipherlens.service.schemas import NewPublication, PublishedEnvelope
from cipherlens.service.settings import Settings

MANY = 2 * PORTION + 50
TIES = 7
"""Rows of one and the same time."""

ID = "0123456789abcdef" * 2
ASKED = NewPublication(
    dataset_id=ID, keys_file_id=ID, holdout_file_id=ID, trainers=["ada"], submissions_each=1
).model_dump_json()
ENVELOPE = PublishedEnvelope(
    learners=["ridge"], least_steps=1, most_steps=2, least_ridge=0.1, most_ridge=0.2
).model_dump_json()


def a_file(tenant: str, when: float) -> File:
    return File(
        id=new_id(), tenant_id=tenant, space="owner", kind="reply", state="ready", size=1, manifest=b"", key_id=ID,
        sha256=hashlib.sha256(new_id().encode()).hexdigest(), parameters_id=ID, task_id=None, images=None, labelled=None,
        created=when, touched=when,
    )  # fmt: skip


def a_job(tenant: str, when: float) -> Job:
    return Job(
        id=new_id(), tenant_id=tenant, idempotency_key=new_id(), kind="train", recipe="{}", inputs="{}", state="done",
        stage="done", progress=1.0, deaths=0, created=when, started=when, finished=when,
    )  # fmt: skip


def a_data_set(tenant: str, when: float) -> Dataset:
    return Dataset(id=new_id(), tenant_id=tenant, idempotency_key=None, asked="[]", task_id=ID, key_id=ID, created=when)


def a_deletion(tenant: str, when: float) -> Deletion:
    return Deletion(
        id=new_id(),
        tenant_id=tenant,
        plan_sha256=new_id(),
        reason="request",
        requested=when,
        objects="[]",
        receipt=None,
    )


def a_publication(tenant: str, when: float) -> Publication:
    return Publication(
        id=new_id(), tenant_id=tenant, idempotency_key=new_id(), asked=ASKED, task_id=ID, key_id=ID, classes=2,
        envelope=ENVELOPE, trainers='["ada"]', submissions_each=1, created=when, withdrawn=None,
    )  # fmt: skip


LISTS: dict[str, tuple[Callable[[str, float], Any], str, str]] = {
    "files": (a_file, "files", "file_id"),
    "jobs": (a_job, "jobs", "job_id"),
    "datasets": (a_data_set, "datasets", "dataset_id"),
    "deletions": (a_deletion, "receipts", "receipt_id"),
    "publications": (a_publication, "publications", "publication_id"),
}
"""Of each list: what makes a row of it, and under which names it comes."""

METHODS: dict[str, Callable[[PublishingConnection], list[Any]]] = {
    "files": PublishingConnection.files,
    "jobs": PublishingConnection.jobs,
    "datasets": PublishingConnection.data_sets,
    "deletions": PublishingConnection.deletions,
    "publications": PublishingConnection.publications,
}


class World:
    """The part of a service that answers, and its tables; each test has a tenant of its own."""

    def __init__(self, data: Path, database: Database, http: Any) -> None:
        self.data, self.database, self.http, self.url = data, database, http, str(http.base_url)

    def tenant(self, name: str) -> tuple[str, str]:
        """A tenant's id and a token of its owner."""
        secret = token(self.data, name)
        with self.database.reading() as session:
            return session.scalars(select(Tenant.id).where(Tenant.name == name)).one(), secret

    def add(self, rows: list[Base]) -> None:
        with self.database.writing() as session:
            session.add_all(rows)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("lists") / "data"
    data.mkdir()
    database = Database(data)
    with in_process(Settings(data=data), database) as http:
        yield World(data, database, http)
    database.close()


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(tmp_path_factory.mktemp("material") / "files", images=512)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[FakeService]:
    with running(tmp_path / "server") as service:
        yield service


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_complete(world: World, name: str) -> None:
    """In one order, each entry once, whatever comes and goes meanwhile; and of nobody else's."""
    make, field, key = LISTS[name]
    tenant, secret = world.tenant(name)
    rows = [make(tenant, 1_700_000_000.1 + i // TIES) for i in range(MANY)]
    world.add([*rows, *(make(world.tenant("somebody")[0], 1_700_000_000.1) for _ in range(3))])
    times = {row.id: 1_700_000_000.1 + i // TIES for i, row in enumerate(rows)}
    expected = sorted(times, key=lambda i: (times[i], i), reverse=True)
    owner = Owner(world.http, secret)
    first = owner.done("GET", f"/v1/{name}")
    assert [entry[key] for entry in first[field]] == expected[:PORTION]

    late, gone = make(tenant, 1_800_000_000.0), expected[PORTION - 1]  # the one that the cursor names
    world.add([late])
    with world.database.writing() as session:
        session.execute(delete(type(late)).where(type(late).id == gone))
    second = owner.done("GET", f"/v1/{name}?before={first['next']}")
    third = owner.done("GET", f"/v1/{name}?before={second['next']}")
    assert [entry[key] for answer in (second, third) for entry in answer[field]] == expected[PORTION:]
    assert third["next"] is None

    with connect(world, secret) as connection:
        found = [entry.id for entry in METHODS[name](connection)]
    assert found == [late.id, *(i for i in expected if i != gone)]


def connect(world: World, secret: str) -> PublishingConnection:
    return cl.connect(world.url, secret)


@pytest.mark.parametrize(
    "asked",
    [
        "before=",
        "before=12",
        f"before={'g' * 48}",
        f"before={'0' * 49}",
        "sha256=",
        "sha256=ab",
        f"sha256={ID}",
        "sha=1",
    ],
)
def test_what_cannot_be_asked_for_is_refused(world: World, asked: str) -> None:
    owner = Owner(world.http, world.tenant("refused")[1])
    answer = owner.ask("GET", f"/v1/files?{asked}")
    assert answer.status_code == 422
    assert f"query.{asked.partition('=')[0]}" in answer.json()["error"]["message"]


@pytest.mark.parametrize("cursor", ["7ff8000000000000", "7ff0000000000000", "fff0000000000000", "0" * 16, "f" * 16])
def test_any_cursor_is_answered(world: World, cursor: str) -> None:
    """Also those that no answer gave, of times that are none."""
    owner = Owner(world.http, world.tenant("odd")[1])
    assert owner.done("GET", f"/v1/jobs?before={cursor}{ID}")["jobs"] == []


def test_a_file_is_found_by_its_bytes(world: World, material: Material, tmp_path: Path) -> None:
    """Among any number of newer ones, with what contributors sent, and not for them or for strangers."""
    tenant, secret = world.tenant("bytes")
    owner = Owner(world.http, secret)
    mine = owner.upload(material.parts[0])
    data_set = owner.done("POST", "/v1/datasets", json={"file_ids": [mine]})["dataset_id"]
    guest = Owner(world.http, token(world.data, "bytes", data_set))
    theirs = guest.upload(material.parts[0])
    sha256 = hashlib.sha256(material.parts[0].read_bytes()).hexdigest()
    world.add([a_file(tenant, 1_900_000_000.0 + i) for i in range(MANY)])
    found = owner.done("GET", f"/v1/files?sha256={sha256}")
    assert [file["file_id"] for file in found["files"]] == [theirs, mine]
    assert found["next"] is None
    assert guest.ask("GET", f"/v1/files?sha256={sha256}").status_code == 404
    stranger = Owner(world.http, world.tenant("stranger")[1])
    assert stranger.done("GET", f"/v1/files?sha256={sha256}")["files"] == []
    with connect(world, secret) as connection:
        assert [file.id for file in connection.find_files(material.parts[0])] == [theirs, mine]
        assert connection.find_files(material.query) == []
    (tmp_path / "token").write_text(secret)
    remove = ["delete", "--data", str(material.parts[0]), "--yes", "--server", world.url]
    remove += ["--token-file", str(tmp_path / "token"), "--json"]
    assert [main(remove), main(remove), main(remove)] == [0, 0, 1]
    assert owner.done("GET", f"/v1/files?sha256={sha256}")["files"] == []


def test_a_model_is_found_whatever_was_computed_since(world: World, material: Material, tmp_path: Path) -> None:
    tenant, secret = world.tenant("models")
    path = tmp_path / "model.cl"
    path.write_bytes(material.model)
    model = a_file(tenant, 1_700_000_000.0)
    model.kind, model.sha256, model.size = "model", hashlib.sha256(material.model).hexdigest(), len(material.model)
    model_id = model.id
    with connect(world, secret) as connection:
        with pytest.raises(ServerError, match=r"model.cl is no model that this server has trained"):
            connection.find_model(path)
        world.add([model, *(a_job(tenant, 1_800_000_000.0 + i) for i in range(MANY))])
        assert connection.find_model(path).id == model_id


def test_the_client_follows_a_list_to_its_end(service: FakeService) -> None:
    service.listed = 3
    for number in range(10):
        service.jobs[f"{number:032x}"] = {"job_id": f"{number:032x}", "state": "done"}
    with connection_to(service.url) as server:
        assert [int(job.id, 16) for job in server.jobs()] == list(range(10))[::-1]
    assert len(service.requests) == 4


@pytest.mark.parametrize("following", ["../../v1/usage", "0" * 47, 7, ["0" * 48], f"{'0' * 47}&"])
def test_a_server_cannot_lead_a_list_astray(service: FakeService, following: object) -> None:
    answer = json.dumps({"jobs": [], "next": following}).encode()
    service.answer = lambda *_: (200, {}, answer)  # type: ignore[method-assign]
    with connection_to(service.url) as server, pytest.raises(ServerError, match="where its jobs go on"):
        server.jobs()
    assert service.requests == ["GET /v1/jobs"]


def test_a_list_without_an_end_is_given_up(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_PORTIONS", 5)
    answer = json.dumps({"jobs": [], "next": "0" * 48}).encode()
    service.answer = lambda *_: (200, {}, answer)  # type: ignore[method-assign]
    with connection_to(service.url) as server, pytest.raises(ServerError, match="does not end"):
        server.jobs()
    assert len(service.requests) == 5
