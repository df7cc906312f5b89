"""What is due at each channel and endpoint, and rules that are about to go.

Revision: 0010, after 0009.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
DUE = (("alert_delivery", "channel_id"), ("webhook_delivery", "webhook_id"))


def upgrade() -> None:
    """Expand the schema."""
    op.add_column("console_alert_rule", sa.Column("deleted_at", MOMENT, nullable=True))
    for table, place in DUE:
        op.drop_index(f"ix_console_{table}_due", table_name=f"console_{table}")
        op.create_index(f"ix_console_{table}_due", f"console_{table}", [place, "next_at"])


def downgrade() -> None:
    """Take it back."""
    for table, _ in DUE:
        op.drop_index(f"ix_console_{table}_due", table_name=f"console_{table}")
        op.create_index(f"ix_console_{table}_due", f"console_{table}", ["next_at"])
    op.drop_column("console_alert_rule", "deleted_at")
