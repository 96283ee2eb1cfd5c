"""Deletions with their receipts, limits of retention, and numbers for /metrics."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what is needed; nothing that is there changes."""
    op.add_column("tenants", sa.Column("retention_days", sa.Double()))
    op.create_table(
        "deletions",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("tenant_id", sa.String(), sa.ForeignKey("tenants.id"), nullable=False, index=True),
        sa.Column("plan_sha256", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("requested", sa.Double(), nullable=False),
        sa.Column("objects", sa.Text(), nullable=False),
        sa.Column("receipt", sa.Text()),
        sa.UniqueConstraint("tenant_id", "plan_sha256"),
    )
    op.create_table(
        "tallies",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("value", sa.Double(), nullable=False),
    )
