"""Failed sign-ins, counted for all replicas.

Revision: 0013, after 0012.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema."""
    op.create_table(
        "console_throttle",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("friend", sa.Boolean(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_console_throttle"),
    )
    op.create_index("ix_console_throttle_at", "console_throttle", ["at"])


def downgrade() -> None:
    """Take it back."""
    op.drop_table("console_throttle")
