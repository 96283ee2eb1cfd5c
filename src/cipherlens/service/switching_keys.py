"""Switching keys are kept no longer than they serve: with the new secret key they give the old one."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from cipherlens.service.database import File
from cipherlens.service.files import split
from cipherlens.service.needs import need_of
from cipherlens.service.pieces import Store
from cipherlens.wire.container import Kind


def forget_key(session: Session, store: Store, tenant_id: str, file_id: str) -> None:
    """Delete a switching key, unless another unfinished job needs it.

    Its bytes go before the transaction ends, so that they are gone once it counts. If it does not come to count, the job
    is taken up again: it needs the key no more where everything is switched, and fails and is deleted otherwise.
    """
    file = session.get(File, file_id)
    if file is None or need_of(session, file_id) is not None:
        return
    pieces = split(file.manifest)
    session.delete(file)
    session.flush()
    store.remove(tenant_id, file_id)
    store.remove_pieces(tenant_id, file.space, pieces)
    store.sync(tenant_id)


def forget_unused_keys(session: Session, store: Store, before: float) -> None:
    """Delete the switching keys that were uploaded before this time, in seconds since 1970, and never used."""
    old = select(File).where(File.kind == Kind.SWITCHING_KEY.value, File.state == "ready", File.touched < before)
    for file in session.scalars(old).all():
        forget_key(session, store, file.tenant_id, file.id)
