"""What operators rely on: the audit log, metrics, the OpenAPI document, the systemd unit, an orderly end."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from service_world import (
    SECRET_WORDS,
    Material,
    Owner,
    client,
    in_process,
    make_material,
    manifest,
    serving,
    split,
    token,
)

from cipherlens.cli.main import main
from cipherlens.errors import InputError, SecurityError
from cipherlens.service.audit import CURRENT, Audit, Head
from cipherlens.service.database import NAME, Database
from cipherlens.service.openapi import document
from cipherlens.service.settings import Settings
from cipherlens.service.supervisor import GRACE_SECONDS
from cipherlens.service.tokens import Scope, create_token

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(tmp_path_factory.mktemp("material") / "files", images=512)


# ---- the audit log by itself -----------------------------------------------------------------------------------------


def write(audit: Audit, count: int) -> None:
    for number in range(count):
        audit.append(f"POST /v1/{number}", tenant="a" * 32, token="b" * 32, object="c" * 32, outcome="200")


def records(data: Path) -> list[dict[str, Any]]:
    paths = [*sorted(data.glob("audit-*.jsonl")), data / CURRENT]
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def test_the_chain_holds(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    assert audit.head() == Head()
    with pytest.raises(InputError, match="no audit log"):
        audit.verify()
    write(audit, 3)
    noted = audit.head()
    write(Audit(tmp_path), 2)
    found = audit.verify(noted)
    assert (found.first, found.head.number, found.files) == (1, 5, 1)
    assert (tmp_path / CURRENT).stat().st_mode & 0o777 == 0o600
    assert [r["number"] for r in records(tmp_path)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("change", ["alter", "remove", "swap", "repeat", "garbage", "first"])
def test_what_was_done_to_it_is_noticed(tmp_path: Path, change: str) -> None:
    audit = Audit(tmp_path)
    write(audit, 5)
    noted = audit.head()
    lines = (tmp_path / CURRENT).read_bytes().splitlines(keepends=True)
    changed = {
        "alter": [*lines[:2], lines[2].replace(b'"200"', b'"404"'), *lines[3:]],
        "remove": lines[:2] + lines[3:],
        "swap": [lines[0], lines[2], lines[1], *lines[3:]],
        "repeat": [*lines[:3], lines[2], *lines[3:]],
        "garbage": [*lines[:3], b"x\n", *lines[3:]],
        "first": [lines[0].replace(b'"200"', b'"404"'), *lines[1:]],
    }[change]
    (tmp_path / CURRENT).write_bytes(b"".join(changed))
    with pytest.raises(SecurityError):
        audit.verify(noted)


def test_a_cut_is_noticed_by_who_noted_the_head(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    write(audit, 5)
    noted = audit.head()
    lines = (tmp_path / CURRENT).read_bytes().splitlines(keepends=True)
    (tmp_path / CURRENT).write_bytes(b"".join(lines[:3]))
    assert audit.verify().head.number == 3
    with pytest.raises(SecurityError, match="cut off"):
        audit.verify(noted)


def test_a_line_that_a_crash_left_unfinished(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    write(audit, 2)
    with (tmp_path / CURRENT).open("ab") as file:
        file.write(b'{"action":"POST /v1/jo')
    write(audit, 1)
    assert audit.verify().head.number == 3


def test_it_is_rotated_in_one_chain(tmp_path: Path) -> None:
    audit = Audit(tmp_path, rotate_bytes=1000)
    write(audit, 20)
    found = audit.verify()
    assert (found.first, found.head.number) == (1, 20)
    assert found.files > 3
    oldest = min(tmp_path.glob("audit-*.jsonl"))
    taken = len(oldest.read_text().splitlines())
    oldest.unlink()  # archived elsewhere
    assert audit.verify().first == taken + 1
    sorted(tmp_path.glob("audit-*.jsonl"))[1].unlink()  # but a gap is a gap
    with pytest.raises(SecurityError, match="break"):
        audit.verify()


MANY = """
import sys
from pathlib import Path
from cipherlens.service.audit import Audit
audit = Audit(Path(sys.argv[1]), rotate_bytes=2000)
for number in range(15):
    audit.append("x", tenant=None, token=None, object=None, outcome="ok")
