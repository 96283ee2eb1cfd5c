"""What the service remembers, in SQLite or PostgreSQL."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pydantic import SecretStr
from sqlalchemy import (
    BigInteger,
    Double,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    Update,
)
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from cipherlens.errors import InputError, ServerError
from cipherlens.service.engines import parse_url, postgresql_engine, reason, sqlite_engine
from cipherlens.service.errors import Unavailable
from cipherlens.service.logging import defect
from cipherlens.service.migrations import upgrade
from cipherlens.service.service_lock import ServiceLock

NAME = "service.sqlite3"
POLL_SECONDS = 0.1


def new_id() -> str:
    """32 hexadecimal digits that nobody can guess."""
    return secrets.token_hex(16)


class Base(DeclarativeBase):
    """Tables, as the newest of the `migrations` leaves them. Times are seconds since 1970 in UTC."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger().with_variant(Integer(), "sqlite"),  # 64 bits in every database
        float: Double(),
    }


class Tenant(Base):
    """Who owns files, data sets and jobs.

    Attributes:
        retention_days: how long its files are kept; None for what the whole service does.
    """

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(unique=True)
    quota_bytes: Mapped[int]
    quota_jobs: Mapped[int]
    retention_days: Mapped[float | None]
    created: Mapped[float]


class Token(Base):
    """A token's place and the SHA-256 of its secret.

    Attributes:
        expires: from then on it counts for nothing; None for never.
    """

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    scope: Mapped[str]
    dataset_id: Mapped[str | None]
    publication_id: Mapped[str | None]
    note: Mapped[str]
    created: Mapped[float]
    expires: Mapped[float | None]
    revoked: Mapped[float | None]


