"""A service on a real PostgreSQL: writers that wait for each other, failures of the database, and passwords unseen."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from postgresql import PASSWORD, Cluster
from pydantic import SecretStr
from service_world import Material, Owner, client, in_process, make_material, manifest, serving, token
from sqlalchemy import text
from structlog.testing import capture_logs

from cipherlens.cli.main import main
from cipherlens.errors import InputError, ServerError
from cipherlens.service.database import Database, Job, Tenant
from cipherlens.service.errors import Unavailable
from cipherlens.service.jobs import Jobs
from cipherlens.service.pieces import Store
from cipherlens.service.settings import Settings


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(tmp_path_factory.mktemp("material") / "files", images=1024)


def at_once(*calls: object) -> list[object]:
    """What these calls give when all begin at the same time."""
    barrier = threading.Barrier(len(calls))

    def call(function: object) -> object:
        barrier.wait()
        assert callable(function)
        return function()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


# ---- writers side by side --------------------------------------------------------------------------------------------


def test_each_job_is_claimed_once(tmp_path: Path, database_url: SecretStr | None) -> None:
    databases = [Database(tmp_path, database_url) for _ in range(4)]
    with databases[0].writing() as session:
        tenant = Tenant(name="clinic", quota_bytes=0, quota_jobs=9, created=0.0)
        session.add(tenant)
        session.flush()
        for i in range(12):
            session.add(
                Job(
                    tenant_id=tenant.id, idempotency_key=str(i), kind="train", recipe="{}", inputs="{}", state="queued",
                    stage="", progress=0.0, deaths=0, created=float(i),
                )
            )  # fmt: skip
    queues = [Jobs(database, Store(tmp_path), 60.0) for database in databases]
    claims = at_once(*(lambda q=q, i=i: [q.claim(f"w{i}") for _ in range(4)] for i, q in enumerate(queues)))
    held = [claim.job_id for claims_of_one in claims for claim in claims_of_one if claim is not None]  # type: ignore[attr-defined]
    assert (len(held), len(set(held))) == (12, 12)
    for database in databases:
        database.close()


def test_the_same_request_many_times_at_once(
    tmp_path: Path, material: Material, database_url: SecretStr | None
) -> None:
    """One file, one data set and one job come of it, and quotas hold."""
    data = tmp_path / "data"
    secret = token(data, url=database_url)
    database = Database(data, database_url)
    with in_process(Settings(data=data, database=database_url), database) as http:
        owner = Owner(http, secret)
        announced = manifest(material.parts[0], "images")
        answers = at_once(*[lambda: owner.done("POST", "/v1/files", json=announced)["file_id"]] * 8)
        assert len(set(answers)) == 1
        file, keys = owner.upload(material.parts[0]), owner.upload(material.keys, "evaluation_keys")
        named = {"json": {"file_ids": [file]}, "headers": {"Idempotency-Key": "d"}}
        sets = at_once(*[lambda: owner.done("POST", "/v1/datasets", **named)["dataset_id"]] * 8)
        assert len(set(sets)) == 1
        recipe = {"kind": "train", "dataset_id": str(sets[0]), "keys_file_id": keys}
        assert len(set(at_once(*[lambda: owner.submit("j", **recipe)] * 8))) == 1
        with database.writing() as session:
            session.query(Tenant).one().quota_jobs = 3
        more = at_once(
            *(
                lambda i=i: owner.ask("POST", "/v1/jobs", json=recipe, headers={"Idempotency-Key": f"j{i}"}).status_code
                for i in range(8)
            )
        )
        assert sorted(map(str, more)) == ["200", "200", *["429"] * 6]
        # A file is either in the data set or deleted, never both.
        second = owner.upload(material.parts[1])
        added, deleted = at_once(
            lambda: owner.ask("POST", f"/v1/datasets/{sets[0]}/append", json={"file_id": second}).status_code,
            lambda: owner.ask("DELETE", f"/v1/files/{second}").status_code,
        )
        assert (added, deleted) in ((200, 409), (404, 204))
    database.close()


# ---- failures --------------------------------------------------------------------------------------------------------


def test_the_database_fails_in_mid_training(tmp_path: Path, material: Material, postgresql: Cluster) -> None:
    """Nothing is lost: clients ask again, and the job goes on."""
    url = postgresql.new_database()
    with serving(tmp_path / "data", database=url, checkpoint_seconds=0.1, lease_seconds=2.0) as service:
        secret = token(service.data, url=url)
        with client(service.url, secret, patience=30) as owner:
            ids = [owner.upload(part) for part in material.parts]
            dataset = owner.done("POST", "/v1/datasets", json={"file_ids": ids})["dataset_id"]
            keys = owner.upload(material.keys, "evaluation_keys")
            job = owner.submit("t", kind="train", dataset_id=dataset, keys_file_id=keys)
            postgresql.crash()
            deadline = time.monotonic() + 60
            while (answer := owner.ask("GET", f"/v1/jobs/{job}")).status_code in (500, 503) or not answer.json()[
                "finished"
            ]:
                assert time.monotonic() < deadline, answer.text
                time.sleep(0.05)
            assert owner.download(answer.json()["result_file_id"]) == material.model
            assert owner.upload(material.parts[0]) == ids[0]


def test_a_database_that_is_away_is_said_so(tmp_path: Path, postgresql: Cluster) -> None:
    url = postgresql.new_database()
    secret = token(tmp_path / "data", url=url)
    database = Database(tmp_path / "data", url)
    with in_process(Settings(data=tmp_path / "data", database=url), database) as http:
        owner = Owner(http, secret)
        assert owner.done("GET", "/v1/jobs") == {"jobs": [], "next": None}
        name = url.get_secret_value().split("/")[3].split("?")[0]
        for allowed in (False, True):
            postgresql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}")
            postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            answer = owner.ask("GET", "/v1/jobs")
            assert answer.status_code == (200 if allowed else 503), answer.text
        postgresql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        with pytest.raises(Unavailable, match="does not answer"), capture_logs(), database.writing() as session:
            session.execute(text("SELECT 1"))
    database.close()


def test_one_service_works_on_a_database(tmp_path: Path, postgresql: Cluster) -> None:
    url = postgresql.new_database()
    first, second = Database(tmp_path, url), Database(tmp_path, url)
    with first.alone(0.0):
        with pytest.raises(InputError, match="another service works on the database cipherlens"), second.alone(0.2):
            pass
        with second.writing():  # tokens are made beside it
            pass
    with second.alone(0.0):
        pass
    first.close()
    second.close()


def test_a_database_that_was_restarted_is_taken_again_or_left(tmp_path: Path, postgresql: Cluster) -> None:
    url = postgresql.new_database()
    first, second = Database(tmp_path, url), Database(tmp_path, url)
    name = url.get_secret_value().split("/")[3].split("?")[0]

    def cut() -> None:
        postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    with first.alone(0.0) as check:
        check()
        cut()
        postgresql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        check()  # away: there is nobody to lose it to
        postgresql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        check()
        with pytest.raises(InputError, match="another service works"), second.alone(0.1):
            pass
        cut()
        with second.alone(0.0), pytest.raises(ServerError, match="another service has begun to work on the database"):
            check()
    first.close()
    second.close()


# ---- passwords -------------------------------------------------------------------------------------------------------


def test_no_password_is_seen(tmp_path: Path, postgresql: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in command lines of the service's processes nor in their log, nor in what settings show of themselves."""
    url = postgresql.new_database(password=True)
    data = tmp_path / "data"
    settings = Settings(data=data, database=url)
    assert PASSWORD not in f"{settings!r} {settings} {settings.model_dump()}"
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
    with serving(data, database=url) as service:
        with client(service.url, token(data, url=url)) as owner:
            assert owner.done("GET", "/v1/jobs") == {"jobs": [], "next": None}
        for pid in (service.process.pid, *service.children("web"), *service.children("worker")):
            assert PASSWORD.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
            assert PASSWORD.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        assert service.children("worker") != []
    assert PASSWORD not in service.log()
    assert not (data / "service.sqlite3").exists()


