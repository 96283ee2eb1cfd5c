"""The queue: recipes, the workers that hold them, and how they end.

A worker holds a job by a lease that it renews. Whatever it writes about the job counts only while it holds it, so that
a worker that was cut off, cancelled or replaced changes nothing.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, aliased

from cipherlens.errors import InputError, KeyMismatch
from cipherlens.learning.encrypted_images import look_at_images
from cipherlens.learning.recipes import Recipe
from cipherlens.learning.results import model_bytes, reply_bytes
from cipherlens.learning.task import read_task
from cipherlens.service import tally
from cipherlens.service.database import Database, File, Job, Tenant, changed_rows, new_id
from cipherlens.service.datasets import dataset_files, find_dataset
from cipherlens.service.endings import end_job
from cipherlens.service.errors import Conflict, NotFound, TooManyJobs, Unavailable, not_found
from cipherlens.service.files import check_quota, find_file
from cipherlens.service.headers import Description
from cipherlens.service.paging import portion
from cipherlens.service.pieces import Store
from cipherlens.service.schemas import ClassifyRecipe, JobInfo, JobList, Problem, SwitchRecipe, TrainRecipe
from cipherlens.service.states import UNFINISHED
from cipherlens.service.submissions import go_on, place_of_result
from cipherlens.service.tokens import Caller
from cipherlens.wire.container import Kind, Reader, canonical_json
from cipherlens.wire.disk import file_sha256

MOST_DEATHS = 10
"""Workers that may die on a job, without a checkpoint in between, before it is given up."""

AnyRecipe: TypeAlias = TrainRecipe | ClassifyRecipe | SwitchRecipe


@dataclass(frozen=True)
class Claim:
    """A job in a worker's hands.

    Attributes:
        inputs: file ids by role: data, keys; or model, query, keys; or switching_key, data.
        tenants: whose each of these files is.
        digests: the SHA-256 of each of these files.
        recipe: of a submission's training; None for the task's own learner.
    """

    job_id: str
    tenant_id: str
    kind: str
    inputs: Mapping[str, tuple[str, ...]]
    digests: Mapping[str, str]
    worker: str
    tenants: Mapping[str, str]
    recipe: Recipe | None


class Jobs:
    """Jobs of all tenants."""

    def __init__(self, database: Database, store: Store, lease_seconds: float) -> None:
        self._database, self._store, self._lease = database, store, lease_seconds

    # ---- for clients ----------------------------------------------------------------------------------------------

    def submit(self, caller: Caller, recipe: AnyRecipe, key: str) -> str:
        """A job for this recipe; the same recipe under the same idempotency key is the same job.

        Raises:
            Conflict: the key stands for another recipe.
            NotFound: an input that is not there.
            KeyMismatch: inputs that do not belong together.
            TooManyJobs: more unfinished ones than the tenant may have.
            QuotaExceeded: no room for the result.
        """
        text = canonical_json(recipe.model_dump())
        size = self._result_bytes(caller, recipe, key)  # reads files, so before the transaction that writes
        with self._database.writing() as session:
            job = session.scalar(select(Job).where(Job.tenant_id == caller.tenant_id, Job.idempotency_key == key))
            if job is not None:
                if job.recipe != text:
                    raise Conflict("this idempotency key was used for another job; choose a new one")
                return job.id
            inputs = _inputs(session, caller, recipe)
            check_job_quota(session, caller.tenant_id)
            if size:
                check_quota(session, caller.tenant_id, size)
            job = Job(
                id=new_id(), tenant_id=caller.tenant_id, idempotency_key=key, kind=recipe.kind, recipe=text,
                inputs=canonical_json(inputs), state="queued", stage="", progress=0.0, deaths=0, created=time.time(),
            )  # fmt: skip
            session.add(job)
            return job.id

    def _result_bytes(self, caller: Caller, recipe: AnyRecipe, key: str) -> int:
        """How large a new job's result will be at most; 0 for a job that is there, for a switch, which sees to it itself,
        and for files that only the bucket has: nobody waits for those here, and the worker asks once it has them.

        Raises as `submit`.
        """
        if isinstance(recipe, SwitchRecipe):
            return 0
        with self._database.reading() as session:
            if session.scalar(select(Job.id).where(Job.tenant_id == caller.tenant_id, Job.idempotency_key == key)):
                return 0
            inputs = _inputs(session, caller, recipe)
            files = {role: session.get_one(File, ids[0]) for role, ids in inputs.items()}
        if not all(self._path(files[role]).exists() for role in files if role != "keys"):
            return 0
        try:
            if isinstance(recipe, TrainRecipe):
                with self._hold(files["data"]):
                    return model_bytes(look_at_images(self._path(files["data"])).task)
            with self._hold(files["model"]), self._hold(files["query"]):
                query = look_at_images(self._path(files["query"]))
                with Reader.open(self._path(files["model"]), Kind.MODEL, verify=False) as model:
                    return reply_bytes(read_task(model.header)[0], query.images, query.names)
        except FileNotFoundError:  # deleted meanwhile
            raise not_found("file") from None
        except Unavailable:  # a copy that was let go just now
            return 0

    def _path(self, file: File) -> Path:
        return self._store.path(file.tenant_id, file.id)

    def _hold(self, file: File) -> io.FileIO:
        return self._store.hold(file.tenant_id, file.id, file.sha256)

    def info(self, caller: Caller, job_id: str) -> JobInfo:
        """How far a job is. Raises NotFound."""
        with self._database.reading() as session:
            return _info(_find(session, caller, job_id))

    def list(self, caller: Caller, before: str | None = None) -> JobList:
        """The tenant's jobs, newest first, a portion of them."""
        query = select(Job).where(Job.tenant_id == caller.tenant_id)
        with self._database.reading() as session:
            jobs, more = portion(session, query, Job.created, Job.id, before)
        return JobList(jobs=[_info(job) for job in jobs], next=more)

    def cancel(self, caller: Caller, job_id: str) -> JobInfo:
        """Stop a job; one that has ended stays as it is. Raises NotFound."""
        with self._database.writing() as session:
            job = _find(session, caller, job_id)
            if job.state in UNFINISHED:
                end_job(session, self._store, job, "cancelled")
            return _info(job)

    # ---- for workers ----------------------------------------------------------------------------------------------

    def claim(self, worker: str) -> Claim | None:
        """The next job, None when there is none: of the tenant with the fewest running jobs, the oldest."""
        with self._database.reading() as session:  # so that idle workers do not block writers
            waiting = session.scalar(select(Job.id).where(Job.state.in_(UNFINISHED)).limit(1))
        if waiting is None:
            return None
        now = time.time()
        with self._database.writing() as session:
            for late in session.scalars(select(Job).where(Job.state == "running", Job.lease < now)).all():
                self._requeue(session, late, died=True)
            session.flush()
            while (job := _next(session)) is not None:
                inputs = {role: tuple(ids) for role, ids in json.loads(job.inputs).items()}
                ids = {file_id for role in inputs.values() for file_id in role}
                files = session.execute(select(File.id, File.tenant_id, File.sha256).where(File.id.in_(ids))).all()
                if len(files) < len(ids):
                    job.error_kind, job.error_message = NotFound.__name__, "an input was deleted meanwhile"
                    end_job(session, self._store, job, "failed")
                    session.flush()
                    continue
                job.state, job.stage, job.worker, job.lease = "running", "reading", worker, now + self._lease
                job.started, job.progress = now, 0.0
                recipe = json.loads(job.recipe).get("recipe")
                return Claim(
                    job.id, job.tenant_id, job.kind, inputs, {file_id: sha256 for file_id, _, sha256 in files}, worker,
                    {file_id: tenant for file_id, tenant, _ in files}, None if recipe is None else Recipe(**recipe),
                )  # fmt: skip
            return None

    def renew(self, claim: Claim, stage: str, progress: float) -> bool:
        """Tell how far the job is. False when the worker holds it no longer and is to stop."""
        return self._change(claim, lease=time.time() + self._lease, stage=stage, progress=progress)

    def saved(self, claim: Claim) -> bool:
        """A checkpoint was written: earlier deaths do not count any more. False as with `renew`."""
        return self._change(claim, deaths=0)

    def ended(self, claim: Claim) -> bool:
        """Whether nobody will work on the job any more."""
        with self._database.reading() as session:
            job = session.get(Job, claim.job_id)
            return job is None or job.state not in UNFINISHED

    def give_back(self, claim: Claim) -> None:
        """Let another worker go on with the job."""
        self._change(claim, state="queued", worker=None, lease=None)

    def fail(self, claim: Claim, kind: str, message: str) -> None:
        """The job cannot be done."""
        with self._database.writing() as session:
            job = held(session, claim)
            if job is not None:
                job.error_kind, job.error_message = kind, message
                end_job(session, self._store, job, "failed")

    def require_room(self, claim: Claim, size: int) -> None:
        """Raise QuotaExceeded where the tenant has no room for a result of so many bytes, before it is computed."""
        with self._database.reading() as session:
            check_quota(session, claim.tenant_id, size)

    def finish(self, claim: Claim, about: Description, file_id: str) -> bool:
        """Register the result, which lies complete under `file_id`, and end the job, both or neither.

        False when the worker no longer holds the job; the file is the worker's to remove then.

        Raises:
            QuotaExceeded: the tenant has no room for it; likewise.
        """
        path = self._store.path(claim.tenant_id, file_id)
        size, digest = path.stat().st_size, file_sha256(path)
        self._store.publish(claim.tenant_id, file_id)
        with self._database.writing() as session:
            job = held(session, claim)
            if job is None:
                return False
            space = place_of_result(session, job)
            twin = session.scalar(
                select(File.id).where(File.tenant_id == claim.tenant_id, File.space == space, File.sha256 == digest)
            )
            if twin is None:
                check_quota(session, claim.tenant_id, size)
                session.add(_result(claim, about, space, file_id, size, digest))
                session.flush()
            job.result_file_id, job.progress, job.stage = twin or file_id, 1.0, "done"
            end_job(session, self._store, job, "done")
            go_on(session, job)
        if twin is not None:  # the same inputs gave the same bytes before
            self._store.remove(claim.tenant_id, file_id)
        return True

    # ---- for the supervisor ---------------------------------------------------------------------------------------

    def release(self) -> int:
        """Queue again what was running when the whole service had stopped; returns how many jobs."""
        with self._database.writing() as session:
            jobs = session.scalars(select(Job).where(Job.state == "running")).all()
            for job in jobs:
                self._requeue(session, job, died=False)
            return len(jobs)

    def bury(self, role: str, name: str) -> int:
        """Count the death of a process, and queue again what a worker held; returns how many jobs."""
        with self._database.writing() as session:
            tally.add(session, tally.DEATHS, role)
            jobs = session.scalars(select(Job).where(Job.state == "running", Job.worker == name)).all()
            for job in jobs:
                self._requeue(session, job, died=True)
            return len(jobs)

    def unfinished(self) -> set[str]:
        """Ids of the jobs that have not ended."""
        with self._database.reading() as session:
            return set(session.scalars(select(Job.id).where(Job.state.in_(UNFINISHED))))

    def _requeue(self, session: Session, job: Job, *, died: bool) -> None:
        job.deaths += died
        job.state, job.worker, job.lease = "queued", None, None
        if job.deaths >= MOST_DEATHS:
            job.error_kind = "WorkerDied"
            job.error_message = f"{MOST_DEATHS} workers died on this job, perhaps for want of memory; ask the operator"
            end_job(session, self._store, job, "failed")

    def _change(self, claim: Claim, **values: object) -> bool:
        mine = (Job.id == claim.job_id, Job.worker == claim.worker, Job.state == "running")
        with self._database.writing() as session:
            return changed_rows(session, update(Job).where(*mine).values(**values)) == 1


