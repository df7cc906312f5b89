"""Finds sessions and refresh tokens that have expired, at every sign-in.

Revision: 0013, after 0012.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_SESSIONS, _TOKENS = "console_session", "console_refresh_token"


def upgrade() -> None:
    """Expand the schema: the wider index serves what the narrow one did."""
    op.create_index(f"ix_{_SESSIONS}_user_id_expires_at", _SESSIONS, ["user_id", "expires_at"])
    op.create_index(f"ix_{_TOKENS}_expires_at", _TOKENS, ["expires_at"])
    op.drop_index(f"ix_{_SESSIONS}_user_id", _SESSIONS)


def downgrade() -> None:
    """Take it back."""
    op.create_index(f"ix_{_SESSIONS}_user_id", _SESSIONS, ["user_id"])
    op.drop_index(f"ix_{_TOKENS}_expires_at", _TOKENS)
    op.drop_index(f"ix_{_SESSIONS}_user_id_expires_at", _SESSIONS)
