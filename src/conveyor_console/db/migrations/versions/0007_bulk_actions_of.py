"""Bulk actions say which list their filter is of.

Revision: 0007, after 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema. A replica of the version before writes none: its filters are of tasks."""
    op.add_column(
        "console_bulk_action",
        sa.Column("of", sa.String(length=16), nullable=False, server_default="tasks"),
    )


def downgrade() -> None:
    """Take it back, with the plans that the version before would read as others."""
    op.execute("DELETE FROM console_bulk_action WHERE of <> 'tasks'")
    op.drop_column("console_bulk_action", "of")