def _next(session: Session) -> Job | None:
    """Of the tenant with the fewest running jobs, the oldest queued one."""
    other = aliased(Job)
    busy = (
        select(func.count())
        .where(other.tenant_id == Job.tenant_id, other.state == "running")
        .correlate(Job)
        .scalar_subquery()
    )
    return session.scalar(select(Job).where(Job.state == "queued").order_by(busy, Job.created).limit(1))


def held(session: Session, claim: Claim) -> Job | None:
    """The job, None when the worker holds it no longer."""
    job = session.get(Job, claim.job_id)
    return job if job is not None and job.worker == claim.worker and job.state == "running" else None


def check_job_quota(session: Session, tenant_id: str) -> None:
    """Raise TooManyJobs unless the tenant may have another unfinished job."""
    tenant = session.get_one(Tenant, tenant_id)
    # Evaluations are what trainers caused, whose submissions have a limit of their own.
    mine = (Job.tenant_id == tenant.id, Job.kind != "evaluate")
    unfinished = select(func.count()).where(*mine, Job.state.in_(UNFINISHED))
    if session.scalars(unfinished).one() >= tenant.quota_jobs:
        raise TooManyJobs(f"this tenant has {tenant.quota_jobs} unfinished jobs, its quota; wait for one to end")


def _result(claim: Claim, about: Description, space: str, file_id: str, size: int, digest: str) -> File:
    now = time.time()
    return File(
        id=file_id, tenant_id=claim.tenant_id, space=space, kind=about.kind.value, state="ready", size=size,
        sha256=digest, manifest=b"", parameters_id=about.parameters_id, key_id=about.key_id, task_id=about.task_id,
        images=about.images, labelled=None, created=now, touched=now,
    )  # fmt: skip


