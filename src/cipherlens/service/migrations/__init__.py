"""The tables' revisions, `versions/0001_….py` and on: what opening a database brings it through."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect

from cipherlens.errors import InputError

FOLDER = Path(__file__).parent
FIRST = "0001"
SQLITE_SCHEMA = 2
"""SQLite's user_version. 1 was the first revision's before there were any; code of that time refuses everything above."""


def upgrade(connection: Connection, name: str) -> None:
    """Bring a database to the newest revision, within the connection's transaction. name: for messages.

    The caller sees to it that nobody else upgrades the same database meanwhile.

    Raises:
        InputError: it was written by a newer version.
    """
    names = sorted(path.name[:4] for path in FOLDER.glob("versions/[0-9]*.py"))
    sqlite = connection.dialect.name == "sqlite"
    current = None
    if inspect(connection).has_table("alembic_version"):
        current = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
        if current == names[-1]:
            return
    elif sqlite and connection.exec_driver_sql("PRAGMA user_version").scalar_one() == 1:
        current = FIRST
    if current is not None and current not in names:
        raise InputError(
            f"{name} was written by a newer Cipherlens (revision {current}; this one knows those up to {names[-1]}); "
            "upgrade it"
        )
    _apply(connection, names if current is None else names[names.index(current) + 1 :], names[-1])
    if sqlite:
        connection.exec_driver_sql(f"PRAGMA user_version = {SQLITE_SCHEMA}")


def _apply(connection: Connection, pending: list[str], newest: str) -> None:
    # Costs as much time to import as a process of the service has to spare when it takes over from one that died.
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    context, scripts = MigrationContext.configure(connection), ScriptDirectory(str(FOLDER))
    with Operations.context(context):
        for revision in pending:
            scripts.get_revision(revision).module.upgrade()
    context.stamp(scripts, newest)
