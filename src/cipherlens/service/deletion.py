"""Deleting for good, and the receipt for it.

One transaction removes the rows and writes down what goes; from then on nobody sees any of it. Then the bytes are
unlinked, and only then the receipt is signed. Whatever a crash leaves in between is finished by the next sweep.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from cipherlens.service.audit import Audit
from cipherlens.service.database import (
    Database,
    Dataset,
    DatasetFile,
    Deletion,
    File,
    Job,
    Tenant,
    new_id,
)
from cipherlens.service.derivation import Derived, derive, derive_target
from cipherlens.service.endings import end_job
from cipherlens.service.errors import Conflict, not_found
from cipherlens.service.files import find_file, split
from cipherlens.service.identity import Identity
from cipherlens.service.needs import Need, need_of
from cipherlens.service.paging import portion
from cipherlens.service.pieces import Store
from cipherlens.service.schemas import DeletionOrder, DeletionPlan, ReceiptInfo, ReceiptList, Target
from cipherlens.service.states import UNFINISHED
from cipherlens.service.submissions import withdraw_and_cancel
from cipherlens.service.tokens import Caller
from cipherlens.wire.container import canonical_json
from cipherlens.wire.receipt import Deleted, Receipt, SignedReceipt

MOST_OBJECTS = 10_000
"""Of one deletion, so that its receipt stays an answer of a few megabytes."""

CHUNK = 500
"""Ids in one statement, well below what databases take as parameters."""

DAY = 86400.0

STILL_NEEDED: dict[Need, str] = {
    "data set": "a data set holds this file; delete the data set first",
    "publication": "a publication holds this file; withdraw the publication first",
    "job": "an unfinished job needs this file; wait for it or cancel it first",
}


class Deletions:
    """Deletions of all tenants. Threads and processes may use it side by side."""

    def __init__(self, database: Database, store: Store, identity: Identity, audit: Audit) -> None:
        self._database, self._store, self._identity, self._audit = database, store, identity, audit

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
                deletion_id = decide(session, self._store, caller.tenant_id, derived, "request")
        return self.finish(deletion_id, recorded=True)

    def delete_file(self, caller: Caller, file_id: str) -> SignedReceipt:
        """Delete one file and nothing else.

        Raises:
            NotFound: no such file.
            Conflict: a data set, a publication or an unfinished job needs it.
        """
        with self._database.writing() as session:
            file = find_file(session, caller, file_id)
            need = need_of(session, file_id)
            if need is not None:
                raise Conflict(STILL_NEEDED[need])
            alone = Derived((file,), frozenset(), frozenset())
            deletion_id = decide(session, self._store, caller.tenant_id, alone, "request")
        return self.finish(deletion_id, recorded=True)

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
                deletion_id = decide(session, self._store, tenant_id, expired, "retention") if expired.objects else None
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

    def finish(self, deletion_id: str, *, recorded: bool = False) -> SignedReceipt:
        """Unlink the bytes of a deletion, durably, and sign its receipt; once more changes nothing.

        recorded: whether whoever asked for it writes the audit log. Otherwise it is written here, before the receipt
        counts, so that no crash in between loses the record; at worst it is there twice.
        """
        with self._database.reading() as session:
            row = session.get_one(Deletion, deletion_id)
        if row.receipt is None:
            objects = tuple(Deleted(**thing) for thing in json.loads(row.objects))
            self._erase(row.tenant_id, objects)
            receipt = Receipt(
                row.id, self._identity.info.service, row.tenant_id, row.reason, int(row.requested), int(time.time()), objects
            )  # fmt: skip
            text = self._identity.sign(receipt).to_bytes().decode()
            with self._database.writing() as session:
                row = session.get_one(Deletion, deletion_id)
                if row.receipt is None:  # else another process was faster
                    row.receipt = text
                    if not recorded:
                        self._record(row)
        return SignedReceipt.from_bytes((row.receipt or "").encode())

    def list(self, caller: Caller, before: str | None = None) -> ReceiptList:
        """The tenant's deletions, newest first, a portion of them."""
        query = select(Deletion).where(Deletion.tenant_id == caller.tenant_id)
        with self._database.reading() as session:
            deletions, more = portion(session, query, Deletion.requested, Deletion.id, before)
        return ReceiptList(receipts=[_info(row) for row in deletions], next=more)

    def receipt(self, caller: Caller, deletion_id: str) -> SignedReceipt:
        """A receipt of this tenant. Raises NotFound."""
        with self._database.reading() as session:
            row = session.get(Deletion, deletion_id)
        if row is None or row.tenant_id != caller.tenant_id:
            raise not_found("receipt")
        return self.finish(deletion_id)

    def _record(self, row: Deletion) -> None:
        action = "deletion" if row.reason == "request" else row.reason
        self._audit.append(action, tenant=row.tenant_id, token=None, object=row.id, outcome="ok")

    def _erase(self, tenant_id: str, objects: tuple[Deleted, ...]) -> None:
        for thing in objects:
            if thing.kind == "job":
                self._store.forget_work(tenant_id, thing.id)
            elif thing.kind != "data_set":
                self._store.remove(tenant_id, thing.id)
        if any(thing.kind in ("upload", "switching_key") for thing in objects):
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


def decide(session: Session, store: Store, tenant_id: str, derived: Derived, reason: str) -> str:
    """Remove the rows and write down what goes. Returns the deletion's id.

    Publications that hold any of it are withdrawn, and unfinished jobs that need any of it are over, whosever they are: no
    result of it appears after the receipt.
    """
    plan = derived.plan()
    files = [file.id for file in derived.files]
    withdraw_and_cancel(session, store, derived.withdrawn)
    _cancel(session, store, derived.jobs, set(files))
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


def _cancel(session: Session, store: Store, jobs: Collection[str], files: Collection[str]) -> None:
    """End the unfinished ones among these jobs, and those of any tenant that need any of these files."""
    for job in session.scalars(select(Job).where(Job.state.in_(UNFINISHED))).all():
        if job.id in jobs or any(file_id in files for ids in json.loads(job.inputs).values() for file_id in ids):
            end_job(session, store, job, "cancelled")
    session.flush()


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
