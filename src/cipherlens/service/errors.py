"""Refusals of the service, and how any error is told to a client: a status, a kind and one sentence."""

from __future__ import annotations

from http import HTTPStatus

from cipherlens.errors import CipherlensError, ServerError
from cipherlens.wire.container import FULL, NoRoom


class Refusal(ServerError):
    """A request that is not carried out.

    `status` is the HTTP status that says so, `retry_after` the seconds after which the same request may well succeed.
    """

    status = HTTPStatus.BAD_REQUEST
    retry_after: int | None = None


class Invalid(Refusal):
    """A request that makes no sense."""


class Unauthorized(Refusal):
    """No token, or none that counts."""

    status = HTTPStatus.UNAUTHORIZED


class NotFound(Refusal):
    """Nothing there for this token, be it that it does not exist or that it belongs to others."""

    status = HTTPStatus.NOT_FOUND


class Conflict(Refusal):
    """The request contradicts what is there."""

    status = HTTPStatus.CONFLICT


class Gone(Refusal):
    """Something that was there, and that the service lost."""

    status = HTTPStatus.GONE


class Incomplete(Conflict):
    """Pieces of the file are missing."""


class TimedOut(Refusal):
    """The client sent too slowly."""

    status = HTTPStatus.REQUEST_TIMEOUT


class TooLarge(Refusal):
    """More bytes than are taken."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class QuotaExceeded(TooLarge):
    """More bytes than the tenant may store."""


class BadRange(Refusal):
    """Bytes that a file does not have."""

    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


class UnsupportedEncoding(Refusal):
    """A body in an encoding that is not read, such as a compressed one."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class TooManyJobs(Refusal):
    """More unfinished jobs than the tenant may have."""

    status = HTTPStatus.TOO_MANY_REQUESTS


class OutsideEnvelope(Refusal):
    """A recipe that a publication does not allow."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


class TooManySubmissions(Refusal):
    """More submissions than a trainer has."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


class DiskFull(Refusal):
    """The service has no room left."""

    status = HTTPStatus.INSUFFICIENT_STORAGE


class Unavailable(Refusal):
    """Something that the service needs does not answer at present."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class Busy(Unavailable):
    """The service is about to do what is asked for; it takes its time."""

    retry_after = 1


def not_found(what: str) -> NotFound:
    """The one answer for everything that is not there for a token."""
    return NotFound(f"there is no such {what} here for this token")


def disk_full(error: BaseException) -> DiskFull | None:
    """The one answer to whatever failed for want of room on the service's disk; None for all other errors."""
    if isinstance(error, NoRoom) or (isinstance(error, OSError) and error.errno in FULL):
        return DiskFull("the service has no room left; ask its operator")
    return None


def status_of(error: CipherlensError) -> int:
    """The HTTP status of a refusal; what readers and checks refuse is the client's data: 422."""
    return int(error.status if isinstance(error, Refusal) else HTTPStatus.UNPROCESSABLE_ENTITY)


def problem(kind: str, message: str) -> dict[str, dict[str, str]]:
    """The body of every answer that is no success."""
    return {"error": {"kind": kind, "message": " ".join(message.split())}}
