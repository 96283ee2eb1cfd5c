"""`cipherlens tenant`: what the operator allows each tenant of a service."""

from __future__ import annotations

from typing import Annotated

import typer

from cipherlens.cli.options import Json, bytes_of, command
from cipherlens.cli.output import Output, size
from cipherlens.cli.serving import DatabaseUrl, DataFolder, Retention, days_of, existing_database
from cipherlens.errors import InputError

tenant_app = typer.Typer(help="Tenants: what they store, and how much they may.", no_args_is_help=True)


@tenant_app.command("list")
@command
def list_(data: DataFolder, database: DatabaseUrl = None, as_json: Json = False) -> None:
    """All tenants with what they use of their quotas."""
    from dataclasses import asdict

    from cipherlens.service.tenants import list_tenants

    output = Output(as_json)
    opened = existing_database(data, database)
    tenants = list_tenants(opened)
    opened.close()
    rows = [
        (
            t.tenant,
            f"{size(t.stored)} of {size(t.quota_bytes)}",
            f"{t.unfinished_jobs} of {t.quota_jobs}",
            "as the service" if t.retention_days is None else f"{t.retention_days:g} days",
        )
        for t in tenants
    ]
    output.table(("tenant", "stored", "unfinished jobs", "files are kept"), rows, "Tenants")
    output.finish({"command": "tenant list", "tenants": [asdict(tenant) for tenant in tenants]})


@tenant_app.command("limit")
@command
def limit(
    data: DataFolder,
    tenant: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="As `tenant list` shows it.")],
    quota: Annotated[
        str | None, typer.Option("--quota", metavar="SIZE", show_default=False, help="What it may store: 500GB, 2TB.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=0, show_default=False, help="Jobs queued and at work together.")
    ] = None,
    retention_days: Retention = None,
    database: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Set a tenant's limits, from now on. What is stored already stays, above a new quota too."""
    from cipherlens.service.settings import Settings
    from cipherlens.service.tenants import limit_tenant

    output = Output(as_json)
    quota_bytes, days = None if quota is None else bytes_of(quota, "--quota"), days_of(retention_days)
    if quota_bytes is None and jobs is None and days is None:
        raise InputError("nothing to change; give --quota, --jobs or --retention-days")
    opened = existing_database(data, database)
    limit_tenant(
        opened, Settings(data=data.absolute()), tenant, quota_bytes=quota_bytes, quota_jobs=jobs, retention_days=days
    )
    opened.close()
    changed = {"quota_bytes": quota_bytes, "quota_jobs": jobs, "retention_days": days}
    output.say(f"the limits of {tenant} are changed")
    output.finish({"command": "tenant limit", "tenant": tenant, **changed})
