"""Data sets that contributors append to: trained on as they are at one moment, fetched again and recomputed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_workflow import EVALUATION, Workflow, draw_images, one_sentence
from fake_service import TOKEN, FakeService, connection_to, running

pytest.importorskip("httpx", reason="pip install 'cipherlens[client]' brings httpx")

from provider import Provider, provided

from cipherlens.client.connection import Connection
from cipherlens.client.stored import DataSet
from cipherlens.errors import ServerError


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with provided(tmp_path_factory.mktemp("provider")) as provider:
        yield provider


@pytest.fixture
def service(tmp_path: Path) -> Iterator[FakeService]:
    with running(tmp_path / "server") as service:
        yield service


@pytest.fixture
def server(service: FakeService) -> Iterator[Connection]:
    with connection_to(service.url) as connection:
        yield connection


def told(work: Workflow, *arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(work.run(*arguments, "--json").stdout)
    return found


def contribution(work: Workflow, folder: Path, name: str, seed: int) -> Path:
    """Ten labelled images, encrypted with the public key alone."""
    draw_images(folder / name, 5, seed=seed)
    out = folder / f"{name}.cl"
    public = ("--task", "task.cl", "--keys", "KEYS/public.cl")
    work.run("encrypt", *public, "--images", folder / name, "--out", out)
    return out


def test_from_appending_to_predictions(work: Workflow, provider: Provider, tmp_path: Path) -> None:
    """The owner, who has not seen the contributor's images, trains on them, classifies, recomputes and decrypts."""
    at, keys = provider.options, ("--evaluation-keys", EVALUATION)
    data_set = str(told(work, "upload", "data.cl", "--new-data-set", *at)["data_set"])
    (tmp_path / "token").write_text(
        provider.token("--tenant", "owner", "--scope", "contributor", "--dataset", data_set)
    )
    guest = ["--server", provider.url, "--token-file", str(tmp_path / "token")]
    mine = contribution(work, tmp_path, "mine", seed=3)
    work.run("upload", mine, "--data-set", data_set, *guest)
    train = ("train", "--data-set", data_set, *keys, "--out", tmp_path / "model.cl", *at)
    done = work.run(*train, "--json")
    first = json.loads(done.stdout)
    assert first["images"] == 250
    assert "2 files with 250 images" in done.stderr
    again = told(work, *train)
    assert again["job_id"] == first["job_id"]

    fetched = tmp_path / "fetched"
    download = ("download", "--data-set", data_set, "--out", fetched, *at)
    files = told(work, *download)["files"]
    assert [file["images"] for file in files] == [240, 10]
    parts = [fetched / "0001.cl", fetched / "0002.cl"]
    assert [part.read_bytes() for part in parts] == [(work / "data.cl").read_bytes(), mine.read_bytes()]
    given = [word for part in parts for word in ("--data", str(part))]
    assert told(work, "recompute", tmp_path / "model.cl", *given, *keys)["identical"] is True

    # One more arrives: the old model stays what it was, and a new one has the new images.
    work.run("upload", contribution(work, tmp_path, "more", seed=4), "--data-set", data_set, *guest)
    larger = told(work, *train)
    assert (larger["images"], larger["job_id"] == first["job_id"]) == (260, False)
    parts[0].unlink()
    assert len(told(work, *download)["files"]) == 3
    assert sorted(path.name for path in fetched.iterdir()) == ["0001.cl", "0002.cl", "0003.cl"]
    parts[1].write_bytes(b"mine")
    assert "holds other bytes" in one_sentence(work.run(*download, ok=False).stderr)

    reply = ("--data", "query.cl", *keys, "--out", tmp_path / "reply.cl", *at)
    work.run("classify", "--model", tmp_path / "model.cl", *reply)
    read = told(work, "decrypt", "--reply", tmp_path / "reply.cl", "--keys", "KEYS", "--truth", "test")
    assert read["accuracy"] > 0.8
    for call in (("train", *train[1:3], *keys, "--out", tmp_path / "no.cl"), download[:5]):
        refused = work.run(*call, *guest, ok=False)
        assert "404" in refused.stderr, refused.stderr
    stranger = ("--server", provider.url, "--token-file", str(tmp_path / "stranger"))
    (tmp_path / "stranger").write_text(provider.token("--tenant", "stranger"))
    assert "404" in work.run(*download[:5], *stranger, ok=False).stderr


def test_what_is_appended_meanwhile_changes_nothing(work: Workflow, service: FakeService, server: Connection) -> None:
    data = server.upload(work / "data.cl")
    data_set = server.data_set(server.create_data_set([data]))
    assert data_set == DataSet(data_set.id, 240, 1)
    begun, appended = threading.Event(), threading.Event()

    def hold(job: dict[str, Any]) -> None:
        begun.set()
        appended.wait(20)

    service.work = hold
    job = server.start_fit(data_set, work / EVALUATION)
    assert begun.wait(20)
    server.append(data_set.id, work / "query.cl")  # the stand-in takes images without labels
    appended.set()
    model = server.wait(job)
    assert service.path(model.id).read_bytes() == (work / "model.cl").read_bytes()
    assert [file.images for file in server.data_set_files(data_set.id)] == [240, 16]
    assert server.fit(data, work / EVALUATION) == model  # the same files are the same job, however they are named


def test_a_fixed_set_that_was_changed_is_not_trained_on(
    work: Workflow, service: FakeService, server: Connection
) -> None:
    """It is listed like any other, so an owner may append to it."""
    data = server.upload(work / "data.cl")
    server.delete(server.fit(data, work / EVALUATION))
    (fixed,) = service.datasets
    server.append(fixed, work / "query.cl")
    model = server.fit(data, work / EVALUATION)
    assert service.path(model.id).read_bytes() == (work / "model.cl").read_bytes()
    assert [data.id] in service.datasets.values()


@pytest.mark.parametrize("images", [-1, "many", True, 1 << 62])
def test_numbers_of_images_are_read_with_care(
    work: Workflow, service: FakeService, server: Connection, images: object
) -> None:
    data_set = server.create_data_set([server.upload(work / "data.cl")])
    next(iter(service.files.values()))["images"] = images
    with pytest.raises(ServerError, match="how many images"):
        server.data_set_files(data_set)


def test_commands_say_what_is_wrong(work: Workflow, service: FakeService, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    at = ("--server", service.url, "--token-file", tmp_path / "token")
    train = ("train", "--evaluation-keys", EVALUATION, "--out", tmp_path / "model.cl")
    cases: dict[str, tuple[str | Path, ...]] = {
        "give either --data with files, or --data-set": (*train, *at),
        "or --data-set with the id": (*train, "--data", "data.cl", "--data-set", "0" * 32, *at),
        "give its address with --server": (*train, "--data-set", "0" * 32),
        "is no id": (*train, "--data-set", "mine", *at),
        "has no such thing": (*train, "--data-set", "0" * 32, *at),
        "there is no such data set": ("download", "--data-set", "0" * 32, "--out", tmp_path / "x", *at),
    }
    for words, command in cases.items():
        assert words in one_sentence(work.run(*command, ok=False).stderr)
    assert not (tmp_path / "x").exists()
    data_set = told(work, "upload", "data.cl", "--new-data-set", *at)["data_set"]
    (tmp_path / "file").write_text("mine")
    blocked = work.run("download", "--data-set", data_set, "--out", tmp_path / "file", *at, ok=False)
    assert "cannot be" in one_sentence(blocked.stderr)
