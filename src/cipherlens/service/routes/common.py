"""What routes share: who calls, and with what they work."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Header, Request

from cipherlens.service.errors import Invalid, not_found
from cipherlens.service.schemas import Failure
from cipherlens.service.tokens import Caller

if TYPE_CHECKING:
    from cipherlens.service.app import Services

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Failure} for status in (400, 401, 404, 408, 409, 410, 413, 415, 422, 429, 503, 507)
}
_KEY = re.compile("[!-~]{1,200}", re.ASCII)
_ID = re.compile("[0-9a-f]{32}", re.ASCII)


def services(request: Request) -> Services:
    """What this application works with."""
    found: Services = request.app.state.services
    return found


def anyone(request: Request) -> Caller:
    """Who calls: an owner, a contributor or a trainer."""
    caller: Caller = request.state.caller
    return caller


def owner(request: Request) -> Caller:
    """Who calls. To contributors and trainers everything of the owner's is not there. Raises NotFound."""
    caller = anyone(request)
    if not caller.is_owner:
        raise not_found("thing")
    return caller


def sender(request: Request) -> Caller:
    """Who calls, with files to send: trainers have none. Raises NotFound."""
    caller = anyone(request)
    if caller.publication_id is not None:
        raise not_found("thing")
    return caller


def recipient(request: Request) -> Caller:
    """Who calls, with results to fetch: contributors have none. Raises NotFound."""
    caller = anyone(request)
    if caller.dataset_id is not None:
        raise not_found("thing")
    return caller


def trainer(request: Request) -> Caller:
    """Who calls, with recipes to submit. Raises NotFound for all but trainers."""
    caller = anyone(request)
    if caller.publication_id is None:
        raise not_found("thing")
    return caller


def about(request: Request, id: str) -> None:
    """Tell the audit log what a request that made something was about; ids in paths it sees itself."""
    request.state.object = id


def checked(value: str, what: str) -> str:
    """An id out of a path. Raises NotFound for what cannot be one."""
    if not _ID.fullmatch(value):
        raise not_found(what)
    return value


def idempotency_key(value: str | None) -> str | None:
    """The header `Idempotency-Key`. Raises Invalid for one that no client should choose."""
    if value is not None and not _KEY.fullmatch(value):
        raise Invalid("the header Idempotency-Key has 1 to 200 printable characters; choose such ones")
    return value


Anyone = Annotated[Caller, Depends(anyone)]
Owner = Annotated[Caller, Depends(owner)]
Sender = Annotated[Caller, Depends(sender)]
Recipient = Annotated[Caller, Depends(recipient)]
Trainer = Annotated[Caller, Depends(trainer)]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key")]
