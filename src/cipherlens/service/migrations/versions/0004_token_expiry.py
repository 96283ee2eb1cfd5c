"""A last moment for tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add a column that older tokens leave empty: they have no end."""
    op.add_column("tokens", sa.Column("expires", sa.Double()))
