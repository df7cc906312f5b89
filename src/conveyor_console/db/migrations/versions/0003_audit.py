"""The audit log, leases, requests under an Idempotency-Key.

Revision: 0003, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
WRITTEN = (
    "id, at, user_id, actor, key_id, action, target, outcome, status, detail, before, after, ip, "
    "request_id"
)


def upgrade() -> None:
    """Expand the schema."""
    op.create_table(
        "console_audit",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=True),
        sa.Column("actor", sa.String(length=300), nullable=False),
        sa.Column("key_id", sa.String(length=36), nullable=True),
        sa.Column("action", sa.String(length=100), nullable=False),
        sa.Column("target", sa.String(length=300), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("detail", sa.String(length=500), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("ip", sa.String(length=45), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("hash", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_console_audit"),
        sa.UniqueConstraint("seq", name="uq_console_audit_seq"),
    )
    for column in ("user_id", "action", "target"):
        op.create_index(f"ix_console_audit_{column}", "console_audit", [column, "id"])
    op.create_index(
        "ix_console_audit_unsealed",
        "console_audit",
        ["id"],
        sqlite_where=sa.text("seq IS NULL"),
        postgresql_where=sa.text("seq IS NULL"),
    )
    _leases_and_answers()
    if op.get_bind().dialect.name == "sqlite":
        _append_only_on_sqlite()
    else:
        _append_only_on_postgresql()


def _leases_and_answers() -> None:
    op.create_table(
        "console_lease",
        sa.Column("role", sa.String(length=40), nullable=False),
        sa.Column("holder", sa.String(length=36), nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("role", name="pk_console_lease"),
    )
    op.create_table(
        "console_idempotency",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=36), nullable=False),
        sa.Column("held_until", MOMENT, nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_console_idempotency"),
    )
    op.create_index("ix_console_idempotency_expires_at", "console_idempotency", ["expires_at"])


def _append_only_on_sqlite() -> None:
    refuse = "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
    for name, when in (
        ("written", f"BEFORE UPDATE OF {WRITTEN} ON console_audit"),
        ("sealed", "BEFORE UPDATE ON console_audit WHEN OLD.seq IS NOT NULL"),
        ("kept", "BEFORE DELETE ON console_audit"),
    ):
        op.execute(f"CREATE TRIGGER console_audit_{name} {when} {refuse}")


def _append_only_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION console_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
    )
    refuse = "EXECUTE FUNCTION console_audit_refuse()"
    for name, when in (
        ("written", f"BEFORE UPDATE OF {WRITTEN} ON console_audit FOR EACH ROW"),
        ("sealed", "BEFORE UPDATE ON console_audit FOR EACH ROW WHEN (OLD.seq IS NOT NULL)"),
        ("kept", "BEFORE DELETE ON console_audit FOR EACH ROW"),
        ("emptied", "BEFORE TRUNCATE ON console_audit FOR EACH STATEMENT"),
    ):
        op.execute(f"CREATE TRIGGER console_audit_{name} {when} {refuse}")


def downgrade() -> None:
    """Take it back."""
    op.drop_table("console_idempotency")
    op.drop_table("console_lease")
    op.drop_table("console_audit")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION console_audit_refuse()")
