"""Quotas on a service in processes of its own: memory of a job, by forecast, and bytes of its result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from service_world import Material, Owner, client, in_process, make_material, serving, token
from sqlalchemy import func, select, update
from structlog.testing import capture_logs

from cipherlens.learning.encrypted_images import look_at_images
from cipherlens.learning.results import HEADER_BYTES, model_bytes, reply_bytes
from cipherlens.planning.cost import classifying_memory, training_memory
from cipherlens.service.database import Database, File, Tenant
from cipherlens.service.settings import Settings
from cipherlens.service.worker import Worker

THREADS = 2


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(tmp_path_factory.mktemp("material") / "files", images=1024)


@contextmanager
def service(folder: Path, secret: str, **settings: Any) -> Iterator[Owner]:
    """A service on a folder, and an owner of it."""
    with serving(folder, threads=THREADS, **settings) as running, client(running.url, secret) as owner:
        yield owner


def uploaded(owner: Owner, material: Material) -> tuple[dict[str, str], dict[str, str]]:
    """The recipes of a training, and of a classification but for its model."""
    files = [owner.upload(part) for part in material.parts]
    made = owner.done("POST", "/v1/datasets", json={"file_ids": files}, headers={"Idempotency-Key": "all"})
    keys = owner.upload(material.keys, "evaluation_keys")
    training = {"kind": "train", "dataset_id": made["dataset_id"], "keys_file_id": keys}
    return training, {"kind": "classify", "query_file_id": owner.upload(material.query), "keys_file_id": keys}


def failure(job: dict[str, Any]) -> tuple[str, str]:
    """The kind and the sentence of a job that failed."""
    assert job["state"] == "failed"
    return job["error"]["kind"], job["error"]["message"]


def test_jobs_above_the_quota_of_memory_are_refused(tmp_path: Path, material: Material) -> None:
    secret = token(tmp_path / "data")
    task = look_at_images(material.query).task
    training, classifying = training_memory(task, 1024, THREADS), classifying_memory(task, THREADS)
    assert classifying < training
    with service(tmp_path / "data", secret) as owner:
        train, classify = uploaded(owner, material)
        classify["model_file_id"] = owner.wait(owner.submit("model", **train))["result_file_id"]
    with service(tmp_path / "data", secret, quota_memory=training - 1) as owner:
        kind, message = failure(owner.wait(owner.submit("large", **train)))
        assert (kind, message) == (
            "PlanError",
            f"this job may take {training / 1e6:,.0f} MB of memory, and the service allows {training / 1e6:,.0f} MB; "
            "plan with fewer features, or give it fewer images at a time",
        )
        done = owner.wait(owner.submit("small", **classify))  # which takes less
        assert owner.download(done["result_file_id"]) == material.reply
    with service(tmp_path / "data", secret, quota_memory=classifying - 1) as owner:
        kind, message = failure(owner.wait(owner.submit("larger", **classify)))
        assert kind == "PlanError"
        assert message.startswith(f"this job may take {classifying / 1e6:,.0f} MB of memory")


# ---- bytes of results, the queue and the worker in this process ------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """A service whose worker works when it is told to."""

    owner: Owner
    database: Database
    worker: Worker

    def limit(self, room: int) -> None:
        """Leave the tenant so many bytes."""
        with self.database.writing() as session:
            used = int(session.scalar(select(func.sum(File.size))) or 0)
            session.execute(update(Tenant).values(quota_bytes=used + room))

    def work(self, job_id: str) -> dict[str, Any]:
        """Do the next job; what is said of this one then."""
        claim = self.worker._jobs.claim("worker-1")
        assert claim is not None
        with capture_logs():
            self.worker.work(claim)
        found: dict[str, Any] = self.owner.done("GET", f"/v1/jobs/{job_id}")
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    secret, settings = token(tmp_path / "data"), Settings(data=tmp_path / "data", threads=THREADS)
    database = Database(settings.data)
    with in_process(settings, database) as http:
        yield Bench(Owner(http, secret), database, Worker(settings, "worker-1", database))
    database.close()


def test_sizes_are_told_in_advance(material: Material) -> None:
    query = look_at_images(material.query)
    expected = (model_bytes(query.task), reply_bytes(query.task, query.images, query.names))
    for told, size in zip(expected, (len(material.model), len(material.reply)), strict=True):
        assert told - HEADER_BYTES < size <= told


def test_results_count_to_the_quota(bench: Bench, material: Material) -> None:
    train, classify = uploaded(bench.owner, material)
    query = look_at_images(material.query)
    model, reply = model_bytes(query.task), reply_bytes(query.task, query.images, query.names)

    def steps(recipe: dict[str, str], size: int, result: bytes, name: str) -> str:
        """Refused when it is submitted, when it begins and when it ends; done in the end."""
        bench.limit(size - 1)
        refused = bench.owner.ask("POST", "/v1/jobs", json=recipe, headers={"Idempotency-Key": name})
        assert (refused.status_code, refused.json()["error"]["kind"]) == (413, "QuotaExceeded")
        assert refused.json()["error"]["message"].endswith("are left; delete files")
        bench.limit(size)
        job = bench.owner.submit(name, **recipe)
        bench.limit(size - 1)
        kind, message = failure(bench.work(job))
        assert (kind, message.startswith(f"this takes {size} bytes, and {size - 1} of the quota")) == (
            "QuotaExceeded", True,
        )  # fmt: skip
        bench.limit(size)
        job = bench.owner.submit(f"{name}-again", **recipe)
        with pytest.MonkeyPatch.context() as patch:  # what takes the room while the job is computed
            patch.setattr(bench.worker._jobs, "require_room", lambda *_: bench.limit(len(result) - 1))
            kind, message = failure(bench.work(job))
        assert (kind, message.startswith(f"this takes {len(result)} bytes")) == ("QuotaExceeded", True)
        bench.limit(size)
        with bench.database.reading() as session:
            kept = set(session.scalars(select(File.id)))
        assert {whole.file_id for whole in bench.worker._store.stored()} == kept
        done = bench.work(bench.owner.submit(f"{name}-more", **recipe))
        assert bench.owner.download(done["result_file_id"]) == result
        return str(done["result_file_id"])

    made = steps(train, model, material.model, "model")
    steps(classify | {"model_file_id": made}, reply, material.reply, "reply")
