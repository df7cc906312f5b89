"""Runs page by page, the newest first, from a store that lists them oldest first.

Ids begin with the millisecond of their making, so a page is looked for in the latest minute, then
in the four before it, and so on: what is new is found at once, however many runs are kept.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from conveyor.core.run import Run
from conveyor.core.run import decode as decode_run
from conveyor.flows.runs import RUN

if TYPE_CHECKING:
    from conveyor.flows.runs import Runs

_PAGE = 1_000
_FIRST, _WIDER = 60.0, 4.0
_AFTER_ALL = "g"
"""Sorts behind every id: they are hexadecimal."""


async def page(
    runs: Runs, limit: int, *, status: str | None = None, before: str | None = None
) -> list[Run]:
    """Return up to `limit` runs with ids below `before`, without their nodes."""
    found: list[Run] = []
    ceiling = _AFTER_ALL if before is None else before
    edge, span = _time_of(before, runs.clock.time()), _FIRST
    while len(found) < limit:
        edge -= span
        floor = _id_at(edge) if edge > 0 else ""
        found += await _between(runs, floor, ceiling, status, limit - len(found))
        if not floor:
            break
        ceiling, span = min(ceiling, floor), span * _WIDER
    return found


async def _between(
    runs: Runs, floor: str, ceiling: str, status: str | None, limit: int
) -> list[Run]:
    newest: deque[Run] = deque(maxlen=limit)
    after = floor
    while documents := await runs.broker.documents.list(RUN, after=after, limit=_PAGE):
        each = (decode_run(one.body) for one in documents if one.id < ceiling)
        newest += [run for run in each if status in {None, run.status}]
        after = documents[-1].id
        if len(documents) < _PAGE or after >= ceiling:
            break
    return list(newest)[::-1]


def _time_of(run_id: str | None, now: float) -> float:
    if run_id is None:
        return now
    try:
        return min(now, int(run_id[:8] + run_id[9:13], 16) / 1_000)
    except ValueError:
        return now


def _id_at(moment: float) -> str:
    """Return where the ids of that millisecond begin."""
    digits = f"{int(moment * 1_000):012x}"
    return f"{digits[:8]}-{digits[8:]}"
