"""Transfers: announced by a manifest, sent in pieces, checked as a whole, and only then there."""

from __future__ import annotations

import base64
import io
import shutil
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session, undefer

from cipherlens.errors import CipherlensError, FormatError
from cipherlens.service.database import (
    Database,
    Dataset,
    File,
    Publication,
    Submission,
    Tenant,
    changed_rows,
    new_id,
)
from cipherlens.service.errors import Busy, DiskFull, Invalid, QuotaExceeded, TooLarge, not_found
from cipherlens.service.headers import LARGEST_HEADER, Description, describe_file, describe_header
from cipherlens.service.paging import portion
from cipherlens.service.pieces import Incoming, Store
from cipherlens.service.schemas import Declared, FileInfo, FileList, NewFile
from cipherlens.service.settings import PIECE_BYTES
from cipherlens.service.tokens import Caller
from cipherlens.wire.container import Kind

DIGEST_BYTES = 32
STRIPES = 16
"""Files that are put together at once, at most: fewer than the threads that answer everybody's requests."""

TOUCH_SECONDS = 3600.0
"""So often at most it is noted that pieces of an upload still arrive."""

RESERVE_BYTES = 64 << 20
"""Room on the disk that uploads leave to the database and to results."""


@dataclass(frozen=True)
class Slot:
    """Where a piece belongs.

    Attributes:
        file_id, touched: its upload, and when that was touched last.
        digest, length: what the piece must be.
        target: None when the whole file is there already and needs no piece any more.
    """

    file_id: str
    touched: float
    digest: bytes
    length: int
    target: Path | None


