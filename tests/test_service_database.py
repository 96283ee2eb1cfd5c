"""The database's revisions: made anew, adopted from before there were any, opened by many at once, refused when newer."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import create_engine, select, text

from cipherlens.errors import InputError
from cipherlens.service.database import NAME, Base, Database, Dataset, DatasetFile, File, Job, Tenant, Token
from cipherlens.service.engines import parse_url
from cipherlens.service.migrations import FOLDER

BEFORE_REVISIONS = Path(__file__).parent / "vectors" / "service_before_revisions.sql"


def differences(folder: Path, url: SecretStr | None = None) -> list[object]:
    """Between the models and a database."""
    engine = create_engine(f"sqlite:///{folder / NAME}" if url is None else parse_url(url.get_secret_value()))
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)
    engine.dispose()
    return list(found)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with a database from before there were revisions."""
    with sqlite3.connect(tmp_path / NAME) as connection:
        connection.executescript(BEFORE_REVISIONS.read_text())
    return tmp_path


def test_revisions_make_the_tables_of_the_models(tmp_path: Path, database_url: SecretStr | None) -> None:
    Database(tmp_path, database_url).close()
    assert differences(tmp_path, database_url) == []


def test_revisions_are_named_by_their_numbers() -> None:
    scripts = list(ScriptDirectory(str(FOLDER)).walk_revisions())[::-1]
    numbers = [f"{i + 1:04}" for i in range(len(scripts))]
    assert [script.revision for script in scripts] == numbers
    assert [Path(script.path).name[:5] for script in scripts] == [f"{number}_" for number in numbers]


def test_a_database_from_before_revisions_is_adopted(old: Path) -> None:
    database = Database(old)
    with database.reading() as session:
        counts = [len(session.scalars(select(t)).all()) for t in (Tenant, Token, File, Dataset, DatasetFile, Job)]
        assert counts == [1] * 6
        file = session.scalars(select(File)).one()
        assert (file.size, file.labelled, file.manifest) == (5_000_000_000, True, bytes(32))
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
        assert session.execute(text("PRAGMA foreign_key_check")).all() == []
    database.close()
    assert differences(old) == []
    Database(old).close()
    with sqlite3.connect(old / NAME) as connection:  # the version of that time refuses what is above 1
        assert connection.execute("PRAGMA user_version").fetchone() > (1,)


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path, database_url: SecretStr | None) -> None:
    database = Database(tmp_path, database_url)
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InputError, match=r"newer Cipherlens \(revision 9999; this one knows those up to \d{4}\)"):
        Database(tmp_path, database_url)
    with database.reading() as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    database.close()


OPEN = """
import sys, time
from pathlib import Path
from pydantic import SecretStr
from cipherlens.service.database import Database
print("ready", flush=True)
sys.stdin.readline()
Database(Path(sys.argv[1]), *map(SecretStr, sys.argv[2:])).close()
"""


@pytest.mark.parametrize("start", ["nothing", "old", "postgresql"])
def test_many_processes_open_it_at_once(tmp_path: Path, start: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue("old") if start == "old" else tmp_path
    url = request.getfixturevalue("postgresql").new_database() if start == "postgresql" else None
    command = [sys.executable, "-c", OPEN, str(folder), *([] if url is None else [url.get_secret_value()])]
    opening = [subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) for _ in range(4)]
    for process in opening:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in opening:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [(process.communicate(timeout=60)[1], process.returncode) for process in opening]
    assert ends == [("", 0)] * 4
    assert differences(folder, url) == []
    database = Database(folder, url)
    with database.reading() as session:
        assert len(session.execute(text("SELECT version_num FROM alembic_version")).all()) == 1
    database.close()


def test_a_revision_that_fails_changes_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the disk is full")

    before = list(sqlite3.connect(old / NAME).iterdump())
    with monkeypatch.context() as patch:
        patch.setattr(MigrationContext, "stamp", fail)
        with pytest.raises(RuntimeError, match="full"):
            Database(old)
    assert list(sqlite3.connect(old / NAME).iterdump()) == before
    Database(old).close()