"""


def test_processes_append_side_by_side(tmp_path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", MANY, str(tmp_path)]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert Audit(tmp_path).verify().head.number == 45


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")
def test_what_root_makes_belongs_to_the_service(tmp_path: Path) -> None:
    """`token` beside a service of another user, also where it is the first to need a file."""
    os.chown(tmp_path, 65534, 65534)
    database = Database(tmp_path)
    create_token(database, Settings(data=tmp_path), "clinic", Scope.OWNER)
    audit = Audit(tmp_path, rotate_bytes=100)
    write(audit, 2)
    made = {path.name: path.stat().st_uid for path in tmp_path.iterdir()}
    database.close()
    assert {NAME, f"{NAME}-wal", f"{NAME}-shm", CURRENT, "audit.lock"} < set(made)
    assert set(made.values()) == {65534}, made


# ---- of a service ----------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Path, Owner, str]]:
    data = tmp_path / "data"
    text = token(data)
    database = Database(data)
    with in_process(Settings(data=data), database) as http:
        yield data, Owner(http, text), text
    database.close()


def test_who_did_what(world: tuple[Path, Owner, str], material: Material) -> None:
    data, owner, text = world
    file_id = owner.upload(material.parts[0])
    owner.download(file_id)
    dataset = owner.done("POST", "/v1/datasets", json={"file_ids": [file_id]})["dataset_id"]
    assert owner.ask("DELETE", f"/v1/files/{file_id}").status_code == 409
    owner.done("DELETE", f"/v1/datasets/{dataset}")
    owner.ask("GET", "/v1/jobs")
    owner.ask("POST", "/v1/files/..%2f..%2fx/complete")
    owner.http.get("/v1/jobs", headers={"Authorization": "Bearer nonsense"})
    found = records(data)
    assert [(r["action"], r["object"], r["outcome"]) for r in found] == [
        ("token create", text.split("_")[1], "ok"),
        ("POST /v1/files", file_id, "200"),
        ("POST /v1/files/{file_id}/complete", file_id, "200"),
        ("GET /v1/files/{file_id}", file_id, "200"),
        ("POST /v1/datasets", dataset, "200"),
        ("DELETE /v1/files/{file_id}", file_id, "409"),
        ("DELETE /v1/datasets/{dataset_id}", dataset, "204"),
        ("POST none", None, "404"),
    ]
    assert {r["actor"] for r in found[1:]} == {text.split("_")[1]}
    content = (data / CURRENT).read_text()
    for word in (*SECRET_WORDS, text.rpartition("_")[2], "clinic", "part0"):
        assert word not in content


def test_it_is_written_before_it_is_answered(
    world: tuple[Path, Owner, str], material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, owner, _ = world

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Audit, "append", full)
    answer = owner.ask("POST", "/v1/files", json=manifest(material.parts[0], "images"))
    assert (answer.status_code, answer.json()["error"]["kind"]) == (500, "Unrecorded")
    assert set(answer.json()) == {"error"}  # and nothing of what it would have been


def test_the_command(world: tuple[Path, Owner, str], capsys: pytest.CaptureFixture[str]) -> None:
    data, owner, _ = world
    assert main(["audit", "verify", "--data", str(data), "--json"]) == 0
    head = json.loads(capsys.readouterr().out)["head"]
    owner.ask("POST", "/v1/jobs", json={})
    assert main(["audit", "verify", "--data", str(data), "--head", head]) == 0
    assert "2 records in one chain" in capsys.readouterr().out
    assert main(["audit", "verify", "--data", str(data), "--head", "7:x"]) == 1
    (data / CURRENT).write_bytes((data / CURRENT).read_bytes().replace(b"token create", b"token revoke"))
    assert main(["audit", "verify", "--data", str(data)]) == 1
    assert "altered" in capsys.readouterr().err


def test_operations_need_no_token_and_name_nobody(world: tuple[Path, Owner, str], material: Material) -> None:
    _, owner, _ = world
    owner.upload(material.parts[0])
    health = owner.http.get("/healthz").json()
    assert health == owner.http.get("/readyz").json()
    assert health["status"] == "ok"
    text = owner.http.get("/metrics").text
    for line in (
        'cipherlens_requests_total{method="POST",route="/v1/files",status="200"} 1.0',
        'cipherlens_jobs{state="queued"} 0.0',
        f'cipherlens_stored_bytes{{kind="images"}} {float(material.parts[0].stat().st_size)}',
        "cipherlens_audit_records 3.0",
    ):
        assert line in text, text
    assert re.search(r"cipherlens_disk_free_bytes [1-9]", text)
    assert "clinic" not in text
    for path in ("/docs", "/redoc", "/nothing"):
        answer = owner.http.get(path)
        assert (answer.status_code, answer.json()["error"]["kind"]) == (404, "NotFound")


def test_metrics_count_work_and_deaths_and_survive_both(tmp_path: Path, material: Material) -> None:
    with serving(tmp_path / "data") as service, client(service.url, token(service.data), patience=20) as owner:
        files = [owner.upload(part) for part in material.parts]
        keys = owner.upload(material.keys, "evaluation_keys")
        dataset = owner.done("POST", "/v1/datasets", json={"file_ids": files})["dataset_id"]
        owner.wait(owner.submit("t", kind="train", dataset_id=dataset, keys_file_id=keys))
        service.kill("worker")
        deadline = time.monotonic() + 20
        while 'cipherlens_deaths_total{role="worker"} 1.0' not in owner.ask("GET", "/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        service.stop()
        service.start()
        text = owner.ask("GET", "/metrics").text
        assert 'cipherlens_jobs_ended_total{kind="train",state="done"} 1.0' in text
        assert re.search(r'cipherlens_job_seconds_total\{kind="train"\} 0\.[0-9]*[1-9]|[1-9]', text)
        assert 'cipherlens_deaths_total{role="worker"} 1.0' in text


# ---- documents and the unit ------------------------------------------------------------------------------------------


def test_the_openapi_document_is_the_one_in_the_repository(world: tuple[Path, Owner, str]) -> None:
    stored = (ROOT / "docs" / "openapi.json").read_text(encoding="utf-8")
    assert stored == document(), "the interface has changed; if that is meant, run: make openapi"
    assert world[1].http.get("/openapi.json").json() == json.loads(stored)


def test_every_route_says_how_it_refuses() -> None:
    for path, methods in json.loads(document())["paths"].items():
        if path.startswith("/v1") and path != "/v1/identity":
            for method, about in methods.items():
                assert {"401", "404", "422"} <= set(about["responses"]), f"{method} {path}"


@pytest.mark.parametrize("days", ["nan", "inf", "-inf", "0"])
def test_a_retention_is_a_number_of_days(days: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (("serve",), ("token", "create", "--tenant", "t")):
        assert main((*command, "--data", str(tmp_path / "data"), "--retention-days", days)) in (1, 2)  # 2 is Typer's
        said = capsys.readouterr().err
        assert "retention" in said and "defect" not in said
    assert not (tmp_path / "data" / NAME).exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="Debian's package systemd is not installed")
def test_the_systemd_unit(tmp_path: Path) -> None:
    text = (ROOT / "packaging" / "cipherlens.service").read_text()
    seconds = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert seconds is not None
    assert int(seconds[1]) > GRACE_SECONDS
    command = tmp_path / "cipherlens"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    unit = tmp_path / "cipherlens.service"
    unit.write_text(text.replace("/opt/cipherlens/bin/cipherlens", str(command)))
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert rated.returncode == 0, rated.stdout[-200:]


# ---- backups, and an orderly end --------------------------------------------------------------------------------------------------


def test_a_backup_of_a_running_service_goes_on_elsewhere(tmp_path: Path, material: Material) -> None:
    """As docs/operations.md tells: files, database, files again, into a folder that a service is started on."""
    backup, secret = tmp_path / "backup", token(tmp_path / "data")
    with serving(tmp_path / "data", checkpoint_seconds=0.0) as service, client(service.url, secret) as owner:
        files = [owner.upload(part) for part in material.parts]
        keys = owner.upload(material.keys, "evaluation_keys")
        dataset = owner.done("POST", "/v1/datasets", json={"file_ids": files})["dataset_id"]
        job = owner.submit("t", kind="train", dataset_id=dataset, keys_file_id=keys)
        while owner.done("GET", f"/v1/jobs/{job}")["state"] == "queued":
            time.sleep(0.01)
        backup.mkdir(mode=0o700)
        unfinished = shutil.ignore_patterns("*.part", "*.sums")
        shutil.copytree(service.data / "tenants", backup / "tenants", ignore=unfinished)
        source, copy = sqlite3.connect(service.data / NAME), sqlite3.connect(backup / NAME)
        source.backup(copy)
        source.close()
        copy.close()
        shutil.copytree(service.data / "tenants", backup / "tenants", ignore=unfinished, dirs_exist_ok=True)
        for path in (service.data / "identity.pem", service.data / CURRENT):
            shutil.copy2(path, backup)
        service_id = owner.http.get("/v1/identity").json()
    head = Audit(backup).verify().head
    with serving(backup) as service, client(service.url, secret) as owner:
        assert owner.http.get("/v1/identity").json() == service_id
        assert owner.download(owner.wait(job)["result_file_id"]) == material.model
        assert owner.download(files[0]) == material.parts[0].read_bytes()
    assert Audit(backup).verify(head).head.number > head.number


def test_a_stop_lets_uploads_finish_and_ends_streams(tmp_path: Path, material: Material) -> None:
    """And a client that stalls in mid-upload does not hold it up beyond the grace."""
    with serving(tmp_path / "data", stall_seconds=60, grace_seconds=2) as service:
        secret = token(service.data)
        with client(service.url, secret, patience=20) as owner:
            files = [owner.upload(part) for part in material.parts]
            keys, query = owner.upload(material.keys, "evaluation_keys"), material.query
            dataset = owner.done("POST", "/v1/datasets", json={"file_ids": files})["dataset_id"]
            declared = owner.done("POST", "/v1/files", json=manifest(query, "images"))
            # The first job keeps the worker busy, so that the second one's stream has no end of its own.
            jobs = [owner.submit(f"{i}", kind="train", dataset_id=dataset, keys_file_id=keys) for i in range(40)]
            piece, streaming, under_way = split(query.read_bytes())[0], threading.Event(), threading.Event()
            ends: dict[str, Any] = {}

            def listen() -> None:
                headers = {"Authorization": f"Bearer {secret}"}
                with (
                    httpx.Client(base_url=service.url, trust_env=False, timeout=30) as http,
                    http.stream("GET", f"/v1/jobs/{jobs[-1]}/events", headers=headers) as events,
                ):
                    for _ in events.iter_bytes():  # raises unless the stream is ended as it should be
                        streaming.set()
                ends["stream"] = "whole"

            def send() -> None:
                def slowly() -> Iterator[bytes]:
                    for start in range(0, len(piece), len(piece) // 4 + 1):
                        yield piece[start : start + len(piece) // 4 + 1]
                        under_way.set()
                        time.sleep(0.3)

                path = f"/v1/files/{declared['file_id']}/pieces/0"
                ends["upload"] = Owner(owner.http, secret).ask("PUT", path, content=slowly()).status_code

            threads = [threading.Thread(target=target) for target in (listen, send)]
            for thread in threads:
                thread.start()
            assert streaming.wait(20)
            assert under_way.wait(20)
            address = urlsplit(service.url)
            with socket.create_connection((address.hostname, address.port or 0)) as stuck:
                stuck.sendall(
                    f"PUT /v1/files/{declared['file_id']}/pieces/0 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {secret}\r\n"
                    "Content-Length: 1000\r\n\r\nx".encode()
                )
                started = time.monotonic()
                assert service.stop() == 0
                assert time.monotonic() - started < GRACE_SECONDS
            for thread in threads:
                thread.join()
            assert ends == {"stream": "whole", "upload": 204}
            service.start()
            again = owner.done("POST", "/v1/files", json=manifest(query, "images"))
            assert again["missing"] == []  # what was confirmed is there
        assert list(service.data.rglob("*.part")) == []  # and not what was half-sent


def test_the_server_side_starts_without_a_browser_or_network() -> None:
    """The page's files are inside the package, where an installed wheel has them too."""
    code = "from importlib.resources import files; print(*sorted(p.name for p in (files('cipherlens.service') / 'page').iterdir()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["index.html", "page.css", "page.js"]
