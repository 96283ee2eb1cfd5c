"""`keys rotate` and `switch` as an owner and a server type them."""

from __future__ import annotations

import json
import shutil
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cli_workflow import Workflow, workflow

from cipherlens.cli.main import main


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The folder of every command, with NEW/: the successors of KEYS/, under a passphrase."""
    w = workflow(tmp_path_factory.getbasetemp())
    if not (w / "NEW").exists():
        (w / "words").write_text("correct horse\n")
        rotate(w, "NEW", "--new-passphrase-file", "words")
    return w


def run(w: Workflow, *arguments: str, ok: bool = True) -> tuple[str, str]:
    """A command in this process, in the folder; what it prints and what it says."""
    out, err = StringIO(), StringIO()
    with chdir(w.root), redirect_stdout(out), redirect_stderr(err):
        status = main(arguments)
    assert (status == 0) == ok, f"{arguments}: {err.getvalue()}"
    return out.getvalue(), err.getvalue()


def told(w: Workflow, *arguments: str) -> Any:
    """What a command prints as JSON."""
    return json.loads(run(w, *arguments, "--json")[0])


def rotate(w: Workflow, out: str, *options: str) -> Any:
    return told(w, "keys", "rotate", "--task", "task.cl", "--keys", "KEYS", "--out", out, *options)


def switch(w: Workflow, data: str, out: str, key: str = "NEW/switching.cl") -> Any:
    return told(w, "switch", "--data", data, "--switching-key", key, "--out", out)


def words(w: Workflow, *arguments: str) -> str:
    """The sentence of a command that is refused."""
    said = run(w, *arguments, ok=False)[1]
    assert "Traceback" not in said
    return said


def decrypt(w: Workflow, reply: str, keys: str, *options: str) -> Any:
    return told(w, "decrypt", "--reply", reply, "--keys", keys, "--truth", "test", *options)


def test_everything_goes_on_under_the_new_keys(work: Workflow) -> None:
    switched = switch(work, "data.cl", "data2.cl")
    assert switched["kind"] == "images" and switched["old_key_id"] != switched["key_id"]
    evaluation = ("--evaluation-keys", "NEW/evaluation.cl")
    run(work, "train", "--data", "data2.cl", *evaluation, "--out", "model2.cl")
    assert switch(work, "model.cl", "model3.cl")["kind"] == "model"
    encrypt = ("encrypt", "--task", "task.cl", "--keys", "NEW", "--passphrase-file", "words", "--images", "test")
    run(work, *encrypt, "--no-labels", "--out", "query2.cl")
    before = decrypt(work, "reply.cl", "KEYS")
    for model in ("model2.cl", "model3.cl"):
        run(work, "classify", "--model", model, "--data", "query2.cl", *evaluation, "--out", "reply2.cl")
        after = decrypt(work, "reply2.cl", "NEW", "--passphrase-file", "words")
        assert after["accuracy"] == before["accuracy"]
    assert "another key" in words(work, "decrypt", "--reply", "reply2.cl", "--keys", "KEYS")
    stale = ("decrypt", "--reply", "reply.cl", "--keys", "NEW", "--passphrase-file", "words")
    assert "another key" in words(work, *stale)


def test_names_of_switched_queries_come_back(work: Workflow) -> None:
    switch(work, "query.cl", "query3.cl")
    switch(work, "model.cl", "model4.cl")
    inputs = ("--model", "model4.cl", "--data", "query3.cl", "--evaluation-keys", "NEW/evaluation.cl")
    run(work, "classify", *inputs, "--out", "reply3.cl")
    assert decrypt(work, "reply3.cl", "NEW", "--passphrase-file", "words")["accuracy"] > 0.5


def test_the_server_needs_no_file_of_the_owner_but_the_switching_key(work: Workflow) -> None:
    """And the same inputs give the same bytes there."""
    server = work / "switching-server"
    server.mkdir()
    shutil.copy(work / "data.cl", server)
    shutil.copy(work / "NEW" / "switching.cl", server)
    alone = Workflow(server)
    switch(alone, "data.cl", "data2.cl", "switching.cl")
    switch(work, "data.cl", "own.cl")
    assert (server / "data2.cl").read_bytes() == (work / "own.cl").read_bytes()
    assert [name for name in (b"goldfinch", b"holiday") if name in contents(server)] == []


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("*.cl"))


def test_what_cannot_be_rotated_or_switched_is_refused(work: Workflow) -> None:
    base = ("keys", "rotate", "--task", "task.cl", "--out", "NEVER")
    assert "--new-passphrase-file or --no-passphrase" in words(work, *base, "--keys", "KEYS")
    both = ("--no-passphrase", "--new-passphrase-file", "words")
    assert "exclude each other" in words(work, *base, "--keys", "KEYS", *both)
    other = ("keys", "rotate", "--task", "other.cl", "--keys", "KEYS", "--no-passphrase", "--out", "NEVER")
    assert "another task" in words(work, *other)
    assert "give --passphrase-file" in words(work, *base, "--keys", "NEW", "--no-passphrase")
    again = ("keys", "rotate", "--task", "task.cl", "--keys", "KEYS", "--no-passphrase", "--out", "NEW")
    assert "already holds" in words(work, *again)
    assert not (work / "NEVER").exists()
    key = ("--switching-key", "NEW/switching.cl", "--out", "never.cl")
    switch(work, "data.cl", "moved.cl")
    assert "another key pair" in words(work, "switch", "--data", "moved.cl", *key)
    assert "a reply" in words(work, "switch", "--data", "reply.cl", *key)
    assert "a switching key" in words(
        work, "switch", "--data", "data.cl", "--switching-key", "NEW/evaluation.cl", "--out", "never.cl"
    )
    assert "also an input" in words(
        work, "switch", "--data", "data.cl", "--switching-key", "NEW/switching.cl", "--out", "data.cl"
    )
    assert not (work / "never.cl").exists()


def test_inspect_tells_what_a_switching_key_is(work: Workflow) -> None:
    shown = run(work, "inspect", "NEW/switching.cl")[0]
    assert "to key" in shown and "gives the old one" in shown
    assert told(work, "inspect", "NEW/switching.cl")["kind"] == "switching_key"
    switch(work, "query.cl", "query4.cl")
    assert "or switched to this key" in run(work, "inspect", "query4.cl")[0]
