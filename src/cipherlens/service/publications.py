"""Publications: what trainers may train on, what they submitted, and the scores that the owner released.

Trainers submit recipes, never ciphertexts, so that everything the owner decrypts can be recomputed from the owner's own
files. One number goes the other way, the released score; nothing else here depends on a decryption.
"""

from __future__ import annotations

import io
import json
import time

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from cipherlens.errors import KeyMismatch, PlanError
from cipherlens.learning.encrypted_images import look_at_images
from cipherlens.learning.recipes import Envelope, Recipe, widest
from cipherlens.learning.results import model_bytes
from cipherlens.learning.task import PublicTask
from cipherlens.service.database import (
    Database,
    File,
    Job,
    Publication,
    PublicationFile,
    Submission,
    Tenant,
    new_id,
)
from cipherlens.service.datasets import dataset_files, find_dataset
from cipherlens.service.errors import Conflict, Invalid, OutsideEnvelope, TooManySubmissions, not_found
from cipherlens.service.files import check_quota, find_file
from cipherlens.service.jobs import check_job_quota
from cipherlens.service.paging import portion
from cipherlens.service.pieces import Store
from cipherlens.service.schemas import (
    NewPublication,
    Problem,
    PublicationInfo,
    PublicationList,
    PublishedEnvelope,
    Scoreboard,
    ScoreboardRow,
    Stage,
    SubmissionInfo,
    SubmittedRecipe,
)
from cipherlens.service.states import UNFINISHED
from cipherlens.service.submissions import publication_files, queue_evaluation, queue_training, recipe_json, withdraw
from cipherlens.service.tokens import Caller
from cipherlens.wire.container import canonical_json
from cipherlens.wire.keys import list_evaluation_keys


