"""Numbers that other programs report, for rules to be about: a bounce rate, an import's age."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.alerts.models import AlertReport
from conveyor_console.db.bulk import Upsert
from conveyor_console.kit.problems import Problem

MOST = 1_000
"""Values, one for each metric and target."""
KEPT = 7 * 86_400.0
"""Seconds that one is listed which is good no longer."""
_reports = Upsert(AlertReport.__table__, replace=True)


async def report(db: AsyncSession, row: AlertReport) -> None:
    """Keep the latest value of a metric for a target. Raises `Problem` 409 when there are too
    many."""
    await db.execute(delete(AlertReport).where(AlertReport.until < row.at - KEPT))
    known = await db.get(AlertReport, (row.metric, row.target))
    number = await db.scalar(select(func.count()).select_from(AlertReport))
    if known is None and (number or 0) >= MOST:
        raise Problem(409, f"there are {MOST:,} reported values already: delete a metric first")
    columns = AlertReport.__table__.columns
    await _reports.run(db, [tuple(getattr(row, one.key) for one in columns)])


async def names(db: AsyncSession) -> list[str]:
    """Return the metrics that were reported."""
    return list(await db.scalars(select(AlertReport.metric).distinct()))


async def values(db: AsyncSession, now: float) -> Mapping[tuple[str, str], float]:
    """Return the values that are good at a time (epoch seconds), by metric and target."""
    rows = await db.execute(
        select(AlertReport.metric, AlertReport.target, AlertReport.value).where(
            AlertReport.until > now
        )
    )
    return {(one.metric, one.target): one.value for one in rows}
