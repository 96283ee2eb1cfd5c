"""From a submitted recipe to the reply that only the owner can read: a training, then an evaluation, by themselves.

The training is a job of the trainer's tenant, on files of the owner's; its model is the trainer's. The evaluation is a
job of the owner's tenant, and so is its reply.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from cipherlens.learning.recipes import Recipe
from cipherlens.service.database import Job, Publication, PublicationFile, Submission, new_id
from cipherlens.service.endings import end_job
from cipherlens.service.pieces import Store
from cipherlens.service.states import UNFINISHED
from cipherlens.service.tokens import OWNER_SPACE
from cipherlens.wire.container import canonical_json


def recipe_json(recipe: Recipe) -> dict[str, object]:
    """A recipe as it is stored and sent; `Recipe(**values)` is the inverse."""
    return {"learner": recipe.learner, "steps": recipe.steps, "ridge": recipe.ridge}


def publication_files(session: Session, publication_id: str) -> dict[str, list[str]]:
    """The ids of its files by role, in their order; none once it is withdrawn."""
    held = select(PublicationFile).where(PublicationFile.publication_id == publication_id)
    found: dict[str, list[str]] = {}
    for file in session.scalars(held.order_by(PublicationFile.position)):
        found.setdefault(file.role, []).append(file.file_id)
    return found


def withdraw(session: Session, publication: Publication) -> None:
    """Take no more submissions, and let go of the files. What was submitted stays, and so does the scoreboard."""
    publication.withdrawn = publication.withdrawn or time.time()
    session.execute(delete(PublicationFile).where(PublicationFile.publication_id == publication.id))


def withdraw_and_cancel(session: Session, store: Store, publication_ids: Iterable[str]) -> None:
    """Withdraw publications whose files are about to go, and cancel the submissions that are not evaluated yet.

    Models that trainers have by now stay theirs; without the owner's key they are of no use to anybody.
    """
    for publication_id in publication_ids:
        withdraw(session, session.get_one(Publication, publication_id))
        made = Submission.publication_id == publication_id
        mine = select(Submission.train_job_id).where(made).union_all(select(Submission.evaluate_job_id).where(made))
        for job in session.scalars(select(Job).where(Job.state.in_(UNFINISHED), Job.id.in_(mine))).all():
            end_job(session, store, job, "cancelled")


def queue_training(session: Session, submission: Submission, files: Mapping[str, list[str]]) -> None:
    """Have the published data trained by the submission's recipe. files: as `publication_files` gives them."""
    recipe = {"kind": "train", "recipe": json.loads(submission.recipe)}
    inputs = {"keys": files["keys"], "data": files["data"]}
    submission.train_job_id = _queue(session, submission.tenant_id, recipe, inputs)


def queue_evaluation(session: Session, submission: Submission, files: Mapping[str, list[str]]) -> None:
    """Have the owner's hold-out classified by the submission's model. files: as `publication_files` gives them."""
    publication = session.get_one(Publication, submission.publication_id)
    model_id = submission.model_file_id or ""
    inputs = {"keys": files["keys"], "query": files["holdout"], "model": [model_id]}
    submission.evaluate_job_id = _queue(session, publication.tenant_id, {"kind": "evaluate"}, inputs)


def place_of_result(session: Session, job: Job) -> str:
    """The space that a job's result belongs to."""
    submission = session.scalar(select(Submission).where(Submission.train_job_id == job.id))
    return OWNER_SPACE if submission is None else submission.publication_id


def go_on(session: Session, job: Job) -> None:
    """After a job has its result: note it in the submission that it is of, and queue what comes next."""
    trained = session.scalar(select(Submission).where(Submission.train_job_id == job.id))
    if trained is not None:
        trained.model_file_id = job.result_file_id
        files = publication_files(session, trained.publication_id)
        if files:  # else withdrawn meanwhile, and there is nothing to evaluate on
            queue_evaluation(session, trained, files)
    evaluated = session.scalar(select(Submission).where(Submission.evaluate_job_id == job.id))
    if evaluated is not None:
        evaluated.reply_file_id = job.result_file_id


def _queue(session: Session, tenant_id: str, recipe: dict[str, object], inputs: dict[str, list[str]]) -> str:
    # The key is one that no client can know, so that no client's job stands in its place.
    job = Job(
        id=new_id(), tenant_id=tenant_id, idempotency_key=new_id(), kind=recipe["kind"], recipe=canonical_json(recipe),
        inputs=canonical_json(inputs), state="queued", stage="", progress=0.0, deaths=0, created=time.time(),
    )  # fmt: skip
    session.add(job)
    session.flush()
    return job.id
