"""Connections to SQLite and to PostgreSQL. Each transaction begins as what it is to be: reading, writing or migrating.

Writers are alone, in both: SQLite's `BEGIN IMMEDIATE` does it, and in PostgreSQL a lock that each takes first and that the
commit gives back. So whatever a writer has read stays true until it has written, as in a serialisable database, and
nothing is to be tried again. Transactions are short; what takes time, such as computing and hashing, stays outside.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from cipherlens.errors import InputError
from cipherlens.service.ownership import give_to_owner

BUSY_SECONDS = 30
CONNECT_SECONDS = 10
IDLE_SECONDS = 10
"""A process that stops in mid-transaction for so long loses it, so that others go on."""

MOST_CONNECTIONS = 64
"""More than threads that answer requests: none waits for another's connection."""

WRITERS = 0x636C7772
SERVICES = 0x636C7372
"""Keys of PostgreSQL's advisory locks: of a transaction that writes, and of the one service on a database."""


def sqlite_engine(path: Path) -> Engine:
    """SQLite in WAL mode, each write on the disk before it is answered."""
    if not path.exists():  # labels and hashes of tokens are the operator's alone
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            give_to_owner(file, path.parent)  # SQLite gives the files that it makes beside it to the same user
        finally:
            os.close(file)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_SECONDS}, max_overflow=MOST_CONNECTIONS)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says, not where the driver guesses
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A reader that becomes a writer half-way could find that another wrote in between: writers say so first.
    transaction = connection.get_execution_options().get("transaction", "reading")
    if transaction == "migrating":  # a table that is made anew is dropped first, which would delete what refers to it
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    connection.exec_driver_sql("BEGIN" if transaction == "reading" else "BEGIN IMMEDIATE")


def parse_url(text: str) -> URL:
    """The URL of a PostgreSQL database.

    Raises:
        InputError: it is none. The text may hold a password, so no message repeats it.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise InputError("the database's URL is not understood; write postgresql://USER@HOST/NAME") from None
    if url.drivername not in ("postgresql", "postgresql+psycopg") or not url.database:
        raise InputError("a database is SQLite in the service's folder, or postgresql://USER@HOST/NAME; give that")
    return url.set(drivername="postgresql+psycopg")


def postgresql_engine(url: URL) -> Engine:
    """PostgreSQL through psycopg. Raises InputError when that is not installed."""
    try:
        engine = create_engine(
            url, connect_args={"connect_timeout": CONNECT_SECONDS}, max_overflow=MOST_CONNECTIONS, pool_pre_ping=True
        )
    except ModuleNotFoundError:
        raise InputError("PostgreSQL needs psycopg; pip install 'cipherlens[service,postgres]'") from None
    event.listen(engine, "connect", _configure_postgresql)
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _configure_postgresql(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = '{BUSY_SECONDS}s'")
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")
    cursor.close()
    connection.commit()


def _begin_postgresql(connection: Connection) -> None:
    transaction = connection.get_execution_options().get("transaction", "reading")
    if transaction == "reading":
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    elif transaction != "none":  # each statement that follows sees all that was written before the lock was given
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")


def reason(error: BaseException, url: URL | None) -> str:
    """Why a database does not open: the first line of its driver's message, without the passwords of the URL."""
    text = next(iter(str(error).splitlines()), type(error).__name__)
    if url is None:
        return text
    if type(error).__name__ == "ProgrammingError" and getattr(error, "sqlstate", None) is None:
        return "its URL's options are not understood"  # the message repeats them
    for word in (url.password, *(value for name, value in url.query.items() if "password" in name)):
        text = text.replace(str(word), "***") if word else text
    return text
