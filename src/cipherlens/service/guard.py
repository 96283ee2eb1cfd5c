"""What every request passes before anything looks at it: a token, a body of bounded size and time, no encodings."""

from __future__ import annotations

import asyncio
import re
import time
from http import HTTPStatus

from fastapi.exceptions import HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cipherlens.errors import CipherlensError
from cipherlens.service.audit import Audit
from cipherlens.service.database import Database
from cipherlens.service.errors import Invalid, TimedOut, TooLarge, Unauthorized, UnsupportedEncoding, problem, status_of
from cipherlens.service.logging import defect, say
from cipherlens.service.metrics import Metrics
from cipherlens.service.settings import PIECE_BYTES, SLOWEST
from cipherlens.service.tokens import authenticate

LARGEST_DECLARATION = 8 << 20
LARGEST_MESSAGE = 1 << 16
OPEN = frozenset({"/v1/identity"})
"""Paths that need no token though they are part of the interface."""

FETCHES = frozenset({"/v1/files/{file_id}"})
UNRECORDED = frozenset({"/v1/files/{file_id}/pieces/{index}", "/v1/deletions/plan"})
"""What the audit log records though nothing changes, and what it does not although the method says that something does."""

NO_RECORD = problem("Unrecorded", "the service could not write its audit log, so it may or may not have done this")

_ID = re.compile("[0-9a-f]{32}(/[0-9]{1,9})?", re.ASCII)
"""What the audit log says that a request was about: an id, or a publication's and the number of a submission to it."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})


class BodyRefused(HTTPException):
    """Raised out of `receive`, where frameworks let only this class of exceptions through as it is."""

    def __init__(self, error: CipherlensError) -> None:
        super().__init__(status_of(error), str(error))
        self.error = error


class Guard:
    """The outermost part of the application: checks, counts and logs each request."""

    def __init__(self, app: ASGIApp, database: Database, metrics: Metrics, audit: Audit, stall_seconds: float) -> None:
        self._app, self._database, self._metrics, self._stall = app, database, metrics, stall_seconds
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        seen = {"status": 0, "sent": 0}
        body = _Body(receive, self._stall)
        unrecorded = False

        async def sending(message: Message) -> None:
            nonlocal unrecorded
            if unrecorded:
                return  # another answer went out instead of this one
            if message["type"] == "http.response.start":
                if seen["status"] == 0 and not await self._recorded(scope, int(message["status"])):
                    seen["status"] = int(HTTPStatus.INTERNAL_SERVER_ERROR)
                    await JSONResponse(NO_RECORD, seen["status"])(scope, body.receive, sending)
                    unrecorded = True
                    return
                seen["status"] = int(message["status"])
                if not await body.drained():
                    message.setdefault("headers", []).append((b"connection", b"close"))
                message.setdefault("headers", []).extend(
                    [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
                )
            seen["sent"] += len(message.get("body", b""))
            await send(message)

        try:
            body.limit = _limit(scope["method"], scope["path"])
            await self._admit(scope, body.limit)
        except CipherlensError as error:
            extra = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else {}
            answer = JSONResponse(problem(type(error).__name__, str(error)), status_of(error), extra)
            await answer(scope, body.receive, sending)
        else:
            await self._app(scope, body.receive, sending)
        finally:
            route = scope.get("route")
            template = str(getattr(route, "path", "none"))
            method = _method(scope)
            seconds = time.perf_counter() - started
            self._metrics.count(method, template, seen["status"], seconds, body.received, seen["sent"])
            caller = scope.get("state", {}).get("caller")
            if template.startswith("/v1"):
                say(
                    "request", method=method, route=template, seconds=round(seconds, 4),
                    tenant=caller and caller.tenant_id, token=caller and caller.token_id, received=body.received, **seen,
                )  # fmt: skip

    async def _recorded(self, scope: Scope, status: int) -> bool:
        """Write to the audit log, before it is answered, what somebody with a token has changed or fetched.

        Pieces are left out: they count for nothing until their file is completed, and that is recorded. False when
        it could not be written, and nobody is to be told that it was done.
        """
        caller = scope.get("state", {}).get("caller")
        route = str(getattr(scope.get("route"), "path", "none"))
        changes = scope["method"] not in ("GET", "HEAD") and route not in UNRECORDED
        if caller is None or not (changes or (route in FETCHES and status < 400)):
            return True
        about = scope["state"].get("object", next(iter(scope.get("path_params", {}).values()), None))
        try:
            await run_in_threadpool(
                self._audit.append, f"{_method(scope)} {route}", tenant=caller.tenant_id, token=caller.token_id,
                object=about if _ID.fullmatch(str(about)) else None, outcome=str(status),
            )  # fmt: skip
        except (OSError, CipherlensError) as error:
            defect("audit", error)
            return False
        return True

    async def _admit(self, scope: Scope, limit: int) -> None:
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in headers and name in (b"authorization", b"content-length", b"idempotency-key", b"range"):
                raise Invalid(f"the header {name.decode('latin-1')} was sent twice; send it once")
            headers[name] = value
        path: str = scope["path"]
        if path.startswith("/v1") and path not in OPEN:
            text = headers.get(b"authorization", b"").decode("latin-1")
            caller = await run_in_threadpool(authenticate, self._database, text)
            scope.setdefault("state", {})["caller"] = caller
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise UnsupportedEncoding("bodies are taken as they are; send this one without a Content-Encoding")
        announced = headers.get(b"content-length", b"0")
        if not announced.isdigit() or len(announced) > 19:
            raise Invalid("the header Content-Length is no number")
        if int(announced) > limit:
            raise TooLarge(f"the body has {int(announced)} bytes and may have {limit} here")


class _Body:
    """A request's body, of bounded size and time."""

    def __init__(self, receive: Receive, stall: float) -> None:
        self._receive, self._stall = receive, stall
        self._started, self._whole = time.monotonic(), False
        self._lock = asyncio.Lock()
        self.limit, self.received = 0, 0

    async def receive(self) -> Message:
        """The next part. Raises BodyRefused."""
        async with self._lock:
            if not self._whole:
                return await self._take()
        return await self._receive()  # only the end of the connection, which may take its time

    async def drained(self) -> bool:
        """Take what is still to come, so that a client in mid-body hears the answer. False when that is too much."""
        try:
            async with self._lock:  # who streams an answer listens for the end of the connection beside it
                while not self._whole:
                    await self._take()
        except BodyRefused:
            return False
        return True

    async def _take(self) -> Message:
        left = self._started + self._stall + self.received / SLOWEST - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(left, self._stall)))
        except TimeoutError:
            raise BodyRefused(TimedOut(f"the body came too slowly; send at least {SLOWEST} bytes a second")) from None
        self.received += len(message.get("body", b""))
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        if self.received > self.limit:
            raise BodyRefused(TooLarge(f"the body has more than the {self.limit} bytes that it may have here"))
        return message


def _method(scope: Scope) -> str:
    """The request's method, which may be any word at all, as one of few."""
    return scope["method"] if scope["method"] in METHODS else "other"


def _limit(method: str, path: str) -> int:
    if method == "PUT":
        return PIECE_BYTES
    return LARGEST_DECLARATION if method == "POST" and path == "/v1/files" else LARGEST_MESSAGE
