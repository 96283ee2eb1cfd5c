"""What commands may write over, and what they wait for: nothing of the user's is lost, and nothing is waited for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cipherlens.cli.main import main
from cipherlens.cli.options import check_output
from cipherlens.cli.output import Output
from cipherlens.cli.sources import read_truth
from cipherlens.errors import InputError
from cipherlens.features.backbone import Backbone
from cipherlens.wire.container import Kind, Writer


@pytest.mark.parametrize("name", ["pass.txt", "holiday.jpg", "secret.cl", "model.cl"])
@pytest.mark.parametrize("kind", [Kind.MODEL, None])
def test_a_file_of_the_users_is_never_replaced(tmp_path: Path, name: str, kind: Kind | None) -> None:
    path = tmp_path / name
    path.write_bytes(b"no Cipherlens file, or one that is damaged")
    with pytest.raises(InputError, match="holds something else, which would be lost"):
        check_output(path, kind=kind, suffixes=(".csv",))


def test_what_is_replaced(tmp_path: Path) -> None:
    """A file of the same kind, one with the suffix that is written, and an empty one, as `mktemp` makes it."""
    with Writer(tmp_path / "model.cl", Kind.MODEL, {}, {}):
        pass
    check_output(tmp_path / "model.cl", kind=Kind.MODEL)
    with pytest.raises(InputError, match="which would be lost"):
        check_output(tmp_path / "model.cl", kind=Kind.REPLY)
    (tmp_path / "predictions.csv").write_text("file,prediction\n")
    check_output(tmp_path / "predictions.csv", suffixes=(".csv",))
    (tmp_path / "empty").touch()
    check_output(tmp_path / "empty", kind=Kind.MODEL)
    check_output(tmp_path / "new.cl", kind=Kind.MODEL)


def test_plan_replaces_neither_of_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Writer(tmp_path / "task.public.cl", Kind.PUBLIC_TASK, {}, {}):
        pass
    arguments = ["plan", "--images", str(tmp_path / "none"), "--out", str(tmp_path / "task.cl")]
    assert main(arguments) == 1
    assert "task.public.cl exists, and keys and data may depend on it" in capsys.readouterr().err
    (tmp_path / "task.public.cl").write_bytes(b"a key of somebody")
    assert main([*arguments, "--replace"]) == 1
    assert "task.public.cl holds something else" in capsys.readouterr().err


def test_keys_go_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "KEYS").touch()
    arguments = ["keys", "create", "--task", str(tmp_path / "none.cl"), "--out", str(tmp_path / "KEYS")]
    assert main([*arguments, "--no-passphrase"]) == 1
    assert "is a file; name a folder" in capsys.readouterr().err


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """Nobody ever writes to it."""
    os.mkfifo(tmp_path / "pipe.npy")
    return tmp_path / "pipe.npy"


def test_pipes_are_not_waited_for(pipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="a pipe or a device; give a CSV"):
        read_truth(pipe, ["0"], ["a", "b"], Output(as_json=False))
    with pytest.raises(InputError, match="a pipe or a device; give an ONNX"):
        Backbone.load(pipe)
    assert main(["plan", "--images", str(pipe), "--features", "table", "--out", str(pipe.with_name("t.cl"))]) == 1
    assert "a pipe or a device" in capsys.readouterr().err


def test_damaged_tables_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "rows.npy", np.zeros(3))
    arguments = ["plan", "--images", str(tmp_path / "rows.npy"), "--features", "table", "--out"]
    assert main([*arguments, str(tmp_path / "t.cl")]) == 1
    assert "is no table of numbers" in capsys.readouterr().err
