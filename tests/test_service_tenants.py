"""What the operator allows tenants and tokens, by the commands: quotas, retention, a last moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_world import Owner, in_process, manifest

from cipherlens.cli.main import main
from cipherlens.owner.secret_key import SecretKey
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.keys import RELINEARISATION, KeyRequest
from cipherlens.scheme.parameters import Parameters
from cipherlens.service import tokens
from cipherlens.service.database import Database, Tenant
from cipherlens.service.errors import Unauthorized
from cipherlens.service.settings import Settings
from cipherlens.service.supervisor import Supervisor
from cipherlens.service.tokens import DAY, authenticate, still_valid
from cipherlens.wire.keys import write_evaluation_keys

GB = 1_000_000_000


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data")


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main((*arguments, "--json")) == 0
    return json.loads(capsys.readouterr().out)


def made(capsys: pytest.CaptureFixture[str], data: str, *more: str) -> str:
    return str(answer(capsys, "token", "create", "--data", data, "--tenant", "clinic", *more)["token"])


def test_limits_hold_from_now_on(data: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    token = made(capsys, data)
    (before,) = answer(capsys, "tenant", "list", "--data", data)["tenants"]
    assert (before["tenant"], before["stored"], before["unfinished_jobs"]) == ("clinic", 0, 0)
    assert before["retention_days"] is None
    answer(capsys, "tenant", "limit", "clinic", "--data", data, "--quota", "1kB", "--jobs", "0")
    answer(capsys, "tenant", "limit", "clinic", "--data", data, "--retention-days", "30")
    (after,) = answer(capsys, "tenant", "list", "--data", data)["tenants"]
    assert after == before | {"quota_bytes": 1000, "quota_jobs": 0, "retention_days": 30.0}
    assert main(("tenant", "list", "--data", data)) == 0
    shown = capsys.readouterr().out
    assert "clinic" in shown and "30 days" in shown
    log = (Path(data) / "audit.jsonl").read_text(encoding="utf-8")
    assert log.count('"tenant limit"') == 2 and "clinic" not in log

    settings = Settings(data=Path(data))
    database = Database(Path(data))
    with in_process(settings, database) as http:
        owner = Owner(http, token)
        usage = owner.done("GET", "/v1/usage")
        assert (usage["quota_bytes"], usage["quota_jobs"], usage["retention_days"]) == (1000, 0, 30.0)
        path = tmp_path / "keys.cl"
        write_small_keys(path)
        refused = owner.ask("POST", "/v1/files", json=manifest(path, "evaluation_keys"))
        assert refused.status_code == 413
        assert "of the quota of 1000 are left" in refused.json()["error"]["message"]
        answer(capsys, "tenant", "limit", "clinic", "--data", data, "--quota", "1 GB")
        assert owner.ask("POST", "/v1/files", json=manifest(path, "evaluation_keys")).is_success
    database.close()


def write_small_keys(path: Path) -> None:
    parameters = Parameters.generate(1 << 12, 1, scale_bits=30, first_bits=36, special=1, special_bits=36, digit=2)
    secret = SecretKey.create(Engine(parameters))
    write_evaluation_keys(path, secret.evaluation_keys([KeyRequest(RELINEARISATION, 1)]))


def test_a_token_counts_until_its_last_moment(
    data: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    header = f"Bearer {made(capsys, data, '--expires-days', '2')}"
    (listed,) = answer(capsys, "token", "list", "--data", data)["tokens"]
    assert listed["expires"] - listed["created"] == pytest.approx(2 * DAY)
    database = Database(Path(data))
    caller = authenticate(database, header)
    still_valid(database, caller)
    monkeypatch.setattr(tokens.time, "time", lambda: listed["expires"] - 1.0)
    still_valid(database, authenticate(database, header))
    monkeypatch.setattr(tokens.time, "time", lambda: listed["expires"])
    with pytest.raises(Unauthorized):
        authenticate(database, header)
    with pytest.raises(Unauthorized, match="has run out"):
        still_valid(database, caller)
    database.close()


def test_a_service_answers_401_once_a_token_has_run_out(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    endless, short = made(capsys, data), made(capsys, data, "--expires-days", "0.00001")  # 0.86 s
    database = Database(Path(data))
    with in_process(Settings(data=Path(data)), database) as http:
        for _ in range(200):
            last = Owner(http, short).ask("GET", "/v1/jobs")
            if last.status_code == httpx.codes.UNAUTHORIZED:
                break
        else:
            pytest.fail("the token still counts")
        assert Owner(http, endless).ask("GET", "/v1/jobs").is_success
    database.close()


def test_options_of_serve_arrive(
    data: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(Supervisor, "run", lambda self, listening: seen.append(self._settings))
    assert main(("serve", "--data", data, "--job-memory", "1.5TB", "--upload-days", "0.5")) == 0
    assert main(("serve", "--data", data)) == 0
    assert [(s.quota_memory, s.upload_days) for s in seen] == [(1500 * GB, 0.5), (16 * GB, 7.0)]
    assert (seen[1].quota_memory, seen[1].upload_days) == (
        Settings(data=Path(data)).quota_memory, Settings(data=Path(data)).upload_days,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tenant", "limit", "clinic", "--data", "d"), "nothing to change"),
        (("tenant", "limit", "nobody", "--data", "d", "--jobs", "3"), "no tenant nobody"),
        (("tenant", "limit", "clinic", "--data", "d", "--quota", "much"), "--quota is a size such as"),
        (("tenant", "limit", "clinic", "--data", "d", "--quota", "-5GB"), "--quota is a size such as"),
        (("tenant", "limit", "clinic", "--data", "d", "--quota", "99999999999TB"), "--quota is a size such as"),
        (("tenant", "limit", "clinic", "--data", "d", "--retention-days", "nan"), "--retention-days is a number"),
        (("tenant", "list", "--data", "nowhere"), "no service's folder"),
        (("token", "create", "--data", "d", "--tenant", "clinic", "--expires-days", "0"), "--expires-days is a number"),
        (("token", "create", "--data", "d", "--tenant", "clinic", "--expires-days", "inf"), "--expires-days is a num"),
        (("serve", "--data", "d", "--upload-days", "nan"), "--upload-days is a number"),
        (("serve", "--data", "d", "--job-memory", "lots"), "--job-memory is a size such as"),
    ],
)
def test_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...],
    words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    made(capsys, "d")
    with Database(tmp_path / "d").reading() as session:
        before = session.query(Tenant).one().quota_bytes
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    with Database(tmp_path / "d").reading() as session:
        assert session.query(Tenant).one().quota_bytes == before
