"""The whole service in processes of its own: trainings and classifications, their ends, and what it tells and logs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydantic import SecretStr
from service_world import (
    SECRET_WORDS,
    Material,
    Owner,
    Service,
    client,
    log_lines,
    make_material,
    serving,
    token,
)
from structlog.testing import capture_logs

from cipherlens.errors import InputError
from cipherlens.learning.training import Sums
from cipherlens.service.checkpoints import FileCheckpoints
from cipherlens.service.database import Database
from cipherlens.service.jobs import MOST_DEATHS, Claim, Jobs
from cipherlens.service.pieces import Incoming, Store
from cipherlens.service.settings import Settings
from cipherlens.service.worker import Worker
from cipherlens.wire.container import NoRoom


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(tmp_path_factory.mktemp("material") / "files", images=1024)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def secret(service: Service) -> str:
    return token(service.data)


@pytest.fixture
def owner(service: Service, secret: str) -> Iterator[Owner]:
    with client(service.url, secret) as connected:
        yield connected


def uploaded(owner: Owner, material: Material) -> dict[str, str]:
    """Ids for a training, and of the query."""
    files = [owner.upload(part) for part in material.parts]
    made = owner.done("POST", "/v1/datasets", json={"file_ids": files}, headers={"Idempotency-Key": "all"})
    return {
        "dataset_id": made["dataset_id"],
        "keys_file_id": owner.upload(material.keys, "evaluation_keys"),
        "query_file_id": owner.upload(material.query),
    }


def test_train_and_classify(owner: Owner, material: Material) -> None:
    ids = uploaded(owner, material)
    training = owner.submit("t", kind="train", dataset_id=ids["dataset_id"], keys_file_id=ids["keys_file_id"])
    done = owner.wait(training)
    assert (done["state"], done["progress"], done["error"]) == ("done", 1.0, None)
    assert owner.download(done["result_file_id"]) == material.model
    recipe = {
        "kind": "classify", "model_file_id": done["result_file_id"], "query_file_id": ids["query_file_id"],
        "keys_file_id": ids["keys_file_id"],
    }  # fmt: skip
    reply = owner.wait(owner.submit("c", **recipe))
    assert owner.download(reply["result_file_id"]) == material.reply
    # The same recipe under another key is computed again, to the same file.
    assert owner.wait(owner.submit("c2", **recipe))["result_file_id"] == reply["result_file_id"]
    listed = owner.done("GET", "/v1/jobs")["jobs"]
    assert [job["kind"] for job in listed] == ["classify", "classify", "train"]


def test_events(owner: Owner, material: Material, secret: str) -> None:
    ids = uploaded(owner, material)
    job = owner.submit("events", kind="train", dataset_id=ids["dataset_id"], keys_file_id=ids["keys_file_id"])
    with owner.http.stream("GET", f"/v1/jobs/{job}/events", headers={"Authorization": f"Bearer {secret}"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        seen = [json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:")]
    assert [event["job_id"] for event in seen] == [job] * len(seen)
    progress = [event["progress"] for event in seen]
    assert progress == sorted(progress)
    assert (seen[-1]["state"], seen[-1]["progress"]) == ("done", 1.0)


def test_the_same_request_is_the_same_job(owner: Owner, material: Material) -> None:
    ids = uploaded(owner, material)
    recipe = {"kind": "train", "dataset_id": ids["dataset_id"], "keys_file_id": ids["keys_file_id"]}
    first = owner.submit("again", **recipe)
    assert owner.submit("again", **recipe) == first
    assert owner.submit("other", **recipe) != first
    clash = owner.ask(
        "POST", "/v1/jobs", json=recipe | {"keys_file_id": "0" * 32}, headers={"Idempotency-Key": "again"}
    )
    assert (clash.status_code, clash.json()["error"]["kind"]) == (409, "Conflict")
    assert owner.ask("POST", "/v1/jobs", json=recipe).status_code == 422
    for key in ("", "x" * 201, "a b"):
        assert owner.ask("POST", "/v1/jobs", json=recipe, headers={"Idempotency-Key": key}).status_code == 400


def test_inputs_that_do_not_belong_together(owner: Owner, material: Material) -> None:
    ids = uploaded(owner, material)
    wrong = owner.upload(material.foreign_keys, "evaluation_keys")
    recipe = {"kind": "train", "dataset_id": ids["dataset_id"], "keys_file_id": wrong}
    answer = owner.ask("POST", "/v1/jobs", json=recipe, headers={"Idempotency-Key": "wrong"})
    assert (answer.status_code, answer.json()["error"]["kind"]) == (422, "KeyMismatch")
    for other in ("0" * 32, ids["query_file_id"]):
        answer = owner.ask(
            "POST", "/v1/jobs", json=recipe | {"keys_file_id": other}, headers={"Idempotency-Key": "wrong"}
        )
        assert (answer.status_code, answer.json()["error"]["kind"]) == (404, "NotFound")
    for body in ({"kind": "decrypt"}, {"kind": "train"}, recipe | {"scores": [1]}, []):
        answer = owner.ask("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": "x"})
        assert (answer.status_code, answer.json()["error"]["kind"]) == (422, "Invalid")


def test_cancelling(owner: Owner, material: Material) -> None:
    ids = uploaded(owner, material)
    recipe = {"kind": "train", "dataset_id": ids["dataset_id"], "keys_file_id": ids["keys_file_id"]}
    jobs = [owner.submit(f"cancel{i}", **recipe) for i in range(2)]
    for job in reversed(jobs):
        assert owner.done("POST", f"/v1/jobs/{job}/cancel")["state"] == "cancelled"
    after = owner.wait(owner.submit("after", **recipe))
    assert owner.download(after["result_file_id"]) == material.model
    assert [owner.done("GET", f"/v1/jobs/{job}")["state"] for job in jobs] == ["cancelled"] * 2
    assert owner.done("POST", f"/v1/jobs/{jobs[0]}/cancel")["state"] == "cancelled"


def test_a_job_is_stopped_gently_and_goes_on_after_the_restart(tmp_path: Path, material: Material) -> None:
    with serving(tmp_path / "data", checkpoint_seconds=1000) as running:
        with client(running.url, token(running.data), patience=20) as owner:
            ids = uploaded(owner, material)
            job = owner.submit("t", kind="train", dataset_id=ids["dataset_id"], keys_file_id=ids["keys_file_id"])
            while owner.done("GET", f"/v1/jobs/{job}")["progress"] == 0:
                time.sleep(0.01)
            assert running.stop() == 0
            running.start()
            done = owner.wait(job)
            assert owner.download(done["result_file_id"]) == material.model
        assert running.stop() == 0
    ends = [line["end"] for line in log_lines(running) if line["event"] == "job ends"]
    assert ends in (["given back", "done"], ["done"])
    assert [path for path in (tmp_path / "data").rglob("*") if path.suffix in (".part", ".sums")] == []


def test_logs_and_database_hold_no_secrets(service: Service, secret: str, owner: Owner, material: Material) -> None:
    uploaded(owner, material)  # labels too
    log = service.log()
    assert '"event": "request"' in log
    assert "Traceback" not in log
    text = log.encode() + b"".join(p.read_bytes() for p in service.data.glob("service.sqlite3*"))
    for word in (*SECRET_WORDS, secret, secret.split("_", 2)[2]):
        assert word.encode() not in text
    assert not any("labels" in line or "path" in line for line in log_lines(service))


def test_only_one_service_works_on_a_folder(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    from cipherlens.service import supervisor

    monkeypatch.setattr(supervisor, "LOCK_SECONDS", 0.1)
    with pytest.raises(InputError, match="another service"), supervisor.locked(service.data):
        pass


# ---- the queue by itself ---------------------------------------------------------------------------------------------


@pytest.fixture
def queue(tmp_path: Path, database_url: SecretStr | None) -> Iterator[tuple[Jobs, Database, str]]:
    text = token(tmp_path, url=database_url)
    database = Database(tmp_path, database_url)
    yield Jobs(database, Store(tmp_path), 60.0), database, text
    database.close()


def put_job(database: Database, tenant: str, created: float) -> str:
    from cipherlens.service.database import Job, Tenant

    with database.writing() as session:
        owner = session.query(Tenant).filter(Tenant.name == tenant).one_or_none()
        if owner is None:
            owner = Tenant(name=tenant, quota_bytes=0, quota_jobs=9, created=0.0)
            session.add(owner)
            session.flush()
        job = Job(
            tenant_id=owner.id, idempotency_key=str(created), kind="train", recipe="{}", inputs='{"data":[]}',
            state="queued", stage="", progress=0.0, deaths=0, created=created,
        )  # fmt: skip
        session.add(job)
        session.flush()
        return job.id


def states(database: Database) -> list[str]:
    from cipherlens.service.database import Job

    with database.reading() as session:
        return [job.state for job in session.query(Job)]


def test_tenants_take_turns(queue: tuple[Jobs, Database, str]) -> None:
    jobs, database, _ = queue
    first, second = put_job(database, "clinic", 1), put_job(database, "clinic", 2)
    other = put_job(database, "rival", 3)
    assert [getattr(jobs.claim("w"), "job_id", None) for _ in range(4)] == [first, other, second, None]


def test_a_lease_runs_out(queue: tuple[Jobs, Database, str], tmp_path: Path) -> None:
    _, database, _ = queue
    jobs = Jobs(database, Store(tmp_path), 0.2)
    put_job(database, "clinic", 1)
    lost = jobs.claim("sleeper")
    assert isinstance(lost, Claim)
    assert jobs.renew(lost, "images", 0.5)
    time.sleep(0.25)
    found = jobs.claim("other")
    assert found is not None
    assert found.job_id == lost.job_id
    # Whatever the first one does now counts for nothing.
    assert not jobs.renew(lost, "images", 0.9)
    jobs.fail(lost, "Defect", "x")
    jobs.give_back(lost)
    assert jobs.renew(found, "images", 0.1)
    assert states(database) == ["running"]


def test_a_job_that_kills_its_workers_is_given_up(queue: tuple[Jobs, Database, str]) -> None:
    jobs, database, _ = queue
    put_job(database, "clinic", 1)
    for _ in range(MOST_DEATHS):
        assert jobs.claim("w") is not None
        jobs.bury("worker", "w")
    assert jobs.claim("w") is None
    assert states(database) == ["failed"]


def test_a_job_whose_input_is_gone_says_so(queue: tuple[Jobs, Database, str]) -> None:
    from cipherlens.service.database import Job

    jobs, database, _ = queue
    lost, whole = put_job(database, "clinic", 1), put_job(database, "clinic", 2)
    with database.writing() as session:
        session.get_one(Job, lost).inputs = json.dumps({"data": ["0" * 32]})
    claim = jobs.claim("w")
    assert claim is not None and claim.job_id == whole
    with database.reading() as session:
        job = session.get_one(Job, lost)
    assert (job.state, job.error_kind, job.error_message) == ("failed", "NotFound", "an input was deleted meanwhile")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), NoRoom("/srv/x.cl cannot be written")])
def test_a_full_disk_is_called_so(
    queue: tuple[Jobs, Database, str], tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cipherlens.service.database import Job

    def full(*_: object) -> None:
        raise error

    jobs, database, _ = queue
    job_id = put_job(database, "clinic", 1)
    claim = jobs.claim("w")
    assert claim is not None
    monkeypatch.setattr(Worker, "_compute", full)
    with capture_logs():
        Worker(Settings(data=tmp_path), "w", database).work(claim)
    with database.reading() as session:
        job = session.get_one(Job, job_id)
    assert (job.error_kind, job.error_message) == ("DiskFull", "the service has no room left; ask its operator")


def test_a_checkpoint_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    path, held = tmp_path / "x.sums", [True]
    checkpoints = FileCheckpoints(path, 0.0, lambda: False, lambda: held[0])
    sums = Sums(1, [np.zeros(3)], [])
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(Incoming, "keep", full)
        checkpoints.save(sums)
    assert [line["event"] for line in logs] == ["no checkpoint"]
    assert list(tmp_path.iterdir()) == []
    checkpoints.save(sums)
    assert path.exists()
    held[0] = False  # the job was cancelled meanwhile: nothing of it stays
    checkpoints.save(sums)
    assert not path.exists()


# ---- the commands ----------------------------------------------------------------------------------------------------


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cipherlens", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_commands(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    made = cli("token", "create", "--data", data, "--tenant", "clinic", "--note", "ward 3")
    text = made.stdout.strip()
    assert made.returncode == 0, made.stderr
    assert text.startswith("clt_")
    listed = json.loads(cli("token", "list", "--data", data, "--json").stdout)["tokens"]
    assert [(t["token_id"], t["scope"], t["note"]) for t in listed] == [(text.split("_")[1], "owner", "ward 3")]
    assert text.rpartition("_")[2] not in json.dumps(listed)
    command = [sys.executable, "-m", "cipherlens", "serve", "--data", data, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            headers = {"Authorization": f"Bearer {text}"}
            assert httpx.get(f"{url}/v1/jobs", headers=headers, trust_env=False, timeout=30).json() == {
                "jobs": [],
                "next": None,
            }
            assert cli("token", "revoke", "--data", data, text.split("_")[1]).returncode == 0
            assert httpx.get(f"{url}/v1/jobs", headers=headers, trust_env=False, timeout=30).status_code == 401
        finally:  # `with` waits for the end
            process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "--data", "d", "--host", "0.0.0.0"), "in the clear"),
        (("serve", "--data", "d", "--tls-cert", "nothing.pem"), "both"),
        (("token", "list", "--data", "nowhere"), "no service"),
        (("token", "create", "--data", "d", "--tenant", "../x"), "name"),
        (("token", "create", "--data", "d", "--tenant", "x", "--scope", "contributor"), "--dataset"),
    ],
)
def test_mistakes_of_the_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...],
    words: str,
) -> None:  # fmt: skip
    from cipherlens.cli.main import main

    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_loopback_is_known() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        Settings(data=Path("x"), host=host).check_listening()
    for host in ("0.0.0.0", "::", "192.168.1.1", "example.org"):
        with pytest.raises(InputError):
            Settings(data=Path("x"), host=host).check_listening()
        Settings(data=Path("x"), host=host, insecure_http=True).check_listening()
