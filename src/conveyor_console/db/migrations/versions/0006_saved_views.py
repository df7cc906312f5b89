"""Saved views.

Revision: 0006, after 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
ID = sa.String(length=36)


def upgrade() -> None:
    """Expand the schema."""
    op.create_table(
        "console_saved_view",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("of", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("q", sa.String(length=1000), nullable=False),
        sa.Column("sort", sa.String(length=40), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["console_user.id"],
            name="fk_console_saved_view_user_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_console_saved_view"),
        sa.UniqueConstraint("user_id", "of", "name", name="uq_console_saved_view_user_id_of_name"),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("console_saved_view")
