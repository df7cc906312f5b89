"""Which store the endpoints were told of.

Revision: 0012, after 0011.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema: a cursor without a store learns of its own in the next round."""
    store = sa.Column("store", sa.String(length=36), nullable=False, server_default="")
    op.add_column("console_webhook_cursor", store)


def downgrade() -> None:
    """Take it back."""
    op.drop_column("console_webhook_cursor", "store")
