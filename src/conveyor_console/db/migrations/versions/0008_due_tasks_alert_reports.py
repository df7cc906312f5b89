"""When delayed tasks became due, until they end; what programs report for alerts.

Revision: 0008, after 0007.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema."""
    op.create_table(
        "console_due",
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", name="pk_console_due"),
    )
    op.create_table(
        "console_alert_report",
        sa.Column("metric", sa.String(length=100), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("reported_by", sa.String(length=300), nullable=False),
        sa.PrimaryKeyConstraint("metric", "target", name="pk_console_alert_report"),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("console_alert_report")
    op.drop_table("console_due")
