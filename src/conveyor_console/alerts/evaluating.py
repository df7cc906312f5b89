"""One evaluation: measure for every rule, decide, write down what changed and who is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.alerts import ending, reporting
from conveyor_console.alerts.measures import MEASURES, Snapshot
from conveyor_console.alerts.models import Alert, AlertChannel, AlertRule, AlertStanding
from conveyor_console.alerts.rules import OPEN, Comparison, Standing, Status, Terms, decide, telling
from conveyor_console.live import notices


class Evaluation:
    """Evaluates all rules in one transaction."""

    def __init__(self, db: AsyncSession, new_id: Callable[[], str], now: datetime) -> None:
        self._db = db
        self._new_id = new_id
        self._now = now
        self._reported: Mapping[tuple[str, str], float] = {}

    async def run(self, seen: Snapshot) -> int:
        """Evaluate every rule; returns how many alerts are open."""
        # Shared: who changes a rule waits, so nothing is raised by what the rule said before.
        enabled = select(AlertRule).where(AlertRule.enabled).order_by(AlertRule.id)
        rules = (await self._db.scalars(enabled.with_for_update(read=True))).all()
        # Locked: who acknowledges an alert meanwhile waits, and then sees how it stands.
        standings = select(AlertStanding).with_for_update()
        stood = {row.rule_id: row for row in await self._db.scalars(standings)}
        self._reported = await reporting.values(self._db, self._now.timestamp())
        opened = 0
        for rule in rules:
            row = stood.get(rule.id) or self._fresh(rule)
            await self._evaluate(rule, row, seen)
            opened += Status(row.status) in OPEN
        return opened

    async def _evaluate(self, rule: AlertRule, row: AlertStanding, seen: Snapshot) -> None:
        measure = MEASURES.get(rule.metric)
        if measure is None:
            value = self._reported.get((rule.metric, rule.target))
        else:
            value = await measure(seen, rule.target)
        before = standing_of(row)
        after = decide(terms_of(rule), before, value, self._now)
        row.value, row.checked_at = value, self._now
        if before.status is not after.status:
            await self._turn(rule, row, after, value)
        elif after.status in OPEN and row.alert_id is not None and value is not None:
            alert = await self._db.get(Alert, row.alert_id)
            if alert is not None:
                alert.value = value
        silenced = rule.silenced_until is not None and rule.silenced_until > self._now
        kind, after = telling(after, silenced=silenced)
        _write(row, after)
        if kind is not None and row.alert_id is not None:
            await self._tell(rule, row.alert_id, kind)

    async def _turn(
        self, rule: AlertRule, row: AlertStanding, after: Standing, value: float | None
    ) -> None:
        """Write down that an alert begins or ends."""
        if after.status is Status.FIRING:
            row.alert_id = self._new_id()
            self._db.add(
                Alert(
                    id=row.alert_id,
                    rule_id=rule.id,
                    status=Status.FIRING.value,
                    severity=rule.severity,
                    value=value,
                    summary=summary_of(rule, value),
                    breached_at=after.breached_at or self._now,
                    fired_at=self._now,
                )
            )
            self._notice("alerts.firing", rule, row.alert_id, value)
        elif after.status is Status.RESOLVED and row.alert_id is not None:
            alert = await self._db.get(Alert, row.alert_id)
            if alert is not None:
                alert.status, alert.resolved_at = Status.RESOLVED.value, self._now
                alert.value = value
            self._notice("alerts.resolved", rule, row.alert_id, value)

    def _notice(self, topic: str, rule: AlertRule, alert_id: str, value: float | None) -> None:
        data = ending.told_of(rule, alert_id, value, summary_of(rule, value))
        notices.add(self._db, self._new_id(), self._now, topic, data)

    async def _tell(self, rule: AlertRule, alert_id: str, kind: str) -> None:
        # The alert's row first: no relationship tells the unit of work about the order.
        await self._db.flush()
        if kind == "resolved":
            await ending.tell(self._db, self._new_id, alert_id, self._now)
            return
        known = await self._db.scalars(
            select(AlertChannel.id).where(
                AlertChannel.id.in_(rule.channels or [""]), AlertChannel.enabled
            )
        )
        for channel_id in known:
            self._db.add(ending.delivery(self._new_id(), alert_id, channel_id, kind, self._now))

    def _fresh(self, rule: AlertRule) -> AlertStanding:
        row = AlertStanding(
            rule_id=rule.id,
            status=Status.OK.value,
            since=self._now,
            announced=False,
            checked_at=self._now,
        )
        self._db.add(row)
        return row


def terms_of(rule: AlertRule) -> Terms:
    """Return what a rule says."""
    comparison: Comparison = "below" if rule.comparison == "below" else "above"
    return Terms(comparison, rule.threshold, rule.clear, rule.for_seconds, rule.clear_seconds)


def standing_of(row: AlertStanding) -> Standing:
    """Return where a rule stands."""
    return Standing(
        Status(row.status), row.since, row.breached_at, row.cleared_at, bool(row.announced)
    )


def _write(row: AlertStanding, standing: Standing) -> None:
    row.status, row.since = standing.status.value, standing.since
    row.breached_at, row.cleared_at = standing.breached_at, standing.cleared_at
    row.announced = standing.announced


def summary_of(rule: AlertRule, value: float | None) -> str:
    """Say in a sentence what is wrong."""
    of = f" of {rule.target}" if rule.target else ""
    measured = "cannot be measured" if value is None else f"is {value:g}"
    return f"{rule.metric}{of} {measured} ({rule.comparison} {rule.threshold:g})"[:500]
