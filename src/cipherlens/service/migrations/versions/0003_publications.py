"""Publications, what they hold, submissions, and tokens for one publication."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add tables, and a column that older tokens leave empty."""
    op.add_column("tokens", sa.Column("publication_id", sa.String()))
    op.create_table(
        "publications",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("tenant_id", sa.String(), sa.ForeignKey("tenants.id"), nullable=False, index=True),
        sa.Column("idempotency_key", sa.String(), nullable=False),
        sa.Column("asked", sa.Text(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("classes", WHOLE, nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("trainers", sa.Text(), nullable=False),
        sa.Column("submissions_each", WHOLE, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("withdrawn", sa.Double()),
        sa.UniqueConstraint("tenant_id", "idempotency_key"),
    )
    op.create_table(
        "publication_files",
        sa.Column(
            "publication_id", sa.String(), sa.ForeignKey("publications.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("file_id", sa.String(), sa.ForeignKey("files.id"), primary_key=True, index=True),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("position", WHOLE, nullable=False),
    )
    op.create_table(
        "submissions",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("publication_id", sa.String(), sa.ForeignKey("publications.id"), nullable=False),
        sa.Column("number", WHOLE, nullable=False),
        sa.Column("tenant_id", sa.String(), sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("trainer", sa.String(), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.String(), sa.ForeignKey(target, ondelete="SET NULL"), index=True)
            for name, target in (
                ("train_job_id", "jobs.id"),
                ("evaluate_job_id", "jobs.id"),
                ("model_file_id", "files.id"),
                ("reply_file_id", "files.id"),
            )
        ),
        sa.Column("score", WHOLE),
        sa.Column("created", sa.Double(), nullable=False),
        sa.UniqueConstraint("publication_id", "number"),
        sa.UniqueConstraint("publication_id", "tenant_id", "recipe"),
    )
