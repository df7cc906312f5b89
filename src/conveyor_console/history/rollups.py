"""Sums that grow with every batch, so that a question about a month reads no task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from operator import add
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from conveyor.inspect import Execution, State, TaskInfo
from conveyor_console.db.bulk import Upsert
from conveyor_console.history.buckets import bucket_of
from conveyor_console.history.models import Failure, Histogram, Kind, Rollup
from conveyor_console.history.rows import print_of, visible

_STATES = {State.SUCCEEDED: 0, State.FAILED: 1, State.CANCELLED: 2, State.SKIPPED: 3}
_EXECUTIONS, _ERRORS = 4, 5
_COUNTS = ("succeeded", "failed", "cancelled", "skipped", "executions", "errors")
_rollups = Upsert(Rollup.__table__, add=_COUNTS)
_histograms = Upsert(Histogram.__table__, add=("number",))
_failures = Upsert(Failure.__table__, add=("number",), latest=("error_type", "error", "task_id"))
_kinds = Upsert(Kind.__table__)
_SHORT = 500
_Place = tuple[int, str, str]
"""Minute, queue, task name."""


class Sums:
    """What one batch adds."""

    def __init__(self) -> None:
        self._counts: dict[_Place, list[int]] = {}
        self._times: Counter[tuple[int, str, str, str, int]] = Counter()
        self._failed: Counter[tuple[int, str, str, str]] = Counter()
        self._errors: dict[tuple[int, str, str, str], tuple[str, str, str]] = {}

    def end(self, info: TaskInfo) -> None:
        """Count a task that has become final."""
        self._at(info.finished_at or 0.0, info)[_STATES[info.state]] += 1

    def execution(self, info: TaskInfo, one: Execution, waited: float | None) -> None:
        """Count an execution, in the minute of its end; `waited` is how long the task waited for
        it, seconds, where that is known."""
        end = one.started_at + one.duration
        counts = self._at(end, info)
        counts[_EXECUTIONS] += 1
        minute = int(end // 60)
        self._times[minute, info.queue, info.name, "run", bucket_of(one.duration)] += 1
        if waited is not None:
            self._times[minute, info.queue, info.name, "wait", bucket_of(waited)] += 1
        if one.error is not None:
            counts[_ERRORS] += 1
            place = (int(end // 3600), print_of(one.error), info.queue, info.name)
            self._failed[place] += 1
            message = visible(one.error.message)[:_SHORT]
            self._errors[place] = visible(one.error.type), message, info.id

    def _at(self, when: float, info: TaskInfo) -> list[int]:
        place = (int(when // 60), info.queue, info.name)
        counts = self._counts.get(place)
        if counts is None:
            counts = self._counts[place] = [0] * len(_COUNTS)
        return counts

    async def add(self, session: AsyncSession) -> None:
        """Add them to what is stored."""
        await _rollups.run(session, _sorted(self._count_rows()))
        await _histograms.run(session, _sorted(self._time_rows()))
        failures = ((*at, n, *self._errors[at]) for at, n in self._failed.items())
        await _failures.run(session, _sorted(failures))
        await _kinds.run(session, _sorted({(name, queue) for _, queue, name in self._counts}))

    def _count_rows(self) -> Iterator[tuple[Any, ...]]:
        hours: dict[_Place, list[int]] = {}
        for (minute, *place), numbers in self._counts.items():
            yield 1, minute, *place, *numbers
            queue, name = place
            hour = hours.setdefault((minute - minute % 60, queue, name), [0] * len(_COUNTS))
            hour[:] = map(add, hour, numbers)
        for at, numbers in hours.items():
            yield 60, *at, *numbers

    def _time_rows(self) -> Iterator[tuple[Any, ...]]:
        hours: Counter[tuple[Any, ...]] = Counter()
        for (minute, *place), number in self._times.items():
            yield 1, minute, *place, number
            hours[minute - minute % 60, *place] += number
        for at, number in hours.items():
            yield 60, *at, number


def _sorted(rows: Any) -> list[tuple[Any, ...]]:
    # In one order always: two recorders for a moment must not lock each other out.
    return sorted(rows)