class Publications:
    """Publications of all tenants."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database, self._store = database, store

    # ---- the owner's ----------------------------------------------------------------------------------------------

    def publish(self, caller: Caller, wanted: NewPublication, key: str) -> PublicationInfo:
        """Publish a data set as it is now; the same body under the same idempotency key is the same publication.

        Raises:
            NotFound: a data set or file that is not there.
            KeyMismatch: files of several tasks or keys.
            Invalid: a labelled hold-out, or a trainer named twice.
            PlanError: an envelope that task and keys do not carry.
            Conflict: the key stands for another publication.
        """
        asked = canonical_json(wanted.model_dump())
        with self._database.reading() as session:
            made = self._made(session, caller, asked, key)
            if made is not None:
                return made
            files = _inputs(session, caller, wanted)
        if len(set(wanted.trainers)) < len(wanted.trainers):
            raise Invalid("a trainer is named twice; name each once")
        # Headers are read outside the transaction that writes.
        task = self._task(files["data"][0])
        envelope = self._envelope(task, files["keys"][0], wanted.envelope)
        with self._database.writing() as session:
            made = self._made(session, caller, asked, key)
            if made is not None:
                return made
            if _ids(_inputs(session, caller, wanted)) != _ids(files):
                raise Conflict("the data set changed meanwhile; publish again")
            publication = Publication(
                id=new_id(), tenant_id=caller.tenant_id, idempotency_key=key, asked=asked, task_id=task.id,
                key_id=files["data"][0].key_id, classes=task.spec.classes, envelope=canonical_json(envelope.model_dump()),
                trainers=canonical_json(wanted.trainers), submissions_each=wanted.submissions_each, created=time.time(),
                withdrawn=None,
            )  # fmt: skip
            session.add(publication)
            session.flush()
            every = [(role, file) for role, held in files.items() for file in held]
            for position, (role, file) in enumerate(every):
                session.add(
                    PublicationFile(publication_id=publication.id, file_id=file.id, role=role, position=position)
                )
            session.flush()
            return _info(session, caller, publication)

    def withdraw(self, caller: Caller, publication_id: str) -> None:
        """Take no more submissions, and let go of the files. What was submitted stays, and so does the scoreboard.

        Raises:
            NotFound: no such publication of the caller's.
        """
        with self._database.writing() as session:
            withdraw(session, find_publication(session, caller, publication_id))

    def release(self, caller: Caller, publication_id: str, number: int, percent: int) -> SubmissionInfo:
        """Put a submission's score on the scoreboard, once; the same score again changes nothing.

        Raises:
            NotFound: no such publication of the caller's, or no such submission.
            Conflict: the submission has no reply, or another score already.
        """
        with self._database.writing() as session:
            publication = find_publication(session, caller, publication_id)
            submission = _find(session, caller, publication, number)
            if submission.score not in (None, percent):
                raise Conflict(f"submission {number} has its score already, and a second one is never released")
            if submission.score is None and submission.reply_file_id is None:
                raise Conflict(f"submission {number} is not evaluated, so there is no reply to have a score")
            submission.score = percent
            return _submission(session, caller, submission)

    # ---- the trainers' --------------------------------------------------------------------------------------------

    def submit(self, caller: Caller, publication_id: str, wanted: SubmittedRecipe) -> SubmissionInfo:
        """Have a recipe trained and evaluated. The same recipe of one trainer is one submission, which is gone on with
        where it failed or was cancelled, and counts once.

        Raises:
            NotFound: no such publication for this trainer.
            OutsideEnvelope: the publication does not allow the recipe.
            TooManySubmissions: the trainer has made all that it may.
            TooManyJobs, QuotaExceeded: above the trainer's quotas.
            Conflict: the publication was withdrawn.
        """
        with self._database.reading() as session:
            publication = find_publication(session, caller, publication_id)
            files = publication_files(session, publication_id)
            holding = session.get(File, files["data"][0]) if files else None
        if publication.withdrawn is not None or holding is None:
            raise Conflict("the owner has withdrawn this publication, so it takes no submissions any more")
        try:
            recipe = Recipe(wanted.learner, wanted.steps, wanted.ridge)
            _envelope(publication).check(recipe)
            derived = recipe.applied(self._task(holding))
        except PlanError as error:
            raise OutsideEnvelope(str(error)) from None
        text = canonical_json(recipe_json(recipe))
        with self._database.writing() as session:
            files = publication_files(session, publication_id)
            if not files:
                raise Conflict("the owner has withdrawn this publication, so it takes no submissions any more")
            mine = (Submission.publication_id == publication_id, Submission.tenant_id == caller.tenant_id)
            submission = session.scalar(select(Submission).where(*mine, Submission.recipe == text))
            if submission is not None and _stage(session, submission) not in ("failed", "cancelled"):
                return _submission(session, caller, submission)
            check_job_quota(session, caller.tenant_id)
            check_quota(session, caller.tenant_id, model_bytes(derived))
            if submission is None:
                submission = self._count(session, caller, publication, text)
            if submission.model_file_id is None:
                queue_training(session, submission, files)
            else:
                queue_evaluation(session, submission, files)
            return _submission(session, caller, submission)

    def _count(self, session: Session, caller: Caller, publication: Publication, recipe: str) -> Submission:
        made = select(func.count()).where(
            Submission.publication_id == publication.id, Submission.tenant_id == caller.tenant_id
        )
        name = session.get_one(Tenant, caller.tenant_id).name
        if session.scalars(made).one() >= publication.submissions_each:
            raise TooManySubmissions(
                f"{name} has made {publication.submissions_each} submissions, as many as this publication allows each "
                "trainer; those whose models were deleted count too"
            )
        last = select(func.max(Submission.number)).where(Submission.publication_id == publication.id)
        submission = Submission(
            id=new_id(), publication_id=publication.id, number=(session.scalar(last) or 0) + 1, tenant_id=caller.tenant_id,
            trainer=name, recipe=recipe, train_job_id=None, evaluate_job_id=None, model_file_id=None, reply_file_id=None,
            score=None, created=time.time(),
        )  # fmt: skip
        session.add(submission)
        session.flush()
        return submission

    # ---- both -----------------------------------------------------------------------------------------------------

    def published(self, caller: Caller, before: str | None = None) -> PublicationList:
        """The owner's publications, newest first, a portion of them; for a trainer its own one."""
        mine = Publication.tenant_id == caller.tenant_id if caller.is_owner else Publication.id == caller.publication_id
        with self._database.reading() as session:
            found, more = portion(session, select(Publication).where(mine), Publication.created, Publication.id, before)
            return PublicationList(publications=[_info(session, caller, one) for one in found], next=more)

    def info(self, caller: Caller, publication_id: str) -> PublicationInfo:
        """One publication. Raises NotFound."""
        with self._database.reading() as session:
            return _info(session, caller, find_publication(session, caller, publication_id))

    def submissions(self, caller: Caller, publication_id: str) -> list[SubmissionInfo]:
        """All submissions for the owner, a trainer's own for the trainer. Raises NotFound."""
        with self._database.reading() as session:
            publication = find_publication(session, caller, publication_id)
            found = session.scalars(_visible(caller, publication).order_by(Submission.number))
            return [_submission(session, caller, submission) for submission in found]

    def submission(self, caller: Caller, publication_id: str, number: int) -> SubmissionInfo:
        """One submission. Raises NotFound."""
        with self._database.reading() as session:
            publication = find_publication(session, caller, publication_id)
            return _submission(session, caller, _find(session, caller, publication, number))

    def scoreboard(self, caller: Caller, publication_id: str) -> Scoreboard:
        """All submissions and the scores that are released. Raises NotFound."""
        with self._database.reading() as session:
            find_publication(session, caller, publication_id)
            made = select(Submission).where(Submission.publication_id == publication_id).order_by(Submission.number)
            return Scoreboard(
                rows=[
                    ScoreboardRow(number=s.number, trainer=s.trainer, recipe=_recipe(s), score=s.score)
                    for s in session.scalars(made)
                ]
            )

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _made(self, session: Session, caller: Caller, asked: str, key: str) -> PublicationInfo | None:
        publication = session.scalar(
            select(Publication).where(Publication.tenant_id == caller.tenant_id, Publication.idempotency_key == key)
        )
        if publication is None:
            return None
        if publication.asked != asked:
            raise Conflict("this idempotency key was used for another publication; choose a new one")
        return _info(session, caller, publication)

    def _task(self, file: File) -> PublicTask:
        with self._held(file):
            return look_at_images(self._store.path(file.tenant_id, file.id)).task

    def _held(self, file: File) -> io.FileIO:
        """Keeps the file here for as long as it is open. Raises NotFound when it was deleted meanwhile."""
        try:
            return self._store.hold(file.tenant_id, file.id, file.sha256)
        except FileNotFoundError:
            raise not_found("file") from None

    def _envelope(self, task: PublicTask, keys: File, wanted: PublishedEnvelope | None) -> PublishedEnvelope:
        with self._held(keys):
            levels = list_evaluation_keys(self._store.path(keys.tenant_id, keys.id)).levels
        if wanted is not None:
            _read_envelope(wanted).require(task, levels)
            return wanted
        found = widest(task, levels)
        return PublishedEnvelope(
            learners=list(found.learners), least_steps=found.steps[0], most_steps=found.steps[1],
            least_ridge=found.ridge[0], most_ridge=found.ridge[1],
        )  # fmt: skip


