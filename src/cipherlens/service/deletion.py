"""Deleting for good, and the receipt for it.

One transaction removes the rows and writes down what goes; from then on nobody sees any of it. Then the bytes are
unlinked, and only then the receipt is signed. Whatever a crash leaves in between is finished by the next sweep.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from sqlalchemy import delete, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from cipherlens.service.database import (
    Database,
    Dataset,
    DatasetFile,
    Deletion,
    File,
    Job,
    PublicationFile,
    Tenant,
    new_id,
)
from cipherlens.service.derivation import Derived, derive, derive_target
from cipherlens.service.errors import Conflict, not_found
from cipherlens.service.files import find_file, split
from cipherlens.service.identity import Identity
from cipherlens.service.pieces import Store
from cipherlens.service.schemas import DeletionOrder, DeletionPlan, ReceiptInfo, Target
from cipherlens.service.states import UNFINISHED
from cipherlens.service.submissions import withdraw_those_holding
from cipherlens.service.tokens import Caller
from cipherlens.wire.container import canonical_json
from cipherlens.wire.receipt import Deleted, Receipt, SignedReceipt

LISTED = 200
MOST_OBJECTS = 10_000
"""Of one deletion, so that its receipt stays an answer of a few megabytes."""

CHUNK = 500
"""Ids in one statement, well below what databases take as parameters."""

DAY = 86400.0


class Deletions:
    """Deletions of all tenants. Threads and processes may use it side by side."""

    def __init__(self, database: Database, store: Store, identity: Identity) -> None:
        self._database, self._store, self._identity = database, store, identity

    def plan(self, caller: Caller, target: Target) -> DeletionPlan:
        """What would go. Raises NotFound, and Conflict for more than one deletion removes."""
        with self._database.reading() as session:
            return _bounded(derive_target(session, caller, target)).plan()

    def delete(self, caller: Caller, order: DeletionOrder) -> SignedReceipt:
        """Delete what a plan has shown; unfinished jobs among it are cancelled. Asked again it gives the same receipt.

        Raises:
            NotFound: the tenant has no such thing.
            Conflict: what would go is no longer what was shown.
        """
        with self._database.writing() as session:
            deletion_id = session.scalar(
                select(Deletion.id).where(
                    Deletion.tenant_id == caller.tenant_id, Deletion.plan_sha256 == order.plan_sha256
                )
            )
            if deletion_id is None:
                derived = _bounded(derive_target(session, caller, order))
                if derived.plan().plan_sha256 != order.plan_sha256:
                    raise Conflict("what would be deleted has changed since it was shown; look at the plan again")
                deletion_id = decide(session, caller.tenant_id, derived, "request")
        return self.finish(deletion_id)

    def delete_file(self, caller: Caller, file_id: str) -> SignedReceipt:
        """Delete one file and nothing else.

        Raises:
            NotFound: no such file.
            Conflict: a data set, a publication or an unfinished job needs it.
        """
        with self._database.writing() as session:
            file = find_file(session, caller, file_id)
            if session.scalar(select(DatasetFile.dataset_id).where(DatasetFile.file_id == file_id).limit(1)):
                raise Conflict("a data set holds this file; delete the data set first")
            if session.scalar(select(PublicationFile.file_id).where(PublicationFile.file_id == file_id).limit(1)):
                raise Conflict("a publication holds this file; withdraw the publication first")
            # Also jobs of other tenants: trainings of what was published, evaluations of what was submitted.
            unfinished = select(Job.id).where(Job.state.in_(UNFINISHED), Job.inputs.contains(file_id))
            if session.scalar(unfinished.limit(1)):
                raise Conflict("an unfinished job needs this file; wait for it or cancel it first")
            alone = Derived((file,), frozenset(), frozenset())
            deletion_id = decide(session, caller.tenant_id, alone, "request")
        return self.finish(deletion_id)

    def retain(self, default_days: float | None) -> list[tuple[str, str]]:
        """Delete what is older than its tenant's limit, with everything derived; returns pairs of tenant and receipt.

        default_days: of tenants without a limit of their own; None keeps everything.
        """
        with self._database.reading() as session:
            tenants = session.execute(select(Tenant.id, Tenant.retention_days)).all()
        done = []
        for tenant_id, own in tenants:
            days = default_days if own is None else own
            if days is None:
                continue
            with self._database.writing() as session:
                expired = _expired(session, tenant_id, time.time() - days * DAY)
                deletion_id = decide(session, tenant_id, expired, "retention") if expired.objects else None
            if deletion_id is not None:
                self.finish(deletion_id)
                done.append((tenant_id, deletion_id))
        return done

    def finish_all(self) -> int:
        """Finish what a crash interrupted; returns how many."""
        with self._database.reading() as session:
            waiting = session.scalars(select(Deletion.id).where(Deletion.receipt.is_(None))).all()
        for deletion_id in waiting:
            self.finish(deletion_id)
        return len(waiting)

    def finish(self, deletion_id: str) -> SignedReceipt:
        """Unlink the bytes of a deletion, durably, and sign its receipt; once more changes nothing."""
        with self._database.reading() as session:
            row = session.get_one(Deletion, deletion_id)
        if row.receipt is None:
            objects = tuple(Deleted(**thing) for thing in json.loads(row.objects))
            self._erase(row.tenant_id, objects)
            receipt = Receipt(
                row.id, self._identity.info.service, row.tenant_id, row.reason, int(row.requested), int(time.time()), objects
            )  # fmt: skip
            text = self._identity.sign(receipt).to_bytes().decode()
            mine = (Deletion.id == deletion_id, Deletion.receipt.is_(None))  # else another process was faster
            with self._database.writing() as session:
                session.execute(update(Deletion).where(*mine).values(receipt=text))
            with self._database.reading() as session:
                row = session.get_one(Deletion, deletion_id, populate_existing=True)
        return SignedReceipt.from_bytes((row.receipt or "").encode())

    def list(self, caller: Caller) -> list[ReceiptInfo]:
        """The tenant's newest deletions, newest first."""
        query = select(Deletion).where(Deletion.tenant_id == caller.tenant_id).order_by(Deletion.requested.desc())
        with self._database.reading() as session:
            return [_info(row) for row in session.scalars(query.limit(LISTED))]

    def receipt(self, caller: Caller, deletion_id: str) -> SignedReceipt:
        """A receipt of this tenant. Raises NotFound."""
        with self._database.reading() as session:
            row = session.get(Deletion, deletion_id)
        if row is None or row.tenant_id != caller.tenant_id:
            raise not_found("receipt")
        return self.finish(deletion_id)

    def _erase(self, tenant_id: str, objects: tuple[Deleted, ...]) -> None:
        for thing in objects:
            if thing.kind == "job":
                self._store.forget_work(tenant_id, thing.id)
            elif thing.kind != "data_set":
                self._store.remove(tenant_id, thing.id)
        if any(thing.kind == "upload" for thing in objects):
            for path in unneeded_pieces(self._database, self._store, tenant_id):
                path.unlink(missing_ok=True)
        self._store.sync(tenant_id)
        self._database.forget()


