"""Commands with `--server`: the file workflow by way of a server, from several machines."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_workflow import CLASSES, Workflow, draw_images
from fake_service import TOKEN, FakeService, running

pytest.importorskip("httpx", reason="pip install 'cipherlens[client]' brings httpx")

from provider import Provider, provided

from cipherlens.cli.app import run_command
from cipherlens.errors import InputError
from cipherlens.owner import OwnerSecrets

ID = "[0-9a-f]{32}"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with provided(tmp_path_factory.mktemp("provider")) as provider:
        yield provider


@pytest.fixture
def service(tmp_path: Path) -> Iterator[FakeService]:
    with running(tmp_path / "server") as service:
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        yield service


def options(service: FakeService, tmp_path: Path) -> list[str]:
    return ["--server", service.url, "--token-file", str(tmp_path / "token")]


def facts(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


# ---- the whole way, with the real server ----------------------------------------------------------------------------


def test_asked_on_one_machine_and_read_on_another(work: Workflow, provider: Provider, tmp_path: Path) -> None:
    """Nothing but KEYS and the token goes from the first machine to the second; the server is the only other way."""
    first, second = Workflow(tmp_path / "first"), Workflow(tmp_path / "second")
    first.root.mkdir()
    draw_images(first / "train", 40, seed=1)
    draw_images(first / "new", 4, seed=2)
    shutil.copy(work / "task.cl", first / "task.cl")
    at, keys = provider.options, ("--evaluation-keys", "KEYS/evaluation.cl")
    made = facts(first.run("keys", "create", "--task", "task.cl", "--no-passphrase", "--out", "KEYS", "--json", *at))
    encrypt = ("encrypt", "--task", "task.cl", "--keys", "KEYS", "--json", *at)
    sent = facts(first.run(*encrypt, "--images", "train", "--out", "train.cl"))
    first.run(*encrypt, "--images", "new", "--no-labels", "--out", "new.cl")
    with provider.connect() as server:
        there = {file.id: file for file in server.files()}
    assert there[str(sent["file_id"])].size == (first / "train.cl").stat().st_size
    assert there[str(made["file_id"])].kind == "evaluation_keys"
    assert "secret.cl" not in str(there)
    first.run("train", "--data", "train.cl", *keys, "--out", "model.cl", *at)
    first.run("classify", "--model", "model.cl", "--data", "new.cl", *keys, "--out", "reply.cl", *at)
    with provider.connect() as server:
        assert {file.id for file in server.files()} >= there.keys()  # what was encrypted was sent, and once
        assert len(server.files()) == len(there) + 2

    second.root.mkdir()
    shutil.copytree(first / "KEYS", second / "KEYS")
    listed = json.loads(second.run("jobs", "--json", *at).stdout)["jobs"]
    reply, model = listed[:2]
    assert [reply["kind"], model["kind"]] == ["classify", "train"]
    assert reply["id"] in second.run("jobs", *at).stdout
    read = second.run("decrypt", "--reply", reply["id"], "--keys", "KEYS", "--out", "new.csv", "--json", *at)
    assert (facts(read)["images"], facts(read)["reply"]) == (8, reply["id"])
    rows = (second / "new.csv").read_text().splitlines()[1:]
    assert sum(row.split("/")[0] == row.split(",")[1] for row in rows) >= 7
    opened = second.run("decrypt", "--model", model["result_id"], "--keys", "KEYS", "--save", "model.cl", *at)
    assert "ridge on 80 images" in opened.stdout
    assert (second / "model.cl").read_bytes() == (first / "model.cl").read_bytes()
    refused = second.run("decrypt", "--reply", model["id"], "--keys", "KEYS", *at, ok=False)
    assert "is of the kind model on the server" in refused.stderr

    # Whoever has the data checks, and looks at, what the server says.
    recompute = ("recompute", reply["id"], "--model", "model.cl", "--data", "new.cl", *keys, "--save", "copy.cl")
    assert facts(first.run(*recompute, "--json", *at))["identical"] is True
    assert (first / "copy.cl").read_bytes() == (first / "reply.cl").read_bytes()
    assert "each below its prime" in second.run("inspect", str(sent["file_id"]), *at).stdout
    assert sorted(path.name for path in second.root.iterdir()) == ["KEYS", "model.cl", "new.csv"]


def test_new_keys_are_sent_when_they_are_made(work: Workflow, provider: Provider, tmp_path: Path) -> None:
    new = ("--task", "task.cl", "--keys", "KEYS", "--no-passphrase", "--out", tmp_path / "NEW")
    made = facts(work.run("keys", "rotate", *new, "--json", *provider.options))
    with provider.connect() as server:
        [sent] = [file for file in server.files() if file.id == made["file_id"]]
    assert (sent.kind, sent.size) == ("evaluation_keys", (tmp_path / "NEW" / "evaluation.cl").stat().st_size)


def test_a_contributor_appends(work: Workflow, provider: Provider, tmp_path: Path) -> None:
    made = facts(work.run("upload", "data.cl", "KEYS/evaluation.cl", "--new-data-set", "--json", *provider.options))
    again = facts(work.run("upload", "KEYS/evaluation.cl", "data.cl", "--new-data-set", "--json", *provider.options))
    data_set = str(made["data_set"])
    assert again["data_set"] == data_set
    (tmp_path / "token").write_text(
        provider.token("--tenant", "owner", "--scope", "contributor", "--dataset", data_set)
    )
    at = ["--server", provider.url, "--token-file", str(tmp_path / "token")]
    draw_images(tmp_path / "mine", 5, seed=3)
    encrypt = ("encrypt", "--task", "task.cl", "--keys", "KEYS/public.cl", "--images", tmp_path / "mine")
    out = tmp_path / "mine.cl"
    assert facts(work.run(*encrypt, "--out", out, "--data-set", data_set, "--json", *at))["data_set"] == data_set
    work.run("upload", out, "--data-set", data_set, *at)  # once more, and it counts once
    with provider.connect() as server:
        assert [(s.images, s.files) for s in server.data_sets() if s.id == data_set] == [(250, 2)]
    unlabelled = work.run(*encrypt, "--no-labels", "--out", tmp_path / "none.cl", "--data-set", data_set, *at, ok=False)
    assert "a data set takes images with labels" in unlabelled.stderr
    assert not (tmp_path / "none.cl").exists()


def finished(service: FakeService, job_kind: str, kind: str, result: Path) -> tuple[str, str]:
    """Have a server hold a job that has ended, and its result; returns the ids of both."""
    job, file, content = "a" * 32, "b" * 32, result.read_bytes()
    service.path(file).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    service.files[file] = {"kind": kind, "state": "ready", "size": len(content), "sha256": sha256, "pieces": []}
    service.jobs[job] = {
        "job_id": job, "kind": job_kind, "state": "done", "stage": "done", "progress": 1.0, "result_file_id": file,
    }  # fmt: skip
    return job, file


# ---- what a server sees of a decryption: nothing --------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["answers", "an error", "an interruption"])
def test_nothing_is_sent_once_decrypting_has_begun(
    outcome: str, work: Workflow, service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    at = options(service, tmp_path)
    job, file = finished(service, "classify", "reply", work / "reply.cl")
    seen: list[int] = []
    load, open_reply = OwnerSecrets.load, OwnerSecrets.decrypt

    def loading(*args: object) -> OwnerSecrets:
        seen.append(len(service.requests))
        return load(*args)  # type: ignore[arg-type]

    def decrypting(*args: object) -> object:
        seen.append(len(service.requests))
        if outcome == "an error":
            raise InputError("this reply is not what it should be")
        if outcome == "an interruption":
            raise KeyboardInterrupt
        return open_reply(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(OwnerSecrets, "load", loading)
    monkeypatch.setattr(OwnerSecrets, "decrypt", decrypting)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    decrypt = ["decrypt", "--reply", job, "--keys", str(work / "KEYS"), *at]
    if outcome == "an interruption":
        with pytest.raises(SystemExit):
            run_command(decrypt)
    else:
        assert run_command(decrypt) == (1 if outcome == "an error" else 0)
    assert service.requests[-1] == f"GET /v1/files/{file}"  # the reply, of one piece
    assert seen == [len(service.requests)] * 2
    said, kept = capsys.readouterr(), list(tmp_path.glob("cipherlens-*/*"))
    if outcome == "answers":
        assert CLASSES[0] in said.out
        assert kept == []
    else:
        assert f"is kept in {kept[0]}; go on with that file" in said.err
        assert kept[0].read_bytes() == (work / "reply.cl").read_bytes()


def test_a_reply_under_another_key_is_kept_and_told_to_nobody(
    work: Workflow, service: FakeService, tmp_path: Path
) -> None:
    at = options(service, tmp_path)
    job, _ = finished(service, "train", "model", work / "model.cl")
    saved = tmp_path / "fetched.cl"
    done = work.run("decrypt", "--model", job, "--keys", "OTHER", "--save", saved, *at, ok=False)
    assert done.returncode == 1
    assert f"is kept in {saved}" in done.stderr
    assert re.fullmatch(f"GET /v1/files/{ID}", service.requests[-1])
    asked = len(service.requests)
    work.run("decrypt", "--model", saved, "--keys", "KEYS")
    assert len(service.requests) == asked


# ---- interruptions --------------------------------------------------------------------------------------------------


def test_an_upload_that_fails_goes_on_with_the_same_bytes(work: Workflow, service: FakeService, tmp_path: Path) -> None:
    at = options(service, tmp_path)
    out = tmp_path / "mine.cl"
    encrypt = ("encrypt", "--task", "task.cl", "--keys", "KEYS", "--images", "train", "--out", out, *at)
    service.fail("PUT .*", 422)
    failed = work.run(*encrypt, ok=False)
    assert failed.returncode == 1
    assert f"{out} is written; this sends what is missing of it: cipherlens upload {out} --server" in failed.stderr
    content = out.read_bytes()
    again = work.run(*encrypt, ok=False)
    assert "encrypted again are other bytes" in again.stderr
    assert out.read_bytes() == content
    work.run("upload", out, *at)
    puts = service.count("PUT .*")
    work.run("upload", out, *at)
    assert service.count("PUT .*") == puts
    (stored,) = service.files
    assert service.path(stored).read_bytes() == content
    service.fail("PUT .*", 422)
    keys = work.run("keys", "create", "--task", "task.cl", "--no-passphrase", "--out", tmp_path / "K", *at, ok=False)
    assert f"cipherlens upload {tmp_path / 'K' / 'evaluation.cl'} --server" in keys.stderr
    work.run("upload", tmp_path / "K" / "evaluation.cl", *at)
    secret = (tmp_path / "K" / "secret.cl").read_bytes()
    assert not any(secret in body or secret[-64:] in body for body in service.sent)


# ---- plan -----------------------------------------------------------------------------------------------------------


def test_plan_says_whether_the_server_has_room(work: Workflow, service: FakeService, tmp_path: Path) -> None:
    usage = {
        "stored": {"images": 5_000}, "quota_bytes": 10**12, "unfinished_jobs": 1, "quota_jobs": 2,
        "quota_memory": 10**11, "retention_days": None,
    }  # fmt: skip
    plan = ("plan", "--images", "train", "--features", "pixels:8x8", "--dimension", "64", *options(service, tmp_path))
    service.usage = usage
    planned = facts(work.run(*plan, "--json", "--out", tmp_path / "one.cl"))
    quota, cost = planned["quota"], planned["cost"]
    assert isinstance(quota, dict)
    assert isinstance(cost, dict)
    assert quota["fits"] is True
    assert quota["free_bytes"] == 10**12 - 5_000
    assert quota["evaluation_key_bytes"] == cost["evaluation_key_bytes"]
    assert quota["needed_bytes"] > quota["image_bytes"] + quota["evaluation_key_bytes"]
    service.usage = usage | {"quota_bytes": quota["needed_bytes"] + 4_999, "quota_memory": 1, "unfinished_jobs": 2}
    said = work.run(*plan, "--out", tmp_path / "two.cl").stdout
    assert said.count("DOES NOT FIT") == 3
    assert (tmp_path / "two.cl").exists()
    assert service.requests == ["GET /v1/usage"] * 2
    assert service.sent == [b""] * 2


# ---- options that do not go together --------------------------------------------------------------------------------


def test_commands_say_what_is_wrong(work: Workflow, service: FakeService, tmp_path: Path) -> None:
    at, out = options(service, tmp_path), tmp_path / "out.cl"
    encrypt = ("encrypt", "--task", "task.cl", "--keys", "KEYS", "--images", "test", "--out", out)
    cases: dict[str, tuple[str | Path, ...]] = {
        "--data-set is on a server": (*encrypt, "--data-set", "0" * 32),
        "is no id": (*encrypt, "--data-set", "mine", *at),
        "asks for a token": (*encrypt, "--server", service.url),
        "reply.cl' is no id": ("decrypt", "--reply", "reply.cl", "--keys", "KEYS", *at),
        "--save is for what a server sends": ("decrypt", "--reply", "reply.cl", "--keys", "KEYS", "--save", out),
        "would be lost": ("inspect", "0" * 32, "--save", work / "reply.cl", *at),
        "there is no such job": ("inspect", "0" * 32, *at),
        "exclude each other": ("upload", "data.cl", "--data-set", "0" * 32, "--new-data-set", *at),
        "a data set is made of encrypted images": ("upload", "KEYS/evaluation.cl", "--new-data-set", *at),
        "given twice": ("upload", "data.cl", work / "data.cl", *at),
        "secret.cl holds": ("upload", "data.cl", "KEYS/secret.cl", *at),
    }
    for words, command in cases.items():
        done = work.run(*command, ok=False)
        assert done.returncode == 1
        assert words in done.stderr, (words, done.stderr)
        assert done.stderr.count("\n") == 1
    assert service.count("POST .*") == 0
    assert not out.exists()
