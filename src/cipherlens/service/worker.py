"""The process that computes: `python -m cipherlens.service.worker NAME PIPE`, started by the supervisor."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from cipherlens.errors import CipherlensError, PlanError, ServerError
from cipherlens.learning.encrypted_images import EncryptedImages, ImagesHeader, look_at_images, same_task
from cipherlens.learning.results import TrainedModel, model_bytes, reply_bytes
from cipherlens.learning.task import PublicTask
from cipherlens.planning.cost import classifying_memory, training_memory
from cipherlens.scheme.engine import Engine, usable_cores
from cipherlens.scheme.keys import EvaluationKeys, KeyRequest
from cipherlens.server import classify_to_file, open_cluster, train
from cipherlens.service.audit import Audit
from cipherlens.service.checkpoints import FileCheckpoints
from cipherlens.service.database import Database, new_id
from cipherlens.service.deletion import Deletions
from cipherlens.service.errors import QuotaExceeded, Unavailable, disk_full
from cipherlens.service.headers import Description
from cipherlens.service.identity import Identity
from cipherlens.service.jobs import Claim, Jobs
from cipherlens.service.key_cache import KeyCache
from cipherlens.service.logging import configure, defect, say
from cipherlens.service.pieces import make_folder
from cipherlens.service.process import end_with_parent, read_settings
from cipherlens.service.settings import Settings
from cipherlens.service.storage import open_store
from cipherlens.service.switching import Switching
from cipherlens.wire.container import Kind
from cipherlens.wire.disk import sync_folder
from cipherlens.wire.keys import read_evaluation_keys

if TYPE_CHECKING:
    from cipherlens.server.ray_cluster import RayCluster

IDLE_SECONDS = 0.1
KEPT_SHARE = 2 / 3
"""Of the machine's memory, what all workers together may fill with keys between jobs."""

AWAY_SECONDS = 2.0
"""How long a worker leaves a database or a storage alone that does not answer."""


class Lost(Exception):
    """The job was cancelled, or given to another worker: nothing of it counts any more."""


class Stopping(Exception):
    """The worker was asked to end, and gives the job back."""


class Hold:
    """A job in hand: renews its lease beside the work, and stops the work when it is lost.

    A context manager; `progress` is what the work calls.
    """

    def __init__(self, jobs: Jobs, claim: Claim, seconds: float, stop: threading.Event) -> None:
        self._jobs, self._claim, self._seconds, self._stop = jobs, claim, seconds, stop
        self._stage, self._share = "reading", 0.0
        self._ended, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Hold:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def progress(self, stage: str, share: float) -> None:
        """Note how far the work is. Raises Lost and Stopping, from whichever thread calls."""
        self._stage, self._share = stage, share
        if self._lost.is_set():
            raise Lost
        if self._stop.is_set():
            raise Stopping

    def _renew(self) -> None:
        try:
            while not self._ended.wait(self._seconds):
                if not self._jobs.renew(self._claim, self._stage, self._share):
                    break
        except Exception as error:
            defect("lease", error, job=self._claim.job_id)
        self._lost.set()