def find_publication(session: Session, caller: Caller, publication_id: str) -> Publication:
    """A publication of the caller's, or the one that its token is for. Raises NotFound."""
    publication = session.get(Publication, publication_id)
    allowed = publication is not None and (
        publication.tenant_id == caller.tenant_id if caller.is_owner else caller.publication_id == publication_id
    )
    if publication is None or not allowed:
        raise not_found("publication")
    return publication


def _inputs(session: Session, caller: Caller, wanted: NewPublication) -> dict[str, list[File]]:
    """The files by role, all of them there and of one task and key."""
    dataset = find_dataset(session, caller, wanted.dataset_id)
    data = [find_file(session, caller, file_id) for file_id in dataset_files(session, dataset.id)]
    keys, holdout = (find_file(session, caller, i) for i in (wanted.keys_file_id, wanted.holdout_file_id))
    if keys.kind != "evaluation_keys" or keys.state != "ready":
        raise not_found("file of evaluation keys")
    if holdout.kind != "images" or holdout.state != "ready":
        raise not_found("file of images")
    if holdout.labelled:
        raise Invalid("the hold-out carries its labels in the clear; encrypt it without, as `encrypt --no-labels` does")
    if holdout.task_id != dataset.task_id:
        raise KeyMismatch("the hold-out belongs to another task than the data set; use files made from one task")
    if {keys.key_id, holdout.key_id} != {dataset.key_id} or keys.parameters_id != holdout.parameters_id:
        raise KeyMismatch("data set, hold-out and keys are under several keys; use files made with one key pair")
    return {"data": data, "keys": [keys], "holdout": [holdout]}


