"""Tidying up after whatever ended the service: only when nobody else is at work on its folder."""

from __future__ import annotations

import time

from sqlalchemy import delete, select

from cipherlens.service.database import Database, File
from cipherlens.service.files import split
from cipherlens.service.jobs import Jobs
from cipherlens.service.logging import say
from cipherlens.service.pieces import Store

DAY = 86400.0


def sweep(database: Database, store: Store, jobs: Jobs, upload_days: float) -> None:
    """Queue again what was running, and remove what belongs to nothing.

    That is temporary files, files that were never registered or are deleted, checkpoints of jobs that ended, and
    uploads that nobody touched for `upload_days`.
    """
    running = jobs.release()
    with database.writing() as session:
        old = time.time() - upload_days * DAY
        session.execute(delete(File).where(File.state == "uploading", File.touched < old))
        ready = set(session.scalars(select(File.id).where(File.state == "ready")))
        uploads = session.execute(
            select(File.tenant_id, File.space, File.manifest).where(File.state == "uploading")
        ).all()
    needed = {(tenant, space, piece.hex()) for tenant, space, manifest in uploads for piece in split(manifest)}
    unfinished = jobs.unfinished()
    removed = store.remove_temporary()
    leftovers = [
        *(path for file_id, path in store.files() if file_id not in ready),
        *(path for job_id, path in store.checkpoints() if job_id not in unfinished),
        *(path for tenant, space, path in store.pieces() if (tenant, space, path.name) not in needed),
    ]
    for path in leftovers:
        path.unlink(missing_ok=True)
    say("swept", queued_again=running, removed=removed + len(leftovers))
