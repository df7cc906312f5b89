"""Rules, where they stand, alerts, and who is told."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Double, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from conveyor_console.db.base import PREFIX, Base, Id, Json, Moment


class AlertChannel(Base):
    """Where alerts are told: e-mail addresses, or the URL of a webhook."""

    __tablename__ = f"{PREFIX}alert_channel"
    __table_args__ = (UniqueConstraint("name"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    kind: Mapped[str] = mapped_column(String(16))
    target_sealed: Mapped[str] = mapped_column(Text)
    """Sealed: the URL of a chat's webhook lets anybody write there."""
    enabled: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(Moment)
    updated_at: Mapped[datetime] = mapped_column(Moment)
    version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy declares it


class AlertRule(Base):
    """When to raise an alert."""

    __tablename__ = f"{PREFIX}alert_rule"
    __table_args__ = (UniqueConstraint("name"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    metric: Mapped[str] = mapped_column(String(100))
    target: Mapped[str] = mapped_column(String(200))
    comparison: Mapped[str] = mapped_column(String(8))
    threshold: Mapped[float]
    clear: Mapped[float | None]
    for_seconds: Mapped[float]
    clear_seconds: Mapped[float]
    severity: Mapped[str] = mapped_column(String(16))
    enabled: Mapped[bool]
    channels: Mapped[list[str]] = mapped_column(Json)
    silenced_until: Mapped[datetime | None] = mapped_column(Moment)
    silenced_by: Mapped[str | None] = mapped_column(String(300))
    deleted_at: Mapped[datetime | None] = mapped_column(Moment)
    """It is gone as soon as those are told whom it told that it fires."""
    created_at: Mapped[datetime] = mapped_column(Moment)
    updated_at: Mapped[datetime] = mapped_column(Moment)
    version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy declares it


class AlertStanding(Base):
    """Where a rule stands: written by the evaluator, so apart from what people edit."""

    __tablename__ = f"{PREFIX}alert_standing"

    rule_id: Mapped[str] = mapped_column(
        ForeignKey(f"{PREFIX}alert_rule.id", ondelete="CASCADE"), primary_key=True
    )
    status: Mapped[str] = mapped_column(String(16))
    since: Mapped[datetime] = mapped_column(Moment)
    breached_at: Mapped[datetime | None] = mapped_column(Moment)
    cleared_at: Mapped[datetime | None] = mapped_column(Moment)
    announced: Mapped[bool]
    value: Mapped[float | None]
    checked_at: Mapped[datetime] = mapped_column(Moment)
    alert_id: Mapped[str | None] = mapped_column(Id)
    """The open alert, or the last one."""


class Alert(Base):
    """One time that a rule fired, from beginning to end."""

    __tablename__ = f"{PREFIX}alert"
    __table_args__ = (
        Index("ix_console_alert_rule_id", "rule_id", "id"),
        Index("ix_console_alert_status", "status", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    rule_id: Mapped[str] = mapped_column(ForeignKey(f"{PREFIX}alert_rule.id", ondelete="CASCADE"))
    status: Mapped[str] = mapped_column(String(16))
    severity: Mapped[str] = mapped_column(String(16))
    value: Mapped[float | None]
    """The last one that was measured while it was open."""
    summary: Mapped[str] = mapped_column(String(500))
    breached_at: Mapped[datetime] = mapped_column(Moment)
    fired_at: Mapped[datetime] = mapped_column(Moment)
    acknowledged_at: Mapped[datetime | None] = mapped_column(Moment)
    acknowledged_by: Mapped[str | None] = mapped_column(String(300))
    note: Mapped[str | None] = mapped_column(String(500))
    resolved_at: Mapped[datetime | None] = mapped_column(Moment)
    version: Mapped[int] = mapped_column(default=1)


class AlertDelivery(Base):
    """Telling one channel of one alert."""

    __tablename__ = f"{PREFIX}alert_delivery"
    __table_args__ = (
        Index("ix_console_alert_delivery_alert_id", "alert_id", "id"),
        Index("ix_console_alert_delivery_due", "channel_id", "next_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    alert_id: Mapped[str] = mapped_column(ForeignKey(f"{PREFIX}alert.id", ondelete="CASCADE"))
    channel_id: Mapped[str] = mapped_column(
        ForeignKey(f"{PREFIX}alert_channel.id", ondelete="CASCADE")
    )
    kind: Mapped[str] = mapped_column(String(16))
    """`firing`, `resolved` or `test`."""
    state: Mapped[str] = mapped_column(String(16))
    """`pending`, `delivered` or `failed`."""
    attempts: Mapped[int]
    next_at: Mapped[datetime | None] = mapped_column(Moment)
    """When to try (again); None when it is over."""
    error: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[datetime] = mapped_column(Moment)
    delivered_at: Mapped[datetime | None] = mapped_column(Moment)


class AlertReport(Base):
    """The last value of a metric that another program reports, for one target. Times are epoch
    seconds."""

    __tablename__ = f"{PREFIX}alert_report"

    metric: Mapped[str] = mapped_column(String(100), primary_key=True)
    target: Mapped[str] = mapped_column(String(200), primary_key=True)
    value: Mapped[float] = mapped_column(Double)
    at: Mapped[float] = mapped_column(Double)
    until: Mapped[float] = mapped_column(Double)
    """It is good until then."""
    reported_by: Mapped[str] = mapped_column(String(300))