def _ids(files: dict[str, list[File]]) -> dict[str, list[str]]:
    return {role: [file.id for file in held] for role, held in files.items()}


def _read_envelope(values: PublishedEnvelope) -> Envelope:
    steps, ridge = (values.least_steps, values.most_steps), (values.least_ridge, values.most_ridge)
    return Envelope(tuple(values.learners), steps, ridge)


def _envelope(publication: Publication) -> Envelope:
    return _read_envelope(PublishedEnvelope.model_validate_json(publication.envelope))


def _recipe(submission: Submission) -> SubmittedRecipe:
    return SubmittedRecipe.model_validate_json(submission.recipe)


def _info(session: Session, caller: Caller, publication: Publication) -> PublicationInfo:
    asked = NewPublication.model_validate_json(publication.asked)
    names = json.loads(publication.trainers)
    if not caller.is_owner:
        names = [session.get_one(Tenant, caller.tenant_id).name]
    return PublicationInfo(
        publication_id=publication.id, task_id=publication.task_id, key_id=publication.key_id, classes=publication.classes,
        images=_images(session, publication, "data"), holdout_images=_images(session, publication, "holdout"),
        envelope=PublishedEnvelope.model_validate_json(publication.envelope), trainers=names,
        submissions_each=asked.submissions_each, created=publication.created, withdrawn=publication.withdrawn,
    )  # fmt: skip


def _images(session: Session, publication: Publication, role: str) -> int:
    held = select(func.sum(File.images)).join(PublicationFile, PublicationFile.file_id == File.id)
    mine = held.where(PublicationFile.publication_id == publication.id, PublicationFile.role == role)
    return int(session.scalar(mine) or 0)


def _visible(caller: Caller, publication: Publication) -> Select[Submission]:
    query = select(Submission).where(Submission.publication_id == publication.id)
    return query if caller.is_owner else query.where(Submission.tenant_id == caller.tenant_id)


def _find(session: Session, caller: Caller, publication: Publication, number: int) -> Submission:
    submission = session.scalar(_visible(caller, publication).where(Submission.number == number))
    if submission is None:
        raise not_found("submission")
    return submission


def _stage(session: Session, submission: Submission) -> Stage:
    job = _current(session, submission)
    if submission.reply_file_id is not None:
        return "evaluated"
    if job is not None and job.state == "failed":
        return "failed"
    if job is not None and job.state in UNFINISHED:
        return "training" if job.id == submission.train_job_id else "evaluating"
    # Cancelled, withdrawn after the training, or the reply was deleted: there is none, and nobody works on it.
    return "cancelled"


def _current(session: Session, submission: Submission) -> Job | None:
    job_id = submission.evaluate_job_id or submission.train_job_id
    return None if job_id is None else session.get(Job, job_id)


def _submission(session: Session, caller: Caller, submission: Submission) -> SubmissionInfo:
    stage, job = _stage(session, submission), _current(session, submission)
    error = None
    # Why an evaluation failed is the owner's to know.
    if job is not None and job.error_kind and (caller.is_owner or job.id == submission.train_job_id):
        error = Problem(kind=job.error_kind, message=job.error_message or "")
    return SubmissionInfo(
        publication_id=submission.publication_id, number=submission.number, trainer=submission.trainer,
        recipe=_recipe(submission), state=stage, progress=1.0 if job is None or stage == "evaluated" else job.progress,
        error=error, model_file_id=submission.model_file_id,
        reply_file_id=submission.reply_file_id if caller.is_owner else None, score=submission.score,
        created=submission.created,
    )  # fmt: skip
