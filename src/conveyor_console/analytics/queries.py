"""Sums of sums: what is read grows with the range and the number of task names, not with tasks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.history.buckets import percentile
from conveyor_console.history.models import Failure, Histogram, Rollup

_COUNTS = ("succeeded", "failed", "cancelled", "skipped", "executions", "errors")
_HOUR = 60
_WEEK = 168
_MONDAY = 96
"""Hours from the epoch, which was a Thursday, to the first Monday."""


@dataclass(frozen=True, slots=True)
class Range:
    """What is asked about: epoch minutes from `start` up to `end`, in steps of `bucket` minutes, of
    one queue or task name if given."""

    start: int
    end: int
    bucket: int = 1
    queue: str | None = None
    name: str | None = None

    def by_hours(self) -> Range:
        """Return the hours that this touches."""
        start, end = self.start // _HOUR * _HOUR, -(-self.end // _HOUR) * _HOUR
        return replace(self, start=start, end=end)

    @property
    def span(self) -> int:
        """Which sums do: those of hours where the edges and steps are hours."""
        whole = self.start % _HOUR == self.end % _HOUR == self.bucket % _HOUR == 0
        return _HOUR if whole else 1


def numbers(counts: Sequence[int], times: dict[str, Counter[int]]) -> dict[str, Any]:
    """Return what `schemas.Numbers` wants."""
    found: dict[str, Any] = dict(zip(_COUNTS, counts, strict=True))
    judged = found["succeeded"] + found["failed"]
    found["success_rate"] = found["succeeded"] / judged if judged else None
    for measure in ("wait", "run"):
        seen = times.get(measure, Counter())
        found[measure] = {f"p{share}": percentile(seen, share / 100) for share in (50, 95, 99)}
    return found


async def by(
    session: AsyncSession, asked: Range, key: Any
) -> dict[Any, tuple[list[int], dict[str, Counter[int]]]]:
    """Return counts and times by `key`, a function of the table that gives an expression."""
    found: dict[Any, tuple[list[int], dict[str, Counter[int]]]] = defaultdict(
        lambda: ([0] * len(_COUNTS), defaultdict(Counter))
    )
    group = key(Rollup)
    sums = [func.sum(Rollup.__table__.c[name]) for name in _COUNTS]
    for at, *counts in await session.execute(_within(select(group, *sums), Rollup, asked, group)):
        found[at][0][:] = map(int, counts)
    group = key(Histogram)
    columns = (group, Histogram.measure, Histogram.bucket)
    statement = _within(select(*columns, func.sum(Histogram.number)), Histogram, asked, *columns)
    for at, measure, bucket, number in await session.execute(statement):
        found[at][1][measure][bucket] += int(number)
    return dict(found)


def bucket_key(asked: Range) -> Any:
    """Return the key for points in time: the minute in which a bucket begins."""

    def key(table: Any) -> ColumnElement[int]:
        # A literal and no parameter: the grouping must be the very same expression.
        size: ColumnElement[int] = literal(asked.bucket, literal_execute=True)
        return table.minute - table.minute % size  # type: ignore[no-any-return]

    return key


def _within(statement: Select[Any], table: Any, asked: Range, *groups: Any) -> Select[Any]:
    statement = statement.where(
        table.span == asked.span, table.minute >= asked.start, table.minute < asked.end
    )
    if asked.queue is not None:
        statement = statement.where(table.queue == asked.queue)
    if asked.name is not None:
        statement = statement.where(table.name == asked.name)
    return statement.group_by(*groups)


async def failures(session: AsyncSession, asked: Range, limit: int) -> list[dict[str, Any]]:
    """Return kinds of errors, the most frequent first."""
    statement = (
        select(
            Failure.fingerprint,
            func.sum(Failure.number).label("number"),
            func.min(Failure.hour),
            func.max(Failure.hour),
            func.max(Failure.task_id),
        )
        .where(Failure.hour >= asked.start // _HOUR, Failure.hour * _HOUR < asked.end)
        .group_by(Failure.fingerprint)
        .order_by(func.sum(Failure.number).desc(), Failure.fingerprint)
        .limit(limit)
    )
    for column, wanted in ((Failure.queue, asked.queue), (Failure.name, asked.name)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    rows = (await session.execute(statement)).all()
    prints = [row[0] for row in rows]
    about = await _about(session, asked, prints)
    return [
        {
            "fingerprint": fingerprint,
            "number": int(number),
            "first": first,
            "last": last,
            "task_id": task_id,
            **about[fingerprint],
        }
        for fingerprint, number, first, last, task_id in rows
    ]


async def _about(session: AsyncSession, asked: Range, prints: list[str]) -> dict[str, Any]:
    """Return what the latest task says of each kind, and where the kind was seen. What is read
    grows with the kinds and their task names and queues, not with the hours."""
    within = (
        Failure.hour >= asked.start // _HOUR,
        Failure.hour * _HOUR < asked.end,
        Failure.fingerprint.in_(prints),
    )
    latest = (
        func.row_number()
        .over(partition_by=Failure.fingerprint, order_by=Failure.task_id.desc())
        .label("place")
    )
    columns = (Failure.fingerprint, Failure.error_type, Failure.error, latest)
    newest = select(*columns).where(*within).subquery()
    told = select(newest.c.fingerprint, newest.c.error_type, newest.c.error)
    found: dict[str, Any] = {
        fingerprint: {"error_type": error_type, "error": error, "names": set(), "queues": set()}
        for fingerprint, error_type, error in await session.execute(told.where(newest.c.place == 1))
    }
    places = select(Failure.fingerprint, Failure.name, Failure.queue).where(*within).distinct()
    for fingerprint, name, queue in await session.execute(places):
        found[fingerprint]["names"].add(name)
        found[fingerprint]["queues"].add(queue)
    for about in found.values():
        about["names"], about["queues"] = sorted(about["names"]), sorted(about["queues"])
    return found


async def peaks(session: AsyncSession, asked: Range) -> list[tuple[int, int, int, int]]:
    """Return weekday, hour, executions and errors of every hour of the week with any."""
    sums = (func.sum(Rollup.executions), func.sum(Rollup.errors))
    statement: Any = select(Rollup.minute, *sums)
    found: dict[int, tuple[int, int]] = {}
    for minute, executions, errors in await session.execute(
        _within(statement, Rollup, asked, Rollup.minute)
    ):
        of_week = (minute // _HOUR - _MONDAY) % _WEEK
        so_far = found.get(of_week, (0, 0))
        found[of_week] = (so_far[0] + int(executions), so_far[1] + int(errors))
    return [(at // 24, at % 24, *found[at]) for at in sorted(found) if found[at][0]]
