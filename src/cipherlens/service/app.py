"""The application: routes, what they share, and how errors become answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from cipherlens import __version__
from cipherlens.errors import CipherlensError
from cipherlens.service.audit import Audit
from cipherlens.service.database import Database
from cipherlens.service.datasets import Datasets
from cipherlens.service.deletion import Deletions
from cipherlens.service.errors import Refusal, disk_full, problem, status_of
from cipherlens.service.files import Files
from cipherlens.service.guard import BodyRefused, Guard
from cipherlens.service.identity import Identity
from cipherlens.service.jobs import Jobs
from cipherlens.service.logging import defect
from cipherlens.service.metrics import Metrics
from cipherlens.service.publications import Publications
from cipherlens.service.routes import datasets, deletions, files, jobs, operations, page, publications
from cipherlens.service.settings import Settings
from cipherlens.service.storage import open_store


@dataclass(frozen=True)
class Services:
    """What routes work with.

    Attributes:
        stopping: whether the process is about to end, so that long answers end themselves.
    """

    settings: Settings
    database: Database
    files: Files
    datasets: Datasets
    jobs: Jobs
    deletions: Deletions
    identity: Identity
    publications: Publications
    metrics: Metrics
    stopping: Callable[[], bool]


def create_app(settings: Settings, database: Database, stopping: Callable[[], bool] = lambda: False) -> ASGIApp:
    """The service as an ASGI application. Raises nothing; `database` stays the caller's to close."""
    store = open_store(settings.data, settings.storage, settings.cache_bytes)
    identity, audit = Identity.open(settings.data), Audit(settings.data)
    services = Services(
        settings,
        database,
        Files(database, store, settings.data),
        Datasets(database, store),
        Jobs(database, store, settings.lease_seconds),
        Deletions(database, store, identity, audit),
        identity,
        Publications(database, store),
        Metrics(database, settings.data, audit, __version__),
        stopping,
    )
    app = routed()
    app.state.services = services
    app.add_exception_handler(CipherlensError, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(OSError, _system)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _defect)
    return Guard(app, database, services.metrics, audit, settings.stall_seconds)


def routed() -> FastAPI:
    """All routes, with nothing behind them: what the service's OpenAPI document is written from."""
    app = FastAPI(title="Cipherlens", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    for module in (files, datasets, jobs, publications, deletions, operations, page):
        app.include_router(module.router)
    return app


def _answer(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse(problem(kind, message), status)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    status = status_of(error) if isinstance(error, CipherlensError) else int(HTTPStatus.INTERNAL_SERVER_ERROR)
    answer = _answer(status, type(error).__name__, str(error))
    if isinstance(error, Refusal) and error.retry_after is not None:
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer


async def _http(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, BodyRefused):
        return _answer(error.status_code, type(error.error).__name__, str(error.error))
    status = HTTPStatus(error.status_code if isinstance(error, HTTPException) else 500)
    words = {
        HTTPStatus.NOT_FOUND: "there is nothing under this path",
        HTTPStatus.METHOD_NOT_ALLOWED: "this path does not take this method",
        HTTPStatus.BAD_REQUEST: "the body is no valid JSON",
    }
    kind = "".join(word.capitalize() for word in status.phrase.split())
    answer = _answer(status, kind, words.get(status, status.phrase.lower()))
    answer.headers.update(dict(getattr(error, "headers", None) or {}))
    return answer


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Says which field is wrong and why, but not what was sent."""
    details = error.errors()[:3] if isinstance(error, RequestValidationError) else []
    words = [f"{'.'.join(str(part)[:40] for part in d['loc'][:5])}: {d['msg']}" for d in details]
    return _answer(
        HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", f"the request is not understood: {'; '.join(words)[:500]}"
    )


async def _system(request: Request, error: Exception) -> JSONResponse:
    full = disk_full(error)
    return await (_defect(request, error) if full is None else _refused(request, full))


async def _gone(_: Request, error: Exception) -> JSONResponse:
    """Nobody reads this: the client went away in mid-request."""
    return _answer(HTTPStatus.BAD_REQUEST, "Disconnected", "the connection ended before the request did")


async def _defect(_: Request, error: Exception) -> JSONResponse:
    defect("defect", error)
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "Defect", "the service failed unexpectedly; its log says where")
