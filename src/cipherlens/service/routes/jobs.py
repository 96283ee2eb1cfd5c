"""Jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from cipherlens.errors import CipherlensError
from cipherlens.service.routes.common import (
    REFUSALS,
    Answers,
    From,
    NeededIdempotencyKey,
    Owner,
    about,
    checked,
    idempotency_key,
    services,
)
from cipherlens.service.schemas import JobInfo, JobList, Recipe, Submitted
from cipherlens.service.tokens import Caller, still_valid

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=REFUSALS)

POLL_SECONDS = 0.2
QUIET_SECONDS = 10.0
"""After so long without news a comment is sent, so that proxies keep the connection."""


STREAM: Answers = {200: {"description": "Events", "content": {"text/event-stream": {}}}}


@router.post("")
def submit(request: Request, caller: Owner, recipe: Recipe, key: NeededIdempotencyKey) -> Submitted:
    """Queue a job. The same body under the same `Idempotency-Key`, chosen anew for each, is the same job."""
    job_id = services(request).jobs.submit(caller, recipe, idempotency_key(key))
    about(request, job_id)
    return Submitted(job_id=job_id)


@router.get("")
def jobs(request: Request, caller: Owner, place: From) -> JobList:
    """The jobs, newest first, a portion at a time."""
    return services(request).jobs.list(caller, place.before)


@router.get("/{job_id}")
def info(request: Request, caller: Owner, job_id: str) -> JobInfo:
    """How far a job is."""
    return services(request).jobs.info(caller, checked(job_id, "job"))


@router.post("/{job_id}/cancel")
def cancel(request: Request, caller: Owner, job_id: str) -> JobInfo:
    """Stop a job; one that has ended stays as it is."""
    return services(request).jobs.cancel(caller, checked(job_id, "job"))


@router.get("/{job_id}/events", response_class=StreamingResponse, responses=STREAM)
def events(request: Request, caller: Owner, job_id: str) -> StreamingResponse:
    """Server-sent events named `job`, each with what `GET /v1/jobs/{id}` says, whenever it changes, until it ends."""
    services(request).jobs.info(caller, checked(job_id, "job"))
    return StreamingResponse(_follow(request, caller, job_id), media_type="text/event-stream")


async def _follow(request: Request, caller: Caller, job_id: str) -> AsyncIterator[str]:
    found = services(request)

    def look() -> JobInfo:
        still_valid(found.database, caller)
        return found.jobs.info(caller, job_id)

    last, told = None, time.monotonic()
    while not found.stopping():
        try:
            now = await run_in_threadpool(look)
        except CipherlensError:  # the token was revoked, or the job removed
            return
        if last is None or now.model_copy(update={"estimate_seconds": last.estimate_seconds}) != last:
            yield f"event: job\ndata: {now.model_dump_json()}\n\n"
            last, told = now, time.monotonic()
        elif time.monotonic() - told > QUIET_SECONDS:
            yield ": still here\n\n"
            told = time.monotonic()
        if now.finished is not None:
            return
        await asyncio.sleep(POLL_SECONDS)
