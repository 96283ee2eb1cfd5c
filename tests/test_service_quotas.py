"""Quotas on a service in processes of its own: memory of a job, by forecast, and bytes of its result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from service_world import Material, Owner, client, make_material, serving, token

from cipherlens.learning.encrypted_images import look_at_images
from cipherlens.planning.cost import classifying_memory, training_memory

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
