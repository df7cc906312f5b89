"""What the list of runs can be filtered by. The queue knows them by id alone, so a page looks
through a number of them at most."""

from __future__ import annotations

from typing import Any

from conveyor import Conveyor, workflows
from conveyor.workflows import Run
from conveyor_console.kit.filters import Field, Kind, conditions, matches
from conveyor_console.kit.grammar import FREE, BadQuery
from conveyor_console.kit.pages import bad_query, cursor_at
from conveyor_console.workflows.schemas import RunOut, RunPage, Status

WINDOW = 10_000
"""Runs that are looked at for one page."""
_AT_ONCE = 1_000
FIELDS = {
    "id": Field(Kind.TEXT, "id"),
    "workflow": Field(Kind.TEXT, "name"),
    "status": Field(Kind.CHOICE, "status", ("running", "succeeded", "failed", "cancelled")),
    "by": Field(Kind.TEXT, "by"),
    "reason": Field(Kind.WORDS, "reason"),
    "parent": Field(Kind.TEXT, "parent"),
    "age": Field(Kind.AGE, "created_at"),
    "created": Field(Kind.MOMENT, "created_at"),
    "finished": Field(Kind.MOMENT, "finished_at"),
    FREE: Field(Kind.WORDS, "text"),
}


async def page(
    app: Conveyor, q: str, now: float, *, status: Status | None, before: str | None, limit: int
) -> RunPage:
    """Return a page of the runs that fit, the newest first; `now` (epoch seconds) is for ages.
    Raises `Problem` 422."""
    try:
        wanted = conditions(q, FIELDS, now)
    except BadQuery as exc:
        raise bad_query(exc) from None
    at_once = _AT_ONCE if wanted else limit + 1
    found: list[Run] = []
    for _ in range(0, WINDOW, at_once):
        rows = await workflows.runs(app, status=status, before=before, limit=at_once)
        found += [run for run in rows if matches(run, wanted, _read)]
        if len(found) > limit:
            return _page(found[:limit], found[limit - 1].id)
        if len(rows) < at_once:
            return _page(found, None)
        before = rows[-1].id
    return _page(found, before, truncated=True)


def _page(found: list[Run], floor: str | None, *, truncated: bool = False) -> RunPage:
    return RunPage(
        items=[RunOut.of(run) for run in found],
        next_cursor=None if floor is None else cursor_at([floor]),
        truncated=truncated,
    )


def _read(run: Run, attribute: str) -> Any:
    if attribute == "text":
        return f"{run.name} {run.id}"
    if attribute in {"by", "reason"}:
        return run.cancel and getattr(run.cancel, attribute)
    return getattr(run, attribute)