class Files:
    """Files of all tenants. Threads may use it side by side."""

    def __init__(self, database: Database, store: Store, data: Path) -> None:
        self._database, self._store, self._data = database, store, data
        self._assembling = [threading.Lock() for _ in range(STRIPES)]

    def declare(self, caller: Caller, wanted: NewFile) -> Declared:
        """Accept or refuse a file by its header, and tell which pieces are missing. The same file once more goes on.

        Raises:
            Invalid, TooLarge: a manifest that does not fit the size, or a header beyond what services take.
            FormatError, SecurityError: a header that is none, or parameters above the security table.
            QuotaExceeded, DiskFull: no room.
            NotFound: a contributor sends what is not for its data set.
        """
        if len(wanted.pieces) != -(-wanted.size // PIECE_BYTES):
            raise Invalid(
                f"a file of {wanted.size} bytes has {-(-wanted.size // PIECE_BYTES)} pieces of {PIECE_BYTES} bytes, "
                f"not {len(wanted.pieces)}; send the hash of each"
            )
        about = describe_header(Kind(wanted.kind), _decoded(wanted.header), wanted.size)
        pieces = [bytes.fromhex(digest) for digest in wanted.pieces]
        now, dropped = time.time(), b""
        with self._database.writing() as session:
            mine = (File.tenant_id == caller.tenant_id, File.space == caller.space, File.sha256 == wanted.sha256)
            file = session.scalar(select(File).where(*mine).options(undefer(File.manifest)))
            if file is not None and file.state == "ready":
                return Declared(file_id=file.id, state="ready", missing=[])
            if caller.dataset_id is not None:
                self._check_contribution(session, caller, about)
            if file is None:
                self._check_room(session, caller, wanted.size)
                file = File(id=new_id(), tenant_id=caller.tenant_id, space=caller.space, sha256=wanted.sha256)
                file.state, file.created = "uploading", now
                session.add(file)
            else:
                if wanted.size > file.size:
                    self._check_room(session, caller, wanted.size - file.size)
                dropped = file.manifest
            file.size, file.manifest, file.touched = wanted.size, b"".join(pieces), now
            file.kind, file.parameters_id, file.key_id = about.kind.value, about.parameters_id, about.key_id
            file.task_id, file.images, file.labelled = about.task_id, about.images, about.labelled
            session.flush()
            file_id = file.id
        # What was announced under this hash before may have been something else, whose pieces nobody waits for now.
        if left := set(split(dropped)) - set(pieces):
            self._release_pieces(caller.tenant_id, caller.space, left)
        missing = self._store.missing(caller.tenant_id, caller.space, pieces)
        return Declared(file_id=file_id, state="uploading", missing=missing)

    def slot(self, caller: Caller, file_id: str, index: int) -> Slot:
        """Where a piece of an upload belongs. Raises NotFound, also for an index beyond the last."""
        with self._database.reading() as session:
            file = find_file(session, caller, file_id, manifest=True)
        digests = split(file.manifest)
        if not 0 <= index < len(digests):
            raise not_found("piece")
        length = min(PIECE_BYTES, file.size - index * PIECE_BYTES)
        path = self._store.piece(caller.tenant_id, file.space, digests[index])
        return Slot(file_id, file.touched, digests[index], length, None if file.state == "ready" else path)

    def arrived(self, slot: Slot) -> None:
        """Note that an upload goes on, so that it is not forgotten. Pieces are many, so not for each of them."""
        now = time.time()
        if now - slot.touched > TOUCH_SECONDS:
            with self._database.writing() as session:
                same = (File.id == slot.file_id, File.state == "uploading")
                session.execute(update(File).where(*same).values(touched=now))

    def complete(self, caller: Caller, file_id: str) -> FileInfo:
        """Put the pieces together and check the whole; once more changes nothing.

        Raises:
            NotFound: no such file.
            Incomplete: pieces are missing.
            Busy: this file or another one is being put together; nobody waits for that in here, since it can take
                minutes, and a thread that waits is missing to others.
            FormatError, SecurityError: the whole is not what was announced; the upload is forgotten.
        """
        stripe = self._assembling[int(file_id[:2], 16) % STRIPES]
        with self._database.reading() as session:
            file = find_file(session, caller, file_id, manifest=True)
        if file.state == "ready":
            return file_info(file)
        if not stripe.acquire(blocking=False):
            raise Busy("the service is putting this file or another one together; ask again in a moment")
        try:
            return self._assemble(caller, file_id)
        finally:
            stripe.release()

    def info(self, caller: Caller, file_id: str) -> FileInfo:
        """What is known of a file. Raises NotFound."""
        with self._database.reading() as session:
            return file_info(find_file(session, caller, file_id, submitted=True))

    def open(self, caller: Caller, file_id: str) -> tuple[File, io.FileIO]:
        """A whole file, opened: from here on a deletion does not disturb it.

        Raises:
            NotFound: no such file, or one that is still being uploaded.
        """
        with self._database.reading() as session:
            file = find_file(session, caller, file_id, submitted=True)
        if file.state != "ready":
            raise not_found("file")
        try:
            return file, self._store.hold(file.tenant_id, file_id, file.sha256)
        except FileNotFoundError:
            raise not_found("file") from None

    def list(self, caller: Caller, sha256: str | None = None, before: str | None = None) -> FileList:
        """The files that the caller may see, newest first, a portion of them; with `sha256` those of these bytes alone."""
        query = select(File).where(_own(caller))
        if sha256 is not None:
            query = query.where(File.sha256 == sha256)
        with self._database.reading() as session:
            files, more = portion(session, query, File.created, File.id, before)
        return FileList(files=[file_info(file) for file in files], next=more)

    def _assemble(self, caller: Caller, file_id: str) -> FileInfo:
        """As `complete`, for who holds the file's stripe."""
        with self._database.reading() as session:  # once more: the one before may have done it
            file = find_file(session, caller, file_id, manifest=True)
        if file.state == "ready":
            return file_info(file)
        path = self._store.path(caller.tenant_id, file_id)
        with Incoming(path) as incoming:
            digest = self._store.assemble(caller.tenant_id, file.space, split(file.manifest), incoming.file)
            incoming.file.flush()
            try:
                self._check_whole(file, digest, incoming.path)
            except CipherlensError:
                self._forget(caller, file)
                raise
            incoming.keep()
        self._store.publish(caller.tenant_id, file_id)
        with self._database.writing() as session:
            now = time.time()
            same = (File.id == file_id, File.state == "uploading", File.manifest == file.manifest)
            done = changed_rows(session, update(File).where(*same).values(state="ready", touched=now))
        if done != 1:
            self._store.remove(caller.tenant_id, file_id)
            raise not_found("file")
        self._release_pieces(caller.tenant_id, file.space, split(file.manifest))
        return self.info(caller, file_id)

    def _check_contribution(self, session: Session, caller: Caller, about: Description) -> None:
        dataset = session.get(Dataset, caller.dataset_id)
        if dataset is None or about.kind is not Kind.IMAGES:
            raise not_found("data set")
        if (about.task_id, about.key_id) != (dataset.task_id, dataset.key_id) or not about.labelled:
            raise Invalid("these images are not labelled ones of the data set's task and key; encrypt with its task")

    def _check_room(self, session: Session, caller: Caller, size: int) -> None:
        check_quota(session, caller.tenant_id, size)
        # Pieces and the whole lie side by side until the whole is checked.
        if shutil.disk_usage(self._data).free < 2 * size + RESERVE_BYTES:
            raise DiskFull(f"the service has no room for {size} more bytes; ask its operator")

    def _check_whole(self, file: File, digest: str, path: Path) -> None:
        if digest != file.sha256:
            raise FormatError("the pieces together do not have the announced SHA-256; send the file again")
        try:
            about = describe_file(path)
        except CipherlensError as error:
            raise type(error)(str(error).replace(path.name, "the upload")) from None
        announced = (file.kind, file.parameters_id, file.key_id, file.task_id, file.images, file.labelled)
        found = (about.kind.value, about.parameters_id, about.key_id, about.task_id, about.images, about.labelled)
        if found != announced:
            raise FormatError("the file's header is not the one that was announced; send the file again")

    def _forget(self, caller: Caller, file: File) -> None:
        with self._database.writing() as session:
            stored = session.get(File, file.id)
            if stored is not None and stored.state == "uploading":
                session.delete(stored)
        self._release_pieces(caller.tenant_id, file.space, split(file.manifest))

    def _release_pieces(self, tenant_id: str, space: str, digests: Iterable[bytes]) -> None:
        """Remove the pieces that no other upload of the space waits for."""
        with self._database.reading() as session:
            others = session.scalars(
                select(File.manifest).where(File.tenant_id == tenant_id, File.space == space, File.state == "uploading")
            ).all()
        needed = {digest for manifest in others for digest in split(manifest)}
        self._store.remove_pieces(tenant_id, space, set(digests) - needed)


def _decoded(header: str) -> bytes:
    """Raises Invalid, and TooLarge for more than services take."""
    try:
        decoded = base64.b64decode(header, validate=True)
    except ValueError:
        raise Invalid("the header is no base64; send the file's first bytes so encoded") from None
    if len(decoded) > LARGEST_HEADER:
        raise TooLarge(f"the header has {len(decoded)} bytes and may have {LARGEST_HEADER}")
    return decoded


def split(manifest: bytes) -> list[bytes]:
    """The hashes of a manifest."""
    return [manifest[i : i + DIGEST_BYTES] for i in range(0, len(manifest), DIGEST_BYTES)]


def check_quota(session: Session, tenant_id: str, size: int) -> None:
    """Raise QuotaExceeded unless the tenant has room for a file of this size."""
    quota = session.scalars(select(Tenant.quota_bytes).where(Tenant.id == tenant_id)).one()
    used = int(session.scalar(select(func.sum(File.size)).where(File.tenant_id == tenant_id)) or 0)
    if used + size > quota:
        raise QuotaExceeded(
            f"this takes {size} bytes, and {max(0, quota - used)} of the quota of {quota} are left; delete files"
        )


def _own(caller: Caller) -> ColumnElement[bool]:
    """The files of the caller's tenant; of contributors and trainers those of their space."""
    mine = File.tenant_id == caller.tenant_id
    return mine if caller.is_owner else mine & (File.space == caller.space)


def find_file(
    session: Session, caller: Caller, file_id: str, *, manifest: bool = False, submitted: bool = False
) -> File:
    """A file that the caller may see. Raises NotFound.

    submitted: to an owner, also the models that trainers submitted to its publications, which it may read.
    """
    mine = _own(caller)
    if caller.is_owner and submitted:
        theirs = select(Submission.model_file_id).join(Publication, Publication.id == Submission.publication_id)
        mine = mine | File.id.in_(theirs.where(Publication.tenant_id == caller.tenant_id))
    query = select(File).where(File.id == file_id, mine)
    file = session.scalar(query.options(undefer(File.manifest)) if manifest else query)
    if file is None:
        raise not_found("file")
    return file


def file_info(file: File) -> FileInfo:
    """A file as clients see it."""
    return FileInfo.model_validate(
        {
            "file_id": file.id,
            **{name: getattr(file, name) for name in FileInfo.model_fields if name != "file_id"},
        }
    )
