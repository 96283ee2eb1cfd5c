"""The job that takes a data set to its owner's new key: all its files at once, or none of them.

Each file is switched into the job's workshop, where it appears whole or not at all, and stays until the job ends: after a
kill the next worker goes on with the files that are not there yet. Then all are brought to where whole files are kept, under
ids that nobody knows, and one transaction gives the data set its new files and key id, and ends the job. Files that somebody
appends meanwhile are switched before it. There is a receipt for old files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cipherlens.errors import InputError
from cipherlens.learning.encrypted_images import EncryptedImages, row_bytes
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.keys import KeyChange
from cipherlens.server import switch_images
from cipherlens.service.database import Database, Dataset, DatasetFile, File, Job, Tenant, new_id
from cipherlens.service.datasets import dataset_files
from cipherlens.service.deletion import Deletions, decide
from cipherlens.service.derivation import Derived
from cipherlens.service.endings import end_job
from cipherlens.service.errors import Conflict, QuotaExceeded, Unavailable, not_found
from cipherlens.service.headers import Description, describe_file
from cipherlens.service.jobs import Claim, Jobs, held
from cipherlens.service.needs import need_of
from cipherlens.service.pieces import Store, make_folder
from cipherlens.service.schemas import SwitchRecipe
from cipherlens.wire.disk import file_sha256, sync_folder
from cipherlens.wire.key_change import read_key_change

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Switched:
    """A file of the workshop."""

    path: Path
    about: Description
    size: int
    sha256: str


class Switching:
    """What a worker does with such jobs."""

    def __init__(self, database: Database, store: Store, jobs: Jobs, deletions: Deletions, threads: int) -> None:
        self._database, self._store, self._jobs, self._deletions = database, store, jobs, deletions
        self._threads = threads

    def run(self, claim: Claim, progress: Progress) -> bool:
        """The whole job. False when the worker holds it no longer.

        progress: called with the stage and the share of the work that is done; what it raises ends the work.

        Raises:
            NotFound, Conflict: the data set is gone, or has another key by now.
            QuotaExceeded: no room for files that are up to twice as large.
            KeyMismatch, FormatError, InputError: key and files that do not fit.
        """
        with self._database.reading() as session:
            job = session.get(Job, claim.job_id)
        if job is None:
            return False
        recipe = SwitchRecipe.model_validate_json(job.recipe)
        bench = _Bench(self._store, claim, self._threads)
        done: dict[str, Switched] = {}
        while True:
            self._switch(claim, recipe, bench, done, progress)
            try:
                with self._places(done) as places:
                    ended = self._finish(claim, recipe, done, places)
            except _Elsewhere:
                continue
            if ended is not None:
                return ended

    def _switch(
        self, claim: Claim, recipe: SwitchRecipe, bench: _Bench, done: dict[str, Switched], progress: Progress
    ) -> None:
        """Switch the data set's files that are not done yet."""
        with self._database.reading() as session:
            waiting = [i for i in dataset_files(session, recipe.dataset_id) if i not in done]
            digests = {source: session.get_one(File, source).sha256 for source in waiting}
        with ExitStack() as held_files:  # as long as they are open, they are here to be read
            images = {}
            for source, digest in digests.items():
                held_files.enter_context(self._store.hold(claim.tenant_id, source, digest))
                images[source] = EncryptedImages.load(self._store.path(claim.tenant_id, source))
            self._check_room(claim, recipe, images)
            whole, before = sum(len(part.rows) for part in images.values()), 0
            for source, part in images.items():
                told = partial(_tell, progress, before / whole, len(part.rows) / whole)
                done[source] = bench.switch(source, part, told)
                before += len(part.rows)
                self._jobs.saved(claim)

    def _check_room(self, claim: Claim, recipe: SwitchRecipe, images: Mapping[str, EncryptedImages]) -> None:
        """What is switched takes twice the room where it was seeded, and what it replaces is given back."""
        grown = {}
        for source, part in images.items():
            now, then = sum(row_bytes(part.task, part.seeded)), sum(row_bytes(part.task, seeded=False))
            grown[source] = len(part.rows) * (then if recipe.keep_old else then - now)
        with self._database.reading() as session:
            quota = session.scalars(select(Tenant.quota_bytes).where(Tenant.id == claim.tenant_id)).one()
            used = int(session.scalar(select(func.sum(File.size)).where(File.tenant_id == claim.tenant_id)) or 0)
        if used + sum(grown.values()) > quota:
            raise QuotaExceeded(
                f"switched, this data set takes {sum(grown.values())} bytes more, and {max(0, quota - used)} of the "
                f"quota of {quota} are left; delete files"
            )

    @contextmanager
    def _places(self, done: Mapping[str, Switched]) -> Iterator[Mapping[str, str]]:
        """An id for each result, under which its bytes are kept already. At the end go those that nobody registered.

        Where the database ceased to answer, they may have been registered all the same: then they stay, and the sweep
        removes them if they were not.
        """
        places: dict[str, str] = {}
        chosen: dict[tuple[str, str], tuple[str, str]] = {}
        counting = False
        try:
            for source_id, result in done.items():
                with self._database.reading() as session:
                    source = session.get(File, source_id)
                    if source is None:  # deleted meanwhile, which is found out where it counts
                        continue
                    same = _same(session, source, result)
                what = source.space, result.sha256
                if same is None and what not in chosen:
                    chosen[what] = source.tenant_id, new_id()
                places[source_id] = chosen[what][1] if same is None else same.id
                if same is None or same.state != "ready":
                    self._put(source.tenant_id, places[source_id], result)
            counting = True
            yield places
        except BaseException as error:
            if not (counting and isinstance(error, Unavailable)):
                self._forget(list(chosen.values()))
            raise
        self._forget(list(chosen.values()))

    def _put(self, tenant_id: str, file_id: str, result: Switched) -> None:
        """Bring a result to where whole files are kept."""
        path = self._store.path(tenant_id, file_id)
        if not path.exists():
            os.link(result.path, path)
            path.touch()  # it may have waited in the workshop for long, and has yet to be registered
            sync_folder(path.parent)
        self._store.publish(tenant_id, file_id)

    def _forget(self, placed: list[tuple[str, str]]) -> None:
        """Remove what was placed in vain; what cannot be removed now is left to the sweep."""
        with suppress(Unavailable):
            with self._database.reading() as session:
                ids = [file_id for _, file_id in placed]
                registered = set(session.scalars(select(File.id).where(File.id.in_(ids))))
            for tenant_id, file_id in placed:
                if file_id not in registered:
                    self._store.remove(tenant_id, file_id)

    def _finish(
        self, claim: Claim, recipe: SwitchRecipe, done: Mapping[str, Switched], places: Mapping[str, str]
    ) -> bool | None:
        """Give the data set its new files and end the job. None when there are more files by now; False when lost."""
        deletion_id = None
        with self._database.writing() as session:
            job = held(session, claim)
            if job is None:
                return False
            dataset = session.get(Dataset, recipe.dataset_id)
            sources = dataset_files(session, recipe.dataset_id)
            if dataset is None or not sources:
                raise not_found("data set")
            if set(sources) - set(done):
                return None
            for source in sources:
                self._register(session, source, done[source], dataset.key_id, places[source])
            if len({places[source] for source in sources}) != len(sources):
                raise InputError("one data set is given twice, so its images would count twice; give each once")
            for member in session.scalars(select(DatasetFile).where(DatasetFile.dataset_id == dataset.id)).all():
                session.delete(member)
            session.flush()
            for position, source in enumerate(sources):
                session.add(DatasetFile(dataset_id=dataset.id, file_id=places[source], position=position))
            dataset.key_id = done[sources[0]].about.key_id
            session.flush()
            job.progress, job.stage = 1.0, "done"
            end_job(session, self._store, job, "done")  # before the old files go: from here on it needs them no more
            if not recipe.keep_old:
                old = [session.get_one(File, i) for i in sources if need_of(session, i) is None]
                leaving = Derived(tuple(old), frozenset(), frozenset())
                deletion_id = decide(session, self._store, claim.tenant_id, leaving, "rotation") if old else None
        if deletion_id is not None:
            self._deletions.finish(deletion_id)
        return True

    def _register(self, session: Session, source_id: str, result: Switched, old_key: str, place: str) -> None:
        """A result among the tenant's files, seen by whoever sees its source. Raises Conflict and _Elsewhere."""
        source, about = session.get_one(File, source_id), result.about
        if source.key_id != old_key or about.key_id == old_key:
            raise Conflict("this data set is under another key by now; look at it again")
        file = _same(session, source, result)
        if file is None:
            now = time.time()
            file = File(
                id=place, tenant_id=source.tenant_id, space=source.space, kind=about.kind.value, size=result.size,
                sha256=result.sha256, manifest=b"", parameters_id=about.parameters_id, key_id=about.key_id,
                task_id=about.task_id, images=about.images, labelled=about.labelled, created=now, touched=now,
            )  # fmt: skip
            session.add(file)
        elif file.id != place:
            raise _Elsewhere
        file.state = "ready"  # also where the owner has begun to send the very same bytes
        session.flush()


