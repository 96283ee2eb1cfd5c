"""Publications, submissions and the scoreboard."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from cipherlens.service.errors import not_found
from cipherlens.service.routes.common import (
    REFUSALS,
    From,
    NeededIdempotencyKey,
    Owner,
    Recipient,
    Trainer,
    about,
    checked,
    idempotency_key,
    services,
)
from cipherlens.service.schemas import (
    NewPublication,
    PublicationInfo,
    PublicationList,
    Score,
    Scoreboard,
    SubmissionInfo,
    SubmissionList,
    SubmittedRecipe,
)

router = APIRouter(prefix="/v1/publications", tags=["publications"], responses=REFUSALS)

LONGEST_NUMBER = 9


@router.post("")
def publish(request: Request, caller: Owner, wanted: NewPublication, key: NeededIdempotencyKey) -> PublicationInfo:
    """Let trainers train on a data set as it is now. The same body under the same `Idempotency-Key` is the same one."""
    made = services(request).publications.publish(caller, wanted, idempotency_key(key))
    about(request, made.publication_id)
    return made


@router.get("")
def publications(request: Request, caller: Recipient, place: From) -> PublicationList:
    """The owner's publications, newest first, a portion at a time, or the one that a trainer's token is for."""
    return services(request).publications.published(caller, place.before)


@router.get("/{publication_id}")
def info(request: Request, caller: Recipient, publication_id: str) -> PublicationInfo:
    """What is published, and which recipes it allows."""
    return services(request).publications.info(caller, checked(publication_id, "publication"))


@router.delete("/{publication_id}", status_code=204)
def withdraw(request: Request, caller: Owner, publication_id: str) -> Response:
    """Take no more submissions; what was submitted stays."""
    services(request).publications.withdraw(caller, checked(publication_id, "publication"))
    return Response(status_code=204)


@router.post("/{publication_id}/submissions")
def submit(request: Request, caller: Trainer, publication_id: str, recipe: SubmittedRecipe) -> SubmissionInfo:
    """Train by a recipe, then evaluate. The same recipe again is the same submission."""
    made = services(request).publications.submit(caller, checked(publication_id, "publication"), recipe)
    about(request, f"{publication_id}/{made.number}")
    return made


@router.get("/{publication_id}/submissions")
def submissions(request: Request, caller: Recipient, publication_id: str) -> SubmissionList:
    """All submissions for the owner, a trainer's own for the trainer."""
    found = services(request).publications.submissions(caller, checked(publication_id, "publication"))
    return SubmissionList(submissions=found)


@router.get("/{publication_id}/submissions/{number}")
def submission(request: Request, caller: Recipient, publication_id: str, number: str) -> SubmissionInfo:
    """How far a submission is."""
    place = checked(publication_id, "publication"), _number(number)
    return services(request).publications.submission(caller, *place)


@router.post("/{publication_id}/submissions/{number}/score")
def release(request: Request, caller: Owner, publication_id: str, number: str, score: Score) -> SubmissionInfo:
    """Put a score on the scoreboard, once, after recomputing the reply that it is of."""
    place = checked(publication_id, "publication"), _number(number)
    about(request, "{}/{}".format(*place))
    return services(request).publications.release(caller, *place, score.percent)


@router.get("/{publication_id}/scoreboard")
def scoreboard(request: Request, caller: Recipient, publication_id: str) -> Scoreboard:
    """All submissions, and the scores that the owner released."""
    return services(request).publications.scoreboard(caller, checked(publication_id, "publication"))


def _number(text: str) -> int:
    """A submission's number out of a path. Raises NotFound for what cannot be one."""
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
        raise not_found("submission")
    return int(text)
