"""What the operator sees of tenants and allows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from cipherlens.errors import InputError
from cipherlens.service.audit import Audit
from cipherlens.service.database import Database, File, Job, Tenant
from cipherlens.service.settings import Settings
from cipherlens.service.states import UNFINISHED


@dataclass(frozen=True)
class ListedTenant:
    """A tenant as the operator sees it. `retention_days` is None where the service's own limit holds."""

    tenant: str
    stored: int
    quota_bytes: int
    unfinished_jobs: int
    quota_jobs: int
    retention_days: float | None
    created: float


def list_tenants(database: Database) -> Sequence[ListedTenant]:
    """All tenants, oldest first."""
    sizes = select(File.tenant_id, func.sum(File.size)).group_by(File.tenant_id)
    jobs = select(Job.tenant_id, func.count()).where(Job.state.in_(UNFINISHED)).group_by(Job.tenant_id)
    with database.reading() as session:
        stored = {tenant: int(total) for tenant, total in session.execute(sizes)}
        unfinished = {tenant: int(count) for tenant, count in session.execute(jobs)}
        tenants = session.scalars(select(Tenant).order_by(Tenant.created)).all()
    return [
        ListedTenant(
            t.name,
            stored.get(t.id, 0),
            t.quota_bytes,
            unfinished.get(t.id, 0),
            t.quota_jobs,
            t.retention_days,
            t.created,
        )
        for t in tenants
    ]


def limit_tenant(
    database: Database,
    settings: Settings,
    name: str,
    *,
    quota_bytes: int | None = None,
    quota_jobs: int | None = None,
    retention_days: float | None = None,
) -> None:
    """Set limits, from now on; None leaves one as it is. What is stored already stays, above a new quota too.

    Raises:
        InputError: there is no such tenant.
    """
    with database.writing() as session:
        tenant = session.scalar(select(Tenant).where(Tenant.name == name))
        if tenant is None:
            raise InputError(f"there is no tenant {name}; `cipherlens tenant list` shows their names")
        if quota_bytes is not None:
            tenant.quota_bytes = quota_bytes
        if quota_jobs is not None:
            tenant.quota_jobs = quota_jobs
        if retention_days is not None:
            tenant.retention_days = retention_days
        Audit(settings.data).append("tenant limit", tenant=tenant.id, token=None, object=tenant.id, outcome="ok")
