"""What routes share: who calls, and with what they work."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from fastapi import Depends, Header, Query, Request, Security
from fastapi.security import HTTPBearer

from cipherlens.service.errors import Invalid, not_found
from cipherlens.service.schemas import Failure, Place
from cipherlens.service.tokens import Caller

if TYPE_CHECKING:
    from cipherlens.service.app import Services

Answers: TypeAlias = dict[int | str, dict[str, Any]]

ANYWHERE: Answers = {status: {"model": Failure} for status in (400, 408, 413, 415, 503)}
"""How requests are refused before anything looks at them, with a token or without."""

REFUSALS: Answers = ANYWHERE | {status: {"model": Failure} for status in (401, 404, 409, 410, 422, 429, 507)}
_KEY = "[!-~]{1,200}"
_ID = re.compile("[0-9a-f]{32}", re.ASCII)


def services(request: Request) -> Services:
    """What this application works with."""
    found: Services = request.app.state.services
    return found


# Says in the OpenAPI document that a token is needed; the guard has checked it before.
_bearer = HTTPBearer(scheme_name="token", description="Authorization: Bearer clt_…", auto_error=False)


def anyone(request: Request, _: Annotated[object, Security(_bearer)] = None) -> Caller:
    """Who calls: an owner, a contributor or a trainer."""
    caller: Caller = request.state.caller
    return caller


Anyone = Annotated[Caller, Depends(anyone)]


def owner(caller: Anyone) -> Caller:
    """Who calls. To contributors and trainers everything of the owner's is not there. Raises NotFound."""
    if not caller.is_owner:
        raise not_found("thing")
    return caller


def sender(caller: Anyone) -> Caller:
    """Who calls, with files to send: trainers have none. Raises NotFound."""
    if caller.publication_id is not None:
        raise not_found("thing")
    return caller


def recipient(caller: Anyone) -> Caller:
    """Who calls, with results to fetch: contributors have none. Raises NotFound."""
    if caller.dataset_id is not None:
        raise not_found("thing")
    return caller


def trainer(caller: Anyone) -> Caller:
    """Who calls, with recipes to submit. Raises NotFound for all but trainers."""
    if caller.publication_id is None:
        raise not_found("thing")
    return caller


def about(request: Request, id: str) -> None:
    """Tell the audit log what a request was about, where that is more than the first id in its path, which it sees itself."""
    request.state.object = id


def checked(value: str, what: str) -> str:
    """An id out of a path. Raises NotFound for what cannot be one."""
    if not _ID.fullmatch(value):
        raise not_found(what)
    return value


def idempotency_key(value: str) -> str:
    """The header `Idempotency-Key`. Raises Invalid for one that no client should choose."""
    if not re.fullmatch(_KEY, value):
        raise Invalid("the header Idempotency-Key has 1 to 200 printable characters; choose such ones")
    return value


Owner = Annotated[Caller, Depends(owner)]
Sender = Annotated[Caller, Depends(sender)]
Recipient = Annotated[Caller, Depends(recipient)]
Trainer = Annotated[Caller, Depends(trainer)]
_key = Header(alias="Idempotency-Key", json_schema_extra={"pattern": f"^{_KEY}$"})
From = Annotated[Place, Query()]
IdempotencyKey = Annotated[str | None, _key]
NeededIdempotencyKey = Annotated[str, _key]
