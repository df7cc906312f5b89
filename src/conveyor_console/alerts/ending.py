"""An alert that is over: those are told who were told that it fires, whoever ended it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import delete, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.alerts.models import (
    Alert,
    AlertChannel,
    AlertDelivery,
    AlertRule,
    AlertStanding,
)
from conveyor_console.live import notices


async def close(
    db: AsyncSession, new_id: Callable[[], str], now: datetime, rule: AlertRule, why: str
) -> bool:
    """Begin anew with a rule: an open alert of it is over, and `why` is told; returns whether there
    was one. To be called while the rule still says what it said."""
    standing = await db.get(AlertStanding, rule.id, with_for_update=True)
    if standing is None:
        return False
    alert = None if standing.alert_id is None else await db.get(Alert, standing.alert_id)
    is_open = alert is not None and alert.resolved_at is None
    if alert is not None and is_open:
        alert.status, alert.resolved_at = "resolved", now
        alert.summary = f"{why}; before that: {alert.summary}"[:500]
        data = {**told_of(rule, alert.id, alert.value, alert.summary), "reason": why}
        notices.add(db, new_id(), now, "alerts.resolved", data)
        await tell(db, new_id, alert.id, now)
    await db.delete(standing)
    await db.flush()
    return is_open


async def tell(db: AsyncSession, new_id: Callable[[], str], alert_id: str, now: datetime) -> None:
    """Tell that an alert is over, on the channels that were told, or are being told, that it
    fires."""
    told = select(AlertDelivery.channel_id).where(
        AlertDelivery.alert_id == alert_id,
        AlertDelivery.kind == "firing",
        AlertDelivery.state.in_(("pending", "delivered")),
    )
    channels = select(AlertChannel.id).where(AlertChannel.id.in_(told), AlertChannel.enabled)
    for channel_id in await db.scalars(channels):
        db.add(delivery(new_id(), alert_id, channel_id, "resolved", now))


async def bury(db: AsyncSession, rule: AlertRule, now: datetime) -> None:
    """Delete a rule; while somebody must still be told of its alerts it only looks deleted."""
    if await db.scalar(select(_telling(rule.id))):
        rule.deleted_at, rule.enabled = now, False
        rule.name = rule.name[:50] + _deleted(rule)  # the name is free for another one
    else:
        await db.execute(delete(AlertRule).where(AlertRule.id == rule.id))


async def bury_all(db: AsyncSession) -> None:
    """Delete the rules that only looked deleted, when everybody was told."""
    told = AlertRule.deleted_at.is_not(None) & ~_telling(AlertRule.id)
    await db.execute(delete(AlertRule).where(told))


def name_of(rule: AlertRule) -> str:
    """Return what a rule is, or was, called."""
    return rule.name.removesuffix(_deleted(rule))


def _deleted(rule: AlertRule) -> str:
    return f" (deleted {rule.id})"


def _telling(rule_id: Any) -> Any:
    return exists().where(
        AlertDelivery.state == "pending",
        AlertDelivery.alert_id == Alert.id,
        Alert.rule_id == rule_id,
    )


def delivery(
    delivery_id: str, alert_id: str, channel_id: str, kind: str, now: datetime
) -> AlertDelivery:
    """Make a delivery that is due now."""
    return AlertDelivery(
        id=delivery_id,
        alert_id=alert_id,
        channel_id=channel_id,
        kind=kind,
        state="pending",
        attempts=0,
        next_at=now,
        created_at=now,
    )


def told_of(rule: AlertRule, alert_id: str, value: float | None, summary: str) -> dict[str, Any]:
    """Return what a notice tells of an alert."""
    return {
        "alert_id": alert_id,
        "rule_id": rule.id,
        "rule": rule.name,
        "severity": rule.severity,
        "metric": rule.metric,
        "target": rule.target,
        "value": value,
        "summary": summary,
    }
