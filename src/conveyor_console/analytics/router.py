"""The past in numbers."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from conveyor_console.analytics import queries
from conveyor_console.analytics.queries import Range
from conveyor_console.analytics.schemas import (
    FailureOut,
    Failures,
    Numbers,
    Peak,
    Peaks,
    Point,
    Row,
    Series,
    Table,
)
from conveyor_console.auth.access import needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.deps import Reading, console_of
from conveyor_console.kit.pages import Limit
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.kit.wire import Moment

router = APIRouter(
    prefix="/analytics",
    tags=["analytics"],
    responses=problems(401, 403, 422),
    dependencies=[needs(Permission.ANALYTICS_READ)],
)
_MOST_POINTS = 1_500
_HOUR = 60


async def _range(
    request: Request,
    *,
    start: Annotated[Moment | None, Query(alias="from")] = None,
    to: Moment | None = None,
    bucket: Annotated[int, Query(ge=60, le=86_400 * 31, description="Seconds.")] = 3_600,
    task: Annotated[str | None, Query(max_length=256)] = None,
    queue: Annotated[str | None, Query(max_length=100)] = None,
) -> Range:
    """Which time, in which steps, of which task and queue; default: the last 24 hours by hour."""
    now = console_of(request).clock.now()
    end = _sane(to) if to is not None else now
    begin = _sane(start) if start is not None else end - timedelta(days=1)
    if begin >= end:
        raise Problem(422, "from must be before to")
    if bucket % 60 or (bucket > 3_600 and bucket % 3_600):
        raise Problem(422, "bucket must be whole minutes, or above an hour whole hours")
    step = bucket // 60
    grain = _HOUR if step % _HOUR == 0 else 1
    first = _minutes(begin) // grain * grain
    last = -(-_minutes(end, up=True) // grain) * grain
    if (last - first) / step > _MOST_POINTS:
        raise Problem(422, f"more than {_MOST_POINTS:,} points: take a longer bucket")
    return Range(first, last, step, _clean(queue), _clean(task))


Asked = Annotated[Range, Depends(_range)]


@router.get("/throughput")
async def throughput(asked: Asked, db: Reading) -> Series:
    """What ended when, how well, after which wait and run."""
    found = await queries.by(db, asked, queries.bucket_key(asked))
    points = [Point(at=_moment(at), **queries.numbers(*found[at])) for at in sorted(found)]
    every = ([0] * 6, *(counts for counts, _ in found.values()))
    counts = [sum(column) for column in zip(*every, strict=True)]
    times: dict[str, Counter[int]] = {"wait": Counter(), "run": Counter()}
    for _, each in found.values():
        for measure, seen in each.items():
            times[measure].update(seen)
    return Series(
        start=_moment(asked.start),
        end=_moment(asked.end),
        bucket=asked.bucket * 60,
        total=Numbers(**queries.numbers(counts, times)),
        points=points,
    )


@router.get("/tasks")
async def by_task(asked: Asked, db: Reading, limit: Limit = 100) -> Table:
    """The same for each task name."""
    return _table(asked, await queries.by(db, asked, lambda table: table.name), limit)


@router.get("/queues")
async def by_queue(asked: Asked, db: Reading, limit: Limit = 100) -> Table:
    """The same for each queue."""
    return _table(asked, await queries.by(db, asked, lambda table: table.queue), limit)


@router.get("/failures")
async def failures(asked: Asked, db: Reading, limit: Limit = 50) -> Failures:
    """Kinds of errors, by fingerprint, the most frequent first. They are counted by the hour:
    `start` and `end` say which."""
    asked = asked.by_hours()
    found = await queries.failures(db, asked, limit)
    return Failures(
        start=_moment(asked.start),
        end=_moment(asked.end),
        items=[
            FailureOut(
                first_at=_moment(one.pop("first") * _HOUR),
                last_at=_moment(one.pop("last") * _HOUR),
                **one,
            )
            for one in found
        ],
    )


@router.get("/peak-hours")
async def peak_hours(asked: Asked, db: Reading) -> Peaks:
    """Executions by hour of the week."""
    found = await queries.peaks(db, asked)
    items = [
        Peak(weekday=weekday, hour=hour, executions=executions, errors=errors)
        for weekday, hour, executions, errors in found
    ]
    return Peaks(start=_moment(asked.start), end=_moment(asked.end), items=items)


def _table(asked: Range, found: dict[str, Any], limit: int) -> Table:
    rows = [Row(name=name, **queries.numbers(*one)) for name, one in found.items()]
    rows.sort(key=lambda row: (-row.executions, row.name))
    return Table(start=_moment(asked.start), end=_moment(asked.end), items=rows[:limit])


def _sane(moment: datetime) -> datetime:
    """Return an aware moment that all databases know. Raises `Problem` 422."""
    if not 1971 <= moment.year <= 3000:
        raise Problem(422, "from and to must be between the years 1971 and 3000")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _minutes(moment: datetime, *, up: bool = False) -> int:
    since = moment - datetime.fromtimestamp(0, UTC)
    whole, rest = divmod(since, timedelta(minutes=1))
    return whole + (up and rest > timedelta(0))


def _moment(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


def _clean(text: str | None) -> str | None:
    return None if text is None else text.replace("\x00", "␀")