def _find(session: Session, caller: Caller, job_id: str) -> Job:
    job = session.get(Job, job_id)
    if job is None or job.tenant_id != caller.tenant_id:
        raise not_found("job")
    return job


def _inputs(session: Session, caller: Caller, recipe: AnyRecipe) -> dict[str, list[str]]:
    """The files of a recipe, all of them there, ready and of one key."""
    roles: dict[str, tuple[str, list[str]]] = {}
    if isinstance(recipe, SwitchRecipe):
        running = select(Job.id).where(
            Job.tenant_id == caller.tenant_id, Job.kind == "switch", Job.state.in_(UNFINISHED),
            Job.recipe.contains(recipe.dataset_id),
        )  # fmt: skip
        if session.scalar(running.limit(1)):
            raise InputError("this data set is being switched already; wait for that job, or cancel it first")
        roles["switching_key"] = ("switching_key", [recipe.switching_key_file_id])
    else:
        roles["keys"] = ("evaluation_keys", [recipe.keys_file_id])
    if isinstance(recipe, ClassifyRecipe):
        roles["model"] = ("model", [recipe.model_file_id])
        roles["query"] = ("images", [recipe.query_file_id])
    else:
        dataset = find_dataset(session, caller, recipe.dataset_id)
        roles["data"] = ("images", dataset_files(session, dataset.id))
    files: list[File] = []
    for kind, ids in roles.values():
        for file_id in ids:
            file = find_file(session, caller, file_id)
            if file.kind != kind or file.state != "ready":
                raise not_found(f"file of {kind.replace('_', ' ')}")
            files.append(file)
    if len({file.key_id for file in files}) > 1:
        raise KeyMismatch("these files are under several keys; use files made with one key pair")
    if len({file.parameters_id for file in files}) > 1:
        raise KeyMismatch("these files were made for several parameters; use files made from one task")
    if len({file.task_id for file in files if file.task_id is not None}) > 1:
        raise KeyMismatch("these files belong to several tasks; use files made from one task")
    return {role: ids for role, (_, ids) in roles.items()}


def _info(job: Job) -> JobInfo:
    estimate = None
    if job.state == "running" and job.started is not None and job.progress > 0.02:
        estimate = round((time.time() - job.started) * (1 - job.progress) / job.progress, 1)
    error = Problem(kind=job.error_kind, message=job.error_message or "") if job.error_kind else None
    return JobInfo.model_validate(
        {
            "job_id": job.id, "kind": job.kind, "state": job.state, "stage": job.stage, "progress": job.progress,
            "estimate_seconds": estimate, "result_file_id": job.result_file_id, "error": error, "created": job.created,
            "started": job.started, "finished": job.finished,
        }
    )  # fmt: skip
