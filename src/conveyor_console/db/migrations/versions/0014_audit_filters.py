"""What the audit log is filtered by.

Revision: 0014, after 0013.
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None
_BY = ("actor", "ip", "outcome", "request_id")


def upgrade() -> None:
    """Expand the schema."""
    for column in _BY:
        op.create_index(f"ix_console_audit_{column}", "console_audit", [column, "id"])
    op.create_index("ix_console_audit_at", "console_audit", ["at"])


def downgrade() -> None:
    """Take it back."""
    for column in ("at", *reversed(_BY)):
        op.drop_index(f"ix_console_audit_{column}", "console_audit")
