"""What a tenant stores, and how much it may."""

from __future__ import annotations

from sqlalchemy import func, select

from cipherlens.service.database import Database, File, Job, Tenant
from cipherlens.service.schemas import Usage
from cipherlens.service.settings import Settings
from cipherlens.service.states import UNFINISHED
from cipherlens.service.tokens import Caller


def usage_of(database: Database, settings: Settings, caller: Caller) -> Usage:
    """The tenant's files by kind, its unfinished jobs, and the limits of both."""
    sizes = select(File.kind, func.sum(File.size)).where(File.tenant_id == caller.tenant_id).group_by(File.kind)
    unfinished = select(func.count()).where(Job.tenant_id == caller.tenant_id, Job.state.in_(UNFINISHED))
    with database.reading() as session:
        tenant = session.get_one(Tenant, caller.tenant_id)
        stored = {kind: int(size) for kind, size in session.execute(sizes)}
        jobs = session.scalars(unfinished).one()
    days = settings.retention_days if tenant.retention_days is None else tenant.retention_days
    return Usage(
        stored=stored, quota_bytes=tenant.quota_bytes, unfinished_jobs=jobs, quota_jobs=tenant.quota_jobs,
        quota_memory=settings.quota_memory, retention_days=days,
    )  # fmt: skip
