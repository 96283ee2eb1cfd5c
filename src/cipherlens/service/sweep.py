"""Tidying up: what is over its time, and what belongs to nothing."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from sqlalchemy import delete, select

from cipherlens.errors import InputError
from cipherlens.service.audit import Audit
from cipherlens.service.database import Database, File, Tenant
from cipherlens.service.deletion import DAY, Deletions, unneeded_pieces
from cipherlens.service.identity import Identity
from cipherlens.service.jobs import Jobs
from cipherlens.service.logging import defect, say
from cipherlens.service.pieces import Store
from cipherlens.service.settings import Settings
from cipherlens.service.switching_keys import forget_unused_keys

YOUNG_SECONDS = DAY
"""While others are at work, a file that nobody has registered may be one that a worker is about to, once all others that
belong to it are in the storage: so long it stays."""


class Sweeper:
    """Removes what has to go from one service's folder: at the start, and then from time to time."""

    def __init__(self, database: Database, store: Store, jobs: Jobs, settings: Settings) -> None:
        self._database, self._store, self._jobs, self._settings = database, store, jobs, settings
        self._audit = Audit(settings.data)
        self._deletions = Deletions(database, store, Identity.open(settings.data), self._audit)
        self._next = 0.0

    def start(self) -> None:
        """Before anybody is at work: queue again what was running, and remove half-written files too.

        Raises:
            InputError: the files are of another database; nothing is changed.
        """
        with self._database.reading() as session:
            tenants = set(session.scalars(select(Tenant.id)))
        if strangers := {whole.tenant_id for whole in self._store.stored()} - tenants:
            raise InputError(
                f"there are files of {len(strangers)} tenants here that the database does not know, so it belongs to "
                "other files; name the database and the storage that belong together"
            )
        running = self._jobs.release()
        removed = self._store.remove_temporary()
        self._retain()
        say("swept", queued_again=running, removed=removed + self._leftovers(youngest=0.0))
        self._audit.append("service start", tenant=None, token=None, object=None, outcome="ok")
        self._wait()

    def hurry(self) -> None:
        """Look now and not in its turn."""
        self._next = 0.0

    def look(self) -> None:
        """In its turn, while others are at work, remove what has to go. A failure is logged, and tried again."""
        if time.monotonic() < self._next:
            return
        try:
            self._retain()
            removed = self._leftovers(YOUNG_SECONDS)
            if removed:
                say("swept", removed=removed)
        except Exception as error:
            defect("sweep", error)
        self._wait()

    def _wait(self) -> None:
        self._next = time.monotonic() + self._settings.sweep_seconds

    def _retain(self) -> None:
        for tenant, receipt in self._deletions.retain(self._settings.retention_days):
            say("over its time", tenant=tenant, receipt=receipt)

    def _leftovers(self, youngest: float) -> int:
        """Finish interrupted deletions, and remove what belongs to nothing; returns how many files.

        That is files that were never registered or are deleted, what jobs that ended left behind, and uploads that nobody
        touched and switching keys that nobody used for so many days. What is on the disk is listed before the database is
        asked, so that nothing counts as left over that was registered in between.

        youngest: seconds since an unregistered file was written.
        """
        self._deletions.finish_all()
        old = time.time() - self._settings.upload_days * DAY
        with self._database.writing() as session:
            session.execute(delete(File).where(File.state == "uploading", File.touched < old))
            forget_unused_keys(session, self._store, old)
        files, checkpoints = list(self._store.stored()), list(self._store.checkpoints())
        workshops = list(self._store.workshops())
        with self._database.reading() as session:
            known = set(session.scalars(select(File.id)))
        unfinished = self._jobs.unfinished()
        left = [
            *(path for job_id, path in checkpoints if job_id not in unfinished and _age(path) >= youngest),
            *unneeded_pieces(self._database, self._store),
        ]
        for path in left:
            path.unlink(missing_ok=True)
        unknown = [w for w in files if w.file_id not in known and time.time() - w.written >= youngest]
        for whole in unknown:
            self._store.remove(whole.tenant_id, whole.file_id)
        abandoned = [path for job_id, path in workshops if job_id not in unfinished]
        for path in abandoned:
            shutil.rmtree(path, ignore_errors=True)
        return len(left) + len(unknown) + len(abandoned)


def _age(path: Path) -> float:
    """Seconds since a file was written; none for one that is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