def unneeded_pieces(database: Database, store: Store, tenant_id: str | None = None) -> list[Path]:
    """Pieces that no upload waits for, of one tenant or of all. A piece that is needed is never among them.

    They are listed before the uploads are asked for: whatever is there at that moment was announced earlier.
    """
    there = list(store.pieces(tenant_id))
    query = select(File.tenant_id, File.space, File.manifest).where(File.state == "uploading")
    with database.reading() as session:
        uploads = session.execute(query).all()
    needed = {(tenant, space, piece.hex()) for tenant, space, manifest in uploads for piece in split(manifest)}
    return [path for tenant, space, path in there if (tenant, space, path.name) not in needed]


def _bounded(derived: Derived) -> Derived:
    count = len(derived.files) + len(derived.datasets) + len(derived.jobs)
    if count > MOST_OBJECTS:
        raise Conflict(f"{count} files, data sets and jobs depend on this, and {MOST_OBJECTS} go at once; delete parts")
    return derived


def _expired(session: Session, tenant_id: str, limit: float) -> Derived:
    """What is over a tenant's limit, and what is derived from it; the rest of a large amount is for the next time.

    Files count from their arrival and jobs from their end. Evaluation keys stay as long as there is anything under them.
    """
    old = select(File.id).where(File.tenant_id == tenant_id, File.created < limit).order_by(File.created)
    files = set(session.scalars(old.where(File.kind != "evaluation_keys").limit(MOST_OBJECTS // 4)))
    ended = select(Job.id).where(Job.tenant_id == tenant_id, Job.finished < limit).order_by(Job.finished)
    jobs = set(session.scalars(ended.limit(MOST_OBJECTS // 4)))
    leaving = {file.id for file in derive(session, tenant_id, files, (), jobs).files} if files or jobs else set()
    others = session.execute(
        select(File.id, File.key_id).where(File.tenant_id == tenant_id, File.kind != "evaluation_keys")
    )
    served = {key for file, key in others if file not in leaving}
    keys = session.execute(
        select(File.id, File.key_id).where(
            File.tenant_id == tenant_id, File.kind == "evaluation_keys", File.created < limit
        )
    )
    idle = {file for file, key in keys if key not in served}
    if not (files or jobs or idle):  # as nearly always: not worth the whole graph
        return Derived((), frozenset(), frozenset())
    return derive(session, tenant_id, files | idle, (), jobs)


def decide(session: Session, tenant_id: str, derived: Derived, reason: str) -> str:
    """Remove the rows and write down what goes; publications that hold any of it are withdrawn. Returns the deletion's id."""
    plan = derived.plan()
    files = [file.id for file in derived.files]
    for some in _portions(files):
        withdraw_those_holding(session, some)
    _remove(session, DatasetFile.file_id, files)
    _remove(session, DatasetFile.dataset_id, derived.datasets)
    _remove(session, Dataset.id, derived.datasets)
    _remove(session, Job.id, derived.jobs)
    _remove(session, File.id, files)
    deletion = Deletion(
        id=new_id(), tenant_id=tenant_id, plan_sha256=plan.plan_sha256, reason=reason, requested=time.time(),
        objects=canonical_json([thing.model_dump() for thing in plan.objects]),
    )  # fmt: skip
    session.add(deletion)
    return deletion.id


def _remove(session: Session, column: InstrumentedAttribute[str], ids: Iterable[str]) -> None:
    for some in _portions(list(ids)):
        session.execute(delete(column.class_).where(column.in_(some)), execution_options={"synchronize_session": False})


def _portions(ids: list[str]) -> Iterator[list[str]]:
    return (ids[i : i + CHUNK] for i in range(0, len(ids), CHUNK))


def _info(row: Deletion) -> ReceiptInfo:
    objects = json.loads(row.objects)
    erased = None if row.receipt is None else float(json.loads(row.receipt)["receipt"]["erased"])
    return ReceiptInfo.model_validate(
        {
            "receipt_id": row.id, "reason": row.reason, "objects": len(objects),
            "size": sum(thing["size"] or 0 for thing in objects), "requested": row.requested, "erased": erased,
        }
    )  # fmt: skip
