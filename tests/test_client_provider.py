"""The client against the real server, not one that fails on demand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_workflow import EVALUATION, Workflow, environment
from fake_service import connection_to
from provider import Provider, provided

from cipherlens.errors import ServerError

pytest.importorskip("httpx", reason="pip install 'cipherlens[client]' brings httpx")

from cipherlens.client.transfer import RemoteFile

ID = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with provided(tmp_path_factory.mktemp("provider")) as provider:
        yield provider


def test_the_real_server_gives_the_same_bytes(work: Workflow, provider: Provider, tmp_path: Path) -> None:
    train = ["train", "--data", "data.cl", "--evaluation-keys", str(work / EVALUATION), *provider.options]
    work.run(*train, "--out", tmp_path / "model.cl")
    assert (tmp_path / "model.cl").read_bytes() == (work / "model.cl").read_bytes()
    classify = ["classify", "--model", "model.cl", "--data", "query.cl", "--evaluation-keys", str(work / EVALUATION)]
    first = work.run(*classify, *provider.options, "--out", tmp_path / "reply.cl", "--json")
    assert (tmp_path / "reply.cl").read_bytes() == (work / "reply.cl").read_bytes()
    again = work.run(*classify, *provider.options, "--out", tmp_path / "reply.cl", "--json")
    assert json.loads(again.stdout)["job_id"] == json.loads(first.stdout)["job_id"]


def test_the_real_server_knows_a_training_again(work: Workflow, provider: Provider) -> None:
    with provider.connect() as server:
        first = server.start_fit(work / "data.cl", work / EVALUATION)
        states = [job.state for job in server.watch(first)]
        assert states[-1] == "done"
        assert server.start_fit(work / "data.cl", work / EVALUATION).id == first.id
        model = server.wait(first)
        server.delete(model)
        assert server.fit(work / "data.cl", work / EVALUATION).sha256 == model.sha256


def test_the_real_server_refuses_in_one_sentence(work: Workflow, provider: Provider, tmp_path: Path) -> None:
    with provider.connect() as server:
        with pytest.raises(ServerError, match="404"):
            server.job(ID)
        with pytest.raises(ServerError, match="404"):
            server.download(RemoteFile(ID, "model", 1, "0" * 64), tmp_path / "model.cl")
        keys = server.upload_keys(work / "OTHER" / "evaluation.cl")
        with pytest.raises(ServerError, match="key"):
            server.fit(work / "data.cl", keys)
        with pytest.raises(ServerError, match="no labels"):
            server.fit(work / "query.cl", work / EVALUATION)
    with (
        connection_to(provider.url, "clt_" + "0" * 32 + "_" + "x" * 43) as stranger,
        pytest.raises(ServerError, match="token"),
    ):
        stranger.jobs()


def test_the_example_runs(provider: Provider, tmp_path: Path) -> None:
    example = Path(__file__).parent.parent / "examples" / "remote.py"
    command = [sys.executable, str(example), provider.url, str(provider.token_file), "--folder", str(tmp_path / "mine")]
    done = subprocess.run(command, env=environment(tmp_path / "cache"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "answers are right" in done.stdout
