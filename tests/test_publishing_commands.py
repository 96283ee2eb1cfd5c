"""Publishing by commands, and the example of a tournament."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from publishing_world import World, made_world, trainer_token

from cipherlens.cli.main import main


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with made_world(tmp_path_factory.mktemp("publishing") / "data") as made:
        yield made


@dataclass(frozen=True)
class Shell:
    """Commands in this process, in a folder with what the owner has."""

    folder: Path
    url: str
    capture: pytest.CaptureFixture[str]

    def run(self, *arguments: str, token: str, status: int = 0) -> dict[str, Any]:
        (self.folder / "token").write_text(token)
        more = ["--server", self.url, "--token-file", str(self.folder / "token"), "--json"]
        self.capture.readouterr()
        assert main([*arguments, *more]) == status, self.capture.readouterr().err
        found: dict[str, Any] = json.loads(self.capture.readouterr().out)
        return found


@pytest.fixture
def shell(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    for i, part in enumerate(world.data):
        part.save(tmp_path / f"part{i}.cl")
    world.holdout.save(tmp_path / "holdout.cl")
    world.keys.save(tmp_path / "KEYS", None)
    names = [world.keys.task.notes.classes[n] for n in world.truth]
    (tmp_path / "truth.csv").write_text("file,label\n" + "".join(f"{i},{n}\n" for i, n in enumerate(names)))
    return Shell(tmp_path, world.service.url, capsys)


def test_commands(world: World, shell: Shell) -> None:
    owned = ["--data", "part0.cl", "--data", "part1.cl", "--holdout", "holdout.cl"]
    owned += ["--evaluation-keys", "KEYS/evaluation.cl"]
    publish = ["publish", *owned, "--trainer", "iris", "--submissions", "2", "--learner", "ridge"]
    made = shell.run(*publish, "--steps", "1:2", "--ridge", "0.1:0.3", token=world.owner_token)
    assert made["envelope"] == {"learners": ["ridge"], "steps": [1, 2], "ridge": [0.1, 0.3]}
    for bounds in ("2", "1:x", "2:1", "1:9"):
        refused = shell.run(*publish, "--steps", bounds, token=world.owner_token, status=1)
        assert refused["error"]["kind"] in ("InputError", "ServerError")
    place = ["--publication", made["id"]]
    iris = trainer_token(world.service.data, made["id"], "iris")
    refused = shell.run("submit", *place, "--steps", "2", "--ridge", "0.4", token=iris, status=1)
    assert "ridge 0.4; this publication allows 0.1 to 0.3" in refused["error"]["message"]
    done = shell.run("submit", *place, "--steps", "2", "--ridge", "0.3", "--out", "model.cl", token=iris)
    assert (done["number"], done["state"], done["reply_id"]) == (1, "evaluated", None)
    assert shell.run("submissions", *place, token=iris)["submissions"][0]["score"] is None
    release = ["release", *place, "--submission", "1", "--keys", "KEYS", "--truth", "truth.csv"]
    forged = [*owned[:2], *owned[4:]]  # half of the data
    refused = shell.run(*release, *forged, token=world.owner_token, status=1)
    assert refused["error"]["kind"] == "SecurityError"
    assert shell.run("scoreboard", *place, token=iris)["rows"][0]["score"] is None
    released = shell.run(*release, *owned, token=world.owner_token)
    assert released["score"] == int(100 * released["accuracy"] + 0.5)
    (row,) = shell.run("scoreboard", *place, token=iris)["rows"]
    assert row == {
        "number": 1, "trainer": "iris", "recipe": {"learner": "ridge", "steps": 2, "ridge": 0.3},
        "score": released["score"],
    }  # fmt: skip
    again = main(["recompute", "model.cl", *owned[:4], *owned[6:], "--json"])
    assert (again, json.loads(shell.capture.readouterr().out)["recipe"]) == (0, "ridge, 2 steps, ridge 0.3")


def test_a_data_set_of_the_server_is_published_as_it_is_now(world: World, shell: Shell) -> None:
    made = shell.run("upload", "part0.cl", "--new-data-set", token=world.owner_token)
    publish = ["publish", "--data-set", made["data_set"], "--holdout", "holdout.cl", "--trainer", "jo"]
    publish += ["--evaluation-keys", "KEYS/evaluation.cl", "--submissions", "1", "--steps", "1:2"]
    first = shell.run(*publish, token=world.owner_token)
    assert first["images"] == 128
    assert shell.run(*publish, token=world.owner_token)["id"] == first["id"]
    shell.run("upload", "part1.cl", "--data-set", made["data_set"], token=world.owner_token)
    second = shell.run(*publish, token=world.owner_token)
    assert (second["images"], second["id"] == first["id"]) == (256, False)
    with world.connect(world.owner_token) as server:
        images = {publication.id: publication.images for publication in server.publications()}
    assert (images[first["id"]], images[second["id"]]) == (128, 256)
    refused = shell.run(*publish, "--data", "part0.cl", token=world.owner_token, status=1)
    assert "give either --data" in refused["error"]["message"]


def test_the_example_runs(tmp_path: Path) -> None:
    example = Path(__file__).parent.parent / "examples" / "tournament.py"
    done = subprocess.run(
        [sys.executable, str(example), "--folder", str(tmp_path / "mine")], capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "steps 9; this publication allows 1 to 3" in done.stdout
    assert done.stdout.count("%\n") == 3