def test_the_commands_take_the_url(
    tmp_path: Path, postgresql: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, data = postgresql.new_database(password=True).get_secret_value(), str(tmp_path / "data")
    assert main(("token", "create", "--data", data, "--database", url, "--tenant", "clinic")) == 0
    token_id = capsys.readouterr().out.split("_")[1]
    monkeypatch.setenv("CIPHERLENS_DATABASE", url)
    assert main(("token", "list", "--data", data, "--json")) == 0
    assert token_id in capsys.readouterr().out
    assert main(("tenant", "limit", "clinic", "--data", data, "--quota", "3GB")) == 0
    capsys.readouterr()
    assert main(("tenant", "list", "--data", data, "--json")) == 0
    assert '"quota_bytes": 3000000000' in capsys.readouterr().out
    assert main(("token", "revoke", "--data", data, token_id)) == 0
    capsys.readouterr()
    monkeypatch.delenv("CIPHERLENS_DATABASE")
    assert main(("token", "list", "--data", data)) == 1
    assert "no service" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:{word}@127.0.0.1/x", "postgresql://"),
        ("postgresql://u:{word}@127.0.0.1", "postgresql://"),
        ("postgresql+asyncpg://u:{word}@127.0.0.1/x", "postgresql://"),
        ("{word}", "postgresql://"),
        ("postgresql://u:{word}@127.0.0.1:x/x", "not understood"),
        ("postgresql://u:{word}@127.0.0.1:1/x", "the database x on 127.0.0.1 cannot be used"),
        ("postgresql://u@127.0.0.1:1/x?password={word}", "the database x on 127.0.0.1 cannot be used"),
        ("postgresql://u@127.0.0.1:1/x?{word}=1", "its URL's options are not understood"),
    ],
)
@pytest.mark.parametrize("command", [("token", "create", "--tenant", "x"), ("serve", "--port", "0")])
def test_urls_that_lead_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: tuple[str, ...], url: str, words: str
) -> None:
    word = "correct-horse-battery"
    assert main((*command, "--data", str(tmp_path / "data"), "--database", url.format(word=word))) == 1
    said = capfd.readouterr().err
    assert words in said
    assert word not in said
    assert said.count("\n") == 1


def test_a_wrong_password_is_not_repeated(
    tmp_path: Path, postgresql: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgresql.new_database(password=True).get_secret_value().replace(PASSWORD, "correct-horse-battery")
    assert main(("token", "list", "--data", str(tmp_path), "--database", url)) == 1
    said = capsys.readouterr().err
    assert "password authentication failed" in said
    assert "battery" not in said
