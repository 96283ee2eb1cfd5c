"""For those who run the service."""

from __future__ import annotations

import shutil

from fastapi import APIRouter, Request, Response
from sqlalchemy import text

from cipherlens import __version__
from cipherlens.service.errors import DiskFull
from cipherlens.service.files import RESERVE_BYTES
from cipherlens.service.routes.common import ANYWHERE, REFUSALS, Answers, Owner, services
from cipherlens.service.schemas import Failure, Health, IdentityInfo, Usage
from cipherlens.service.usage import usage_of

router = APIRouter(tags=["operations"], responses=ANYWHERE)

TEXT: Answers = {200: {"description": "Samples", "content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.get("/healthz")
def health() -> Health:
    """The process answers."""
    return Health(status="ok", version=__version__)


@router.get("/readyz", responses={507: {"model": Failure}})
def ready(request: Request) -> Health:
    """The database answers, and there is room on the disk."""
    found = services(request)
    with found.database.reading() as session:
        session.execute(text("SELECT 1 FROM tenants LIMIT 1"))
    if shutil.disk_usage(found.settings.data).free < RESERVE_BYTES:
        raise DiskFull("there is no room left on the disk")
    return Health(status="ok", version=__version__)


@router.get("/v1/identity")
def identity(request: Request) -> IdentityInfo:
    """The public key that receipts are checked with. For everybody, without a token."""
    return services(request).identity.info


@router.get("/v1/usage", responses=REFUSALS)
def usage(request: Request, caller: Owner) -> Usage:
    """What the tenant stores, and may store."""
    return usage_of(services(request).database, services(request).settings, caller)


@router.get("/metrics", response_class=Response, responses=TEXT)
def metrics(request: Request) -> Response:
    """Counters in Prometheus' text format."""
    return Response(services(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
