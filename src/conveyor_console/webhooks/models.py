"""Endpoints, and what was sent to them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from conveyor_console.db.base import PREFIX, Base, Id, Json, Moment


class Webhook(Base):
    """An endpoint that is told of some topics."""

    __tablename__ = f"{PREFIX}webhook"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    url: Mapped[str] = mapped_column(String(2_000))
    topics: Mapped[list[str]] = mapped_column(Json)
    enabled: Mapped[bool]
    secret_sealed: Mapped[str] = mapped_column(Text)
    former_sealed: Mapped[str | None] = mapped_column(Text)
    """The secret before the last rotation: signs too until `former_until`."""
    former_until: Mapped[datetime | None] = mapped_column(Moment)
    created_by: Mapped[str] = mapped_column(String(300))
    created_at: Mapped[datetime] = mapped_column(Moment)
    updated_at: Mapped[datetime] = mapped_column(Moment)
    version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy declares it


class WebhookDelivery(Base):
    """One body for one endpoint, and how its sending went."""

    __tablename__ = f"{PREFIX}webhook_delivery"
    __table_args__ = (
        UniqueConstraint("webhook_id", "source"),
        Index("ix_console_webhook_delivery_webhook_id", "webhook_id", "id"),
        Index("ix_console_webhook_delivery_due", "webhook_id", "next_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey(f"{PREFIX}webhook.id", ondelete="CASCADE"))
    source: Mapped[str] = mapped_column(String(80))
    """What it tells of: nothing is told twice to one endpoint."""
    topic: Mapped[str] = mapped_column(String(64))
    body: Mapped[str] = mapped_column(Text)
    """Exactly what is sent and signed."""
    replay_of: Mapped[str | None] = mapped_column(Id)
    status_code: Mapped[int | None]
    state: Mapped[str] = mapped_column(String(16))
    """`pending`, `delivered` or `failed`."""
    attempts: Mapped[int]
    next_at: Mapped[datetime | None] = mapped_column(Moment)
    """When to try (again); None when it is over."""
    error: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[datetime] = mapped_column(Moment)
    delivered_at: Mapped[datetime | None] = mapped_column(Moment)


class WebhookCursor(Base):
    """How far the endpoints were told. One row."""

    __tablename__ = f"{PREFIX}webhook_cursor"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    events: Mapped[str] = mapped_column(Text)
    """Cursor of the queue's events."""
    store: Mapped[str] = mapped_column(String(36), default="")
    """Which store the cursor is of (`history.identity`); empty: nobody has looked yet."""
    notices: Mapped[datetime] = mapped_column(Moment)