class File(Base):
    """A file that is being uploaded, or is ready.

    Attributes:
        space: who sees it: "owner", the id of the contributor's token that uploads it, or the id of the publication
            whose trainers it belongs to.
        manifest: SHA-256 of each piece, 32 bytes each; empty for results.
    """

    __tablename__ = "files"
    __table_args__ = (UniqueConstraint("tenant_id", "space", "sha256"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    space: Mapped[str]
    kind: Mapped[str]
    state: Mapped[str]
    size: Mapped[int]
    sha256: Mapped[str]
    manifest: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    parameters_id: Mapped[str]
    key_id: Mapped[str]
    task_id: Mapped[str | None]
    images: Mapped[int | None]
    labelled: Mapped[bool | None]
    created: Mapped[float]
    touched: Mapped[float]


class Dataset(Base):
    """Labelled images of one task and key, in one or more files.

    Attributes:
        idempotency_key, asked: of the request that made it, and the file ids that it named, as canonical JSON.
    """

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("tenant_id", "idempotency_key"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    idempotency_key: Mapped[str | None]
    asked: Mapped[str] = mapped_column(Text)
    task_id: Mapped[str]
    key_id: Mapped[str]
    created: Mapped[float]


class DatasetFile(Base):
    """A file's place in a data set."""

    __tablename__ = "dataset_files"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id"), primary_key=True, index=True)
    position: Mapped[int]


class Publication(Base):
    """A data set that trainers may train on, as it was when it was published.

    Attributes:
        idempotency_key, asked: of the request that made it, and its body as canonical JSON.
        envelope: canonical JSON of the recipes that it allows.
        trainers: canonical JSON: the tenants that may have a trainer's token, by name.
        submissions_each: how many submissions each of them may make.
        withdrawn: since when it takes none any more.
    """

    __tablename__ = "publications"
    __table_args__ = (UniqueConstraint("tenant_id", "idempotency_key"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    idempotency_key: Mapped[str]
    asked: Mapped[str] = mapped_column(Text)
    task_id: Mapped[str]
    key_id: Mapped[str]
    classes: Mapped[int]
    envelope: Mapped[str] = mapped_column(Text)
    trainers: Mapped[str] = mapped_column(Text)
    submissions_each: Mapped[int]
    created: Mapped[float]
    withdrawn: Mapped[float | None]


class PublicationFile(Base):
    """What a publication holds: role is data, keys or holdout."""

    __tablename__ = "publication_files"

    publication_id: Mapped[str] = mapped_column(ForeignKey("publications.id", ondelete="CASCADE"), primary_key=True)
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id"), primary_key=True, index=True)
    role: Mapped[str]
    position: Mapped[int]


class Submission(Base):
    """A trainer's recipe, counted for ever; its model belongs to the trainer's tenant, the reply to the owner's.

    Attributes:
        tenant_id: the trainer's.
        recipe: canonical JSON.
        score: percent of the hold-out, released by the owner; None until then.
    """

    __tablename__ = "submissions"
    __table_args__ = (
        UniqueConstraint("publication_id", "number"),
        UniqueConstraint("publication_id", "tenant_id", "recipe"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    publication_id: Mapped[str] = mapped_column(ForeignKey("publications.id"))
    number: Mapped[int]
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    trainer: Mapped[str]
    recipe: Mapped[str] = mapped_column(Text)
    train_job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), index=True)
    evaluate_job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), index=True)
    model_file_id: Mapped[str | None] = mapped_column(ForeignKey("files.id", ondelete="SET NULL"), index=True)
    reply_file_id: Mapped[str | None] = mapped_column(ForeignKey("files.id", ondelete="SET NULL"), index=True)
    score: Mapped[int | None]
    created: Mapped[float]


class Job(Base):
    """A recipe, how far it is, and who works on it.

    Attributes:
        recipe: canonical JSON of the request; `inputs` of it are fixed when it is submitted.
        inputs: canonical JSON: file ids by role.
        worker, lease: who computes it and until when it counts as alive.
        deaths: workers that died on it since its last checkpoint.
    """

    __tablename__ = "jobs"
    __table_args__ = (UniqueConstraint("tenant_id", "idempotency_key"), Index("jobs_state", "state", "created"))

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    idempotency_key: Mapped[str]
    kind: Mapped[str]
    recipe: Mapped[str] = mapped_column(Text)
    inputs: Mapped[str] = mapped_column(Text)
    state: Mapped[str]
    stage: Mapped[str]
    progress: Mapped[float]
    result_file_id: Mapped[str | None]
    error_kind: Mapped[str | None]
    error_message: Mapped[str | None]
    worker: Mapped[str | None]
    lease: Mapped[float | None]
    deaths: Mapped[int]
    created: Mapped[float]
    started: Mapped[float | None]
    finished: Mapped[float | None]


class Deletion(Base):
    """What was decided to go: its rows are gone with the transaction that wrote this one, its bytes follow.

    Attributes:
        plan_sha256: of what was shown before; asked for twice, it is the same deletion.
        objects: canonical JSON: what a receipt lists.
        receipt: canonical JSON, signed; None until the last byte is gone.
    """

    __tablename__ = "deletions"
    __table_args__ = (UniqueConstraint("tenant_id", "plan_sha256"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    plan_sha256: Mapped[str]
    reason: Mapped[str]
    requested: Mapped[float]
    objects: Mapped[str] = mapped_column(Text)
    receipt: Mapped[str | None] = mapped_column(Text)


class Tally(Base):
    """A number that only grows, for /metrics: it survives restarts and the deletion of what it counted."""

    __tablename__ = "tallies"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]


class Database:
    """Sessions on one database. Threads and processes may use it side by side."""

    def __init__(self, folder: Path, url: SecretStr | None = None) -> None:
        """Open a PostgreSQL database, or else the SQLite one in this folder, and bring it to the newest revision.

        Raises:
            InputError: it cannot be reached, or was written by a newer version.
        """
        parsed = None if url is None else parse_url(url.get_secret_value())
        if parsed is None:
            self._name = str(folder / NAME)
            self._engine = sqlite_engine(folder / NAME)
        else:
            self._name = f"the database {parsed.database} on {parsed.host or parsed.query.get('host', 'this machine')}"
            self._engine = postgresql_engine(parsed)
        self._writing = self._engine.execution_options(transaction="writing")
        try:
            with self._engine.execution_options(transaction="migrating").begin() as connection:
                upgrade(connection, self._name)
        except DBAPIError as error:
            raise InputError(f"{self._name} cannot be used: {reason(error.orig or error, parsed)}") from None
        finally:
            self._engine.dispose()  # SQLite's connection that migrated does not check foreign keys

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One consistent view. Raises Unavailable."""
        with self._session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction, alone among writers; on the disk when the block is left normally, else undone.

        Raises:
            Unavailable: also when it is unknown whether the end of the transaction was carried out.
        """
        with self._session(self._writing) as session:
            yield session

    def forget(self) -> None:
        """Have deleted rows disappear from the journal too, unless somebody reads it just now."""
        if self._engine.dialect.name == "sqlite":
            connection = self._engine.raw_connection()
            try:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
            finally:
                connection.close()

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Session]:
        try:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        except OperationalError as error:
            defect("database", error)
            raise Unavailable("the service's database does not answer; try again later") from None

    @contextmanager
    def alone(self, seconds: float) -> Iterator[Callable[[], None]]:
        """The database for this service alone, as long as its process lives. seconds: how long to wait for it.

        Gives a function to call from time to time: a database that was restarted has forgotten the lock, and the function
        takes it again, or raises ServerError when another service was faster. While the database is away it does nothing.

        SQLite's needs no lock of its own: it lies in the folder, which has one.

        Raises:
            InputError: another service works on it.
        """
        if self._engine.dialect.name == "sqlite":
            yield lambda: None
            return
        lock = ServiceLock(self._engine)
        deadline = time.monotonic() + seconds
        try:
            while not lock.take():
                if time.monotonic() > deadline:
                    raise InputError(f"another service works on {self._name}; stop it first, or name another database")
                time.sleep(POLL_SECONDS)

            def check() -> None:
                if not lock.still_held():
                    raise ServerError(f"another service has begun to work on {self._name} while it was out of reach")

            yield check
        finally:
            lock.release()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def changed_rows(session: Session, statement: Update) -> int:
    """Rows that an UPDATE has changed. (SQLAlchemy's types know of no rowcount before it is executed.)"""
    return int(session.execute(statement).rowcount)  # type: ignore[attr-defined]
