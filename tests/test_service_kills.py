"""`kill -9` at random moments: nothing is lost, nothing half-done is seen, and results are the same bytes."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from pydantic import SecretStr
from service_killer import PHASES, Killer, session
from service_world import Material, client, log_lines, make_material, serving, token

from cipherlens.service.audit import Audit

KILLS = 6


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(tmp_path_factory.mktemp("material") / "files", images=2048)


def test_random_kills(tmp_path: Path, material: Material, database_url: SecretStr | None) -> None:
    seed = int(os.environ.get("CIPHERLENS_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"CIPHERLENS_SEED={seed}")
    with serving(tmp_path / "data", database=database_url, checkpoint_seconds=0.2) as service:
        secret = token(service.data, url=database_url)
        rounds = 0
        with (
            client(service.url, secret, patience=30) as owner,
            Killer(service, random.Random(seed), KILLS, 0.8) as killer,
        ):
            while killer.at_work or rounds == 0:
                session(owner, material, f"round-{rounds}", killer.phase)
                rounds += 1
        assert killer.failure is None
        assert killer.kills == KILLS
        assert set(killer.met) >= set(PHASES), killer.met
        service.stop()
        service.start()  # tidies up after workers that were killed between a result and its checkpoint's removal
    leftovers = [path for path in (tmp_path / "data" / "tenants").rglob("*") if path.is_file()]
    assert leftovers == []  # every session has deleted all that it had
    assert Audit(tmp_path / "data").verify().head.number > 10 * rounds


def test_a_checkpoint_saves_work(tmp_path: Path, material: Material) -> None:
    """A worker killed after a checkpoint: the next one begins there, not at the first image."""
    with (
        serving(tmp_path / "data", checkpoint_seconds=0.0) as service,
        client(service.url, token(service.data), patience=30) as owner,
    ):
        files = [owner.upload(part) for part in material.parts]
        dataset = owner.done("POST", "/v1/datasets", json={"file_ids": files})["dataset_id"]
        keys = owner.upload(material.keys, "evaluation_keys")
        job = owner.submit("t", kind="train", dataset_id=dataset, keys_file_id=keys)
        deadline = time.monotonic() + 20
        while not list(service.data.glob("tenants/*/checkpoints/*.sums")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        service.kill("worker")
        done = owner.wait(job)
        assert owner.download(done["result_file_id"]) == material.model
        resumed = [line for line in log_lines(service) if line["event"] == "goes on from a checkpoint"]
        assert [(line["job"], line["batches"] > 0) for line in resumed] == [(job, True)]
