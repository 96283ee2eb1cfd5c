"""The folder of an owner's keys: all three files or none, and nothing replaced, whoever else writes there."""

from __future__ import annotations

import shutil
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest

import cipherlens as cl
from cipherlens.errors import InputError
from cipherlens.owner.keys import EVALUATION, PUBLIC, SECRET, Keys
from cipherlens.wire.container import NoRoom


@pytest.fixture(scope="module")
def keys() -> Keys:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(60, 3))
    task = cl.plan(rows, rng.integers(0, 2, 60).tolist(), features="table", learner="linear_means")
    return Keys.create(task)


def test_two_that_write_at_once_leave_one_pair(keys: Keys, tmp_path: Path) -> None:
    others = [keys, Keys.create(keys.task)]
    for attempt in range(5):
        folder, start = tmp_path / f"keys{attempt}", Barrier(2)
        refused: list[InputError] = []

        def save(own: Keys, folder: Path = folder, start: Barrier = start, refused: list[InputError] = refused) -> None:
            start.wait()
            try:
                own.save(folder, None)
            except InputError as error:
                refused.append(error)

        threads = [Thread(target=save, args=(own,)) for own in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(path.name for path in folder.iterdir()) == sorted((SECRET, PUBLIC, EVALUATION))
        assert len(refused) == 1
        Keys.load(keys.task, folder)  # raises KeyMismatch if the files were of two pairs


def test_a_failure_leaves_nothing(keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cipherlens.owner.keys.write_public_key", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keys.save(tmp_path / "new", None)
    assert not (tmp_path / "new").exists()


def test_what_is_there_stays(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / SECRET).write_text("precious")
    with pytest.raises(InputError, match="never replaced"):
        keys.save(tmp_path, None)
    assert (tmp_path / SECRET).read_text() == "precious" and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_names_the_folder_that_was_given(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = type(shutil.disk_usage(tmp_path))(1000, 1000, 0)
    monkeypatch.setattr("cipherlens.wire.writer.shutil.disk_usage", lambda _: full)
    with pytest.raises(NoRoom, match=r"needs .* MB and its disk has 0\.0 MB free; make room") as caught:
        keys.save(tmp_path / "new", None)
    assert str(caught.value).startswith(f"{tmp_path / 'new' / EVALUATION} needs")
    assert list(tmp_path.iterdir()) == []
