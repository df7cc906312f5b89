"""Looking alerts and rules up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import exists, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from conveyor_console.alerts.models import (
    Alert,
    AlertChannel,
    AlertDelivery,
    AlertRule,
    AlertStanding,
)
from conveyor_console.alerts.schemas import RuleOut, StandingOut
from conveyor_console.alerts.searching import CHANNELS, RULES
from conveyor_console.kit.etags import TO_CHANGE
from conveyor_console.kit.filters import Field, Kind
from conveyor_console.kit.grammar import FREE
from conveyor_console.kit.problems import Problem
from conveyor_console.kit.searching import Searching


async def rule_of(db: AsyncSession, rule_id: str, *, to_change: bool = False) -> AlertRule:
    """Return a rule. Raises `Problem` 404."""
    found = await db.get(AlertRule, rule_id, with_for_update=TO_CHANGE if to_change else None)
    if found is None or found.deleted_at is not None:
        raise Problem(404, "there is no such rule")
    return found


async def channel_of(db: AsyncSession, channel_id: str, *, to_change: bool = False) -> AlertChannel:
    """Return a channel. Raises `Problem` 404."""
    found = await db.get(AlertChannel, channel_id, with_for_update=TO_CHANGE if to_change else None)
    if found is None:
        raise Problem(404, "there is no such channel")
    return found


async def alert_of(db: AsyncSession, alert_id: str) -> Alert:
    """Return an alert. Raises `Problem` 404."""
    found = await db.get(Alert, alert_id)
    if found is None:
        raise Problem(404, "there is no such alert")
    return found


async def rules_out(db: AsyncSession, rules: Sequence[AlertRule]) -> list[RuleOut]:
    """Return rules with where they stand."""
    stood = await db.scalars(
        select(AlertStanding).where(AlertStanding.rule_id.in_([rule.id for rule in rules]))
    )
    known = {row.rule_id: StandingOut.model_validate(row) for row in stood}
    return [
        RuleOut.model_validate(rule).model_copy(update={"standing": known.get(rule.id)})
        for rule in rules
    ]


async def rules(
    db: AsyncSession, q: str, now: datetime, after: str | None, limit: int
) -> list[AlertRule]:
    """Return rules by the time they were made."""
    living = AlertRule.deleted_at.is_(None)
    statement = select(AlertRule).where(living).order_by(AlertRule.id).limit(limit)
    statement = RULES.narrow(db, statement, q, now)
    if after is not None:
        statement = statement.where(AlertRule.id > after)
    return list(await db.scalars(statement))


async def channels(
    db: AsyncSession, q: str, now: datetime, after: str | None, limit: int
) -> list[AlertChannel]:
    """Return channels by the time they were made."""
    statement = select(AlertChannel).order_by(AlertChannel.id).limit(limit)
    statement = CHANNELS.narrow(db, statement, q, now)
    if after is not None:
        statement = statement.where(AlertChannel.id > after)
    return list(await db.scalars(statement))


SEARCH = Searching(
    fields={
        "status": Field(Kind.CHOICE, "status", ("firing", "acknowledged", "resolved")),
        "severity": Field(Kind.CHOICE, "severity", ("info", "warning", "critical")),
        "rule": Field(Kind.TEXT, "rule"),
        "metric": Field(Kind.TEXT, "metric"),
        "target": Field(Kind.TEXT, "target"),
        "by": Field(Kind.TEXT, "acknowledged_by"),
        "note": Field(Kind.WORDS, "note"),
        "value": Field(Kind.NUMBER, "value"),
        "age": Field(Kind.AGE, "fired_at"),
        "fired": Field(Kind.MOMENT, "fired_at"),
        "resolved": Field(Kind.MOMENT, "resolved_at"),
        FREE: Field(Kind.WORDS, "text"),
    },
    columns={
        "status": Alert.status.expression,
        "severity": Alert.severity.expression,
        "rule": AlertRule.name.expression,
        "metric": AlertRule.metric.expression,
        "target": AlertRule.target.expression,
        "acknowledged_by": Alert.acknowledged_by.expression,
        "note": Alert.note.expression,
        "value": Alert.value.expression,
        "fired_at": Alert.fired_at.expression,
        "resolved_at": Alert.resolved_at.expression,
        "text": AlertRule.name + literal(" ") + Alert.summary,
    },
)


async def alerts(
    db: AsyncSession,
    *,
    status: str | None,
    rule_id: str | None,
    q: str,
    now: datetime,
    before: str | None,
    limit: int,
) -> list[Alert]:
    """Return alerts, the newest first."""
    joined = select(Alert).join(AlertRule, AlertRule.id == Alert.rule_id)
    statement = joined.order_by(Alert.id.desc()).limit(limit)
    statement = SEARCH.narrow(db, statement, q, now)
    if status is not None:
        statement = statement.where(Alert.status == status)
    if rule_id is not None:
        statement = statement.where(Alert.rule_id == rule_id)
    if before is not None:
        statement = statement.where(Alert.id < before)
    return list(await db.scalars(statement))


async def deliveries(
    db: AsyncSession, alert_id: str, before: str | None, limit: int
) -> list[AlertDelivery]:
    """Return who was told of an alert, the newest first."""
    statement = (
        select(AlertDelivery)
        .where(AlertDelivery.alert_id == alert_id)
        .order_by(AlertDelivery.id.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(AlertDelivery.id < before)
    return list(await db.scalars(statement))


async def due(db: AsyncSession, channel_id: str, now: datetime, limit: int) -> Sequence[Any]:
    """Return what a channel is to be told now: delivery, channel, alert and rule of each. That an
    alert is over is told after that it fires."""
    earlier = aliased(AlertDelivery)
    waits = exists().where(
        earlier.channel_id == AlertDelivery.channel_id,
        earlier.alert_id == AlertDelivery.alert_id,
        earlier.state == "pending",
        earlier.id < AlertDelivery.id,
    )
    found = await db.execute(
        select(AlertDelivery, AlertChannel, Alert, AlertRule)
        .join(AlertChannel, AlertChannel.id == AlertDelivery.channel_id)
        .join(Alert, Alert.id == AlertDelivery.alert_id)
        .join(AlertRule, AlertRule.id == Alert.rule_id)
        .where(AlertDelivery.channel_id == channel_id, AlertDelivery.next_at <= now, ~waits)
        .where(AlertChannel.enabled)
        .order_by(AlertDelivery.next_at, AlertDelivery.id)
        .limit(limit)
    )
    return found.all()


async def give_up_on_disabled(db: AsyncSession) -> None:
    """End what channels were to be told that are disabled by now: it would be old when they come
    back, and rules that are deleted wait for it."""
    disabled = select(AlertChannel.id).where(AlertChannel.enabled.is_(False))
    await db.execute(
        update(AlertDelivery)
        .where(AlertDelivery.next_at.is_not(None), AlertDelivery.channel_id.in_(disabled))
        .values(state="failed", next_at=None, error="the channel is disabled")
    )


async def must_be_free(
    db: AsyncSession, kind: type[AlertRule] | type[AlertChannel], name: str, own: str | None = None
) -> None:
    """Raise `Problem` 409 when another one has the name."""
    taken = await db.scalar(select(kind.id).where(kind.name == name))
    if taken is not None and taken != own:
        raise Problem(409, f"the name {name!r} is taken")


async def must_be_channels(db: AsyncSession, ids: Sequence[str]) -> None:
    """Raise `Problem` 422 for the id of no channel."""
    found = set(await db.scalars(select(AlertChannel.id).where(AlertChannel.id.in_(ids or [""]))))
    for index, one in enumerate(ids):
        if one not in found:
            detail = f"there is no channel {one}"
            raise Problem(
                422,
                detail,
                errors=[{"in": "body", "pointer": f"/channels/{index}", "detail": detail}],
            )