class _Elsewhere(Exception):
    """Somebody has begun to send the very same bytes since a place was chosen for them: they go there."""


def _same(session: Session, source: File, result: Switched) -> File | None:
    """The file with a result's bytes, among those that are seen by whoever sees its source."""
    same = (File.tenant_id == source.tenant_id, File.space == source.space, File.sha256 == result.sha256)
    return session.scalar(select(File).where(*same))


class _Bench:
    """A job's workshop, and the key, which is read when a file has to be switched."""

    def __init__(self, store: Store, claim: Claim, threads: int) -> None:
        self._store, self._claim, self._threads = store, claim, threads
        self._tools: tuple[KeyChange, Engine] | None = None

    def switch(self, source_id: str, images: EncryptedImages, progress: Progress) -> Switched:
        """One file, switched now or before."""
        folder = self._store.workshop(self._claim.tenant_id, self._claim.job_id)
        path = folder / f"{source_id}.cl"
        if not path.exists():
            make_folder(folder)
            if self._tools is None:
                [key_id] = self._claim.inputs["switching_key"]
                engine = Engine(images.task.parameters)
                with self._store.hold(self._claim.tenant_id, key_id, self._claim.digests[key_id]):
                    self._tools = read_key_change(self._store.path(self._claim.tenant_id, key_id), engine), engine
            change, engine = self._tools
            switch_images(images, change, path=path, threads=self._threads, progress=progress, engine=engine)
        return Switched(path, describe_file(path), path.stat().st_size, file_sha256(path))


def _tell(progress: Progress, before: float, share: float, stage: str, part: float) -> None:
    progress(stage, before + share * part)