class Worker:
    """Takes one job after the other."""

    def __init__(self, settings: Settings, name: str, database: Database) -> None:
        self._settings, self._name = settings, name
        self._store = open_store(settings.data, settings.storage, settings.cache_bytes)
        self._jobs = Jobs(database, self._store, settings.lease_seconds)
        self._threads = settings.threads or max(1, usable_cores() // settings.workers)
        self._switching = Switching(
            database,
            self._store,
            self._jobs,
            Deletions(database, self._store, Identity.open(settings.data), Audit(settings.data)),
            self._threads,
        )
        self._keys = KeyCache()
        self._cluster: RayCluster | None = None
        self.stop = threading.Event()

    def run(self) -> None:
        """Work until `stop` is set."""
        while not self.stop.is_set():
            self._keys.forget_unused()
            try:
                claim = self._jobs.claim(self._name)
                if claim is not None:
                    self.work(claim)
                    continue
            except Unavailable:  # the log says it already; a job in hand is found by its lease
                self.stop.wait(AWAY_SECONDS)
            self.stop.wait(IDLE_SECONDS)

    def work(self, claim: Claim) -> None:
        """One job, to whatever end."""
        say("job begins", job=claim.job_id, tenant=claim.tenant_id, kind=claim.kind)
        end = "done"
        try:
            with Hold(self._jobs, claim, min(0.5, self._settings.lease_seconds / 4), self.stop) as hold:
                self._compute(claim, hold)
        except Lost:
            end = "lost"
        except Stopping:
            self._jobs.give_back(claim)
            end = "given back"
        except Unavailable:
            self._jobs.give_back(claim)
            end = "given back"
            self.stop.wait(AWAY_SECONDS)
        except ServerError as error:
            self.leave()  # so that the next job joins the cluster anew
            end = self._fail(claim, type(error).__name__, str(error))
        except CipherlensError as error:
            told = disk_full(error) or error
            end = self._fail(claim, type(told).__name__, str(told))
        except MemoryError:
            end = self._fail(claim, "OutOfMemory", "the service's memory did not suffice; plan a smaller task")
        except Exception as error:
            if self._jobs.ended(claim):  # its files were deleted under its hands
                end = "lost"
            elif (full := disk_full(error)) is not None:
                defect("disk full", error, job=claim.job_id)
                end = self._fail(claim, type(full).__name__, str(full))
            else:
                defect("job", error, job=claim.job_id)
                end = self._fail(claim, "Defect", "the service failed unexpectedly; its log says where")
        if self._jobs.ended(claim):
            self._store.forget_work(claim.tenant_id, claim.job_id)
        say("job ends", job=claim.job_id, tenant=claim.tenant_id, end=end)

    def _fail(self, claim: Claim, kind: str, message: str) -> str:
        self._jobs.fail(claim, kind, message.replace(f"{self._settings.data}/", ""))
        return f"failed: {kind}"

    def _compute(self, claim: Claim, hold: Hold) -> None:
        if claim.kind == "switch":
            if not self._switching.run(claim, hold.progress):
                raise Lost
            return
        with ExitStack() as inputs:  # as long as they are open, they are here to be read
            for file_id, sha256 in claim.digests.items():
                inputs.enter_context(self._store.hold(claim.tenants[file_id], file_id, sha256))
            result, about = self._train(claim, hold) if claim.kind == "train" else self._classify(claim, hold)
        file_id = new_id()
        path = self._store.path(claim.tenant_id, file_id)
        make_folder(path.parent)
        result.replace(path)
        sync_folder(path.parent)
        try:
            kept = self._jobs.finish(claim, about, file_id)
        except QuotaExceeded:
            self._store.remove(claim.tenant_id, file_id)
            raise
        if not kept:
            self._store.remove(claim.tenant_id, file_id)
            raise Lost

    def _result(self, claim: Claim) -> Path:
        """Where a result is written, in an empty workshop: a worker that died may have left half of one there."""
        folder = self._store.workshop(claim.tenant_id, claim.job_id)
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)
        return folder / "result.cl"

    def _train(self, claim: Claim, hold: Hold) -> tuple[Path, Description]:
        found = [self._header(claim, file_id) for file_id in claim.inputs["data"]]
        same_task((f"data set {i + 1}", f.task, f.key_id) for i, f in enumerate(found))
        task = found[0].task if claim.recipe is None else claim.recipe.applied(found[0].task)
        self._jobs.require_room(claim, model_bytes(task))
        images = sum(f.images for f in found)
        room = self._room(training_memory(task, images, self._threads) + sum(f.resident_bytes for f in found))
        sets = [self._images(claim, file_id) for file_id in claim.inputs["data"]]
        engine, keys = self._evaluation(claim, task, room, task.circuit.key_requests())
        checkpoints = FileCheckpoints(
            self._store.checkpoint(claim.tenant_id, claim.job_id),
            self._settings.checkpoint_seconds,
            self.stop.is_set,
            lambda: self._jobs.saved(claim),
        )
        model = train(
            sets, keys, threads=self._threads, progress=hold.progress, engine=engine, checkpoints=checkpoints,
            cluster=self._join(), recipe=claim.recipe,
        )  # fmt: skip
        path = self._result(claim)
        model.save(path)
        return path, Description(Kind.MODEL, task.parameters.id, model.key_id, task.id, images)

    def _classify(self, claim: Claim, hold: Hold) -> tuple[Path, Description]:
        model, [query_id] = TrainedModel.load(self._path(claim, claim.inputs["model"][0])), claim.inputs["query"]
        task, found = model.task, self._header(claim, query_id)
        same_task([("the model", task, model.key_id), ("the query", found.task, found.key_id)], any_recipe=True)
        self._jobs.require_room(claim, reply_bytes(task, found.images, found.names))
        room = self._room(classifying_memory(task, self._threads) + found.resident_bytes)
        query = self._images(claim, query_id)
        engine, keys = self._evaluation(claim, task, room, task.circuit.score_requests())
        path = self._result(claim)
        classify_to_file(
            path, model, query, keys, threads=self._threads, progress=hold.progress, engine=engine,
            cluster=self._join(),
        )  # fmt: skip
        return path, Description(Kind.REPLY, task.parameters.id, model.key_id, task.id, query.images)

    def _join(self) -> RayCluster | None:
        """The cluster of the settings. Raises InputError and ServerError."""
        if self._cluster is None and self._settings.cluster is not None:
            self._cluster = open_cluster(self._settings.cluster)
        return self._cluster

    def leave(self) -> None:
        """Leave the cluster, if there is one."""
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def _path(self, claim: Claim, file_id: str) -> Path:
        return self._store.path(claim.tenants[file_id], file_id)

    def _images(self, claim: Claim, file_id: str) -> EncryptedImages:
        return EncryptedImages.load(self._path(claim, file_id))

    def _header(self, claim: Claim, file_id: str) -> ImagesHeader:
        """What tells whether there is memory for the rest of the file."""
        return look_at_images(self._path(claim, file_id))

    def _room(self, needed: int) -> int:
        """Bytes of memory that a job leaves of what it may take. needed: by forecast.

        Raises:
            PlanError: it may take more than that.
        """
        most = self._settings.quota_memory
        if needed > most:
            raise PlanError(
                f"this job may take {needed / 1e6:,.0f} MB of memory, and the service allows {most / 1e6:,.0f} MB; plan "
                "with fewer features, or give it fewer images at a time"
            )
        return most - needed

    def _evaluation(
        self, claim: Claim, task: PublicTask, room: int, requests: Sequence[KeyRequest]
    ) -> tuple[Engine, EvaluationKeys]:
        """Engine and keys for a task, kept from an earlier job of the kind where there was one.

        The keys of other jobs stay as far as what this one may take leaves room for them within the same bound, and
        within this worker's part of the machine's memory.
        """
        file_id = claim.inputs["keys"][0]

        def read() -> tuple[Engine, EvaluationKeys]:
            engine = Engine(task.parameters)
            path = self._path(claim, file_id)
            return engine, read_evaluation_keys(path, engine, requests, threads=self._threads)

        room = min(room, int(KEPT_SHARE * physical_memory() / self._settings.workers))
        return self._keys.take((file_id, task.id, claim.kind == "train"), room, read)


def physical_memory() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def main(name: str, pipe: str) -> None:
    """Take jobs until SIGTERM."""
    settings = read_settings()
    configure(name)
    end_with_parent(int(pipe))
    database = Database(settings.data, settings.database)
    worker = Worker(settings, name, database)

    def stop(number: int, frame: FrameType | None) -> None:
        worker.stop.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the supervisor sees to its children
    worker.run()
    worker.leave()
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
