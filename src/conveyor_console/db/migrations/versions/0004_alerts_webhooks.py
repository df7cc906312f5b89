"""Notices, alerts, webhooks.

Revision: 0004, after 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(JSONB(), "postgresql")
ID = sa.String(length=36)


def upgrade() -> None:
    """Expand the schema."""
    op.create_table(
        "console_notice",
        sa.Column("id", ID, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("topic", sa.String(length=64), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_console_notice"),
    )
    op.create_index("ix_console_notice_at", "console_notice", ["at"], unique=False)
    _channels()
    _rules()
    _alerts()
    _alert_deliveries()
    _webhooks()
    _webhook_deliveries()


def _channels() -> None:
    op.create_table(
        "console_alert_channel",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("target_sealed", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_console_alert_channel"),
        sa.UniqueConstraint("name", name="uq_console_alert_channel_name"),
    )


def _rules() -> None:
    op.create_table(
        "console_alert_rule",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("metric", sa.String(length=100), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("comparison", sa.String(length=8), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("clear", sa.Double(), nullable=True),
        sa.Column("for_seconds", sa.Double(), nullable=False),
        sa.Column("clear_seconds", sa.Double(), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("channels", JSON, nullable=False),
        sa.Column("silenced_until", MOMENT, nullable=True),
        sa.Column("silenced_by", sa.String(length=300), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_console_alert_rule"),
        sa.UniqueConstraint("name", name="uq_console_alert_rule_name"),
    )
    op.create_table(
        "console_alert_standing",
        sa.Column("rule_id", ID, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("breached_at", MOMENT, nullable=True),
        sa.Column("cleared_at", MOMENT, nullable=True),
        sa.Column("announced", sa.Boolean(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("checked_at", MOMENT, nullable=False),
        sa.Column("alert_id", ID, nullable=True),
        sa.ForeignKeyConstraint(
            ["rule_id"],
            ["console_alert_rule.id"],
            name="fk_console_alert_standing_rule_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("rule_id", name="pk_console_alert_standing"),
    )


def _alerts() -> None:
    op.create_table(
        "console_alert",
        sa.Column("id", ID, nullable=False),
        sa.Column("rule_id", ID, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("summary", sa.String(length=500), nullable=False),
        sa.Column("breached_at", MOMENT, nullable=False),
        sa.Column("fired_at", MOMENT, nullable=False),
        sa.Column("acknowledged_at", MOMENT, nullable=True),
        sa.Column("acknowledged_by", sa.String(length=300), nullable=True),
        sa.Column("note", sa.String(length=500), nullable=True),
        sa.Column("resolved_at", MOMENT, nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rule_id"],
            ["console_alert_rule.id"],
            name="fk_console_alert_rule_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_console_alert"),
    )
    op.create_index("ix_console_alert_rule_id", "console_alert", ["rule_id", "id"], unique=False)
    op.create_index("ix_console_alert_status", "console_alert", ["status", "id"], unique=False)


def _alert_deliveries() -> None:
    op.create_table(
        "console_alert_delivery",
        sa.Column("id", ID, nullable=False),
        sa.Column("alert_id", ID, nullable=False),
        sa.Column("channel_id", ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        *_delivery(),
        sa.ForeignKeyConstraint(
            ["alert_id"],
            ["console_alert.id"],
            name="fk_console_alert_delivery_alert_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["channel_id"],
            ["console_alert_channel.id"],
            name="fk_console_alert_delivery_channel_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_console_alert_delivery"),
    )
    op.create_index(
        "ix_console_alert_delivery_alert_id",
        "console_alert_delivery",
        ["alert_id", "id"],
        unique=False,
    )
    op.create_index(
        "ix_console_alert_delivery_due", "console_alert_delivery", ["next_at"], unique=False
    )


def _webhooks() -> None:
    op.create_table(
        "console_webhook",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("topics", JSON, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("secret_sealed", sa.Text(), nullable=False),
        sa.Column("former_sealed", sa.Text(), nullable=True),
        sa.Column("former_until", MOMENT, nullable=True),
        sa.Column("created_by", sa.String(length=300), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_console_webhook"),
    )


def _webhook_deliveries() -> None:
    op.create_table(
        "console_webhook_delivery",
        sa.Column("id", ID, nullable=False),
        sa.Column("webhook_id", ID, nullable=False),
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("topic", sa.String(length=64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("replay_of", ID, nullable=True),
        sa.Column("status_code", sa.Integer(), nullable=True),
        *_delivery(),
        sa.ForeignKeyConstraint(
            ["webhook_id"],
            ["console_webhook.id"],
            name="fk_console_webhook_delivery_webhook_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_console_webhook_delivery"),
        sa.UniqueConstraint(
            "webhook_id", "source", name="uq_console_webhook_delivery_webhook_id_source"
        ),
    )
    op.create_index(
        "ix_console_webhook_delivery_webhook_id",
        "console_webhook_delivery",
        ["webhook_id", "id"],
        unique=False,
    )
    op.create_index(
        "ix_console_webhook_delivery_due", "console_webhook_delivery", ["next_at"], unique=False
    )
    op.create_table(
        "console_webhook_cursor",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("notices", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_console_webhook_cursor"),
    )


def _delivery() -> tuple[sa.Column[object], ...]:
    """What deliveries of both kinds have."""
    return (
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", MOMENT, nullable=True),
        sa.Column("error", sa.String(length=500), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("delivered_at", MOMENT, nullable=True),
    )


def downgrade() -> None:
    """Take it back."""
    for table in (
        "console_webhook_cursor",
        "console_webhook_delivery",
        "console_webhook",
        "console_alert_delivery",
        "console_alert",
        "console_alert_standing",
        "console_alert_rule",
        "console_alert_channel",
        "console_notice",
    ):
        op.drop_table(table)
