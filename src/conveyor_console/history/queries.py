"""Questions asked of the past. A page never reads more than a window of rows, whatever the filter
and however many tasks there are: what an index cannot answer is looked for among the newest that it
can name, and the answer says how far that was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from sqlalchemy import Select, Subquery, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from conveyor.inspect import State
from conveyor_console.history.fields import column
from conveyor_console.history.models import Kind, Task, TaskExecution, TaskLog, TaskResult
from conveyor_console.kit.filters import Condition, expanded
from conveyor_console.kit.selecting import Selecting

WINDOW = 10_000
_MOST_PARTS, _MOST_WINDOWS = 24, 8
_MOST_KINDS = 5_000
FINALS = tuple(state.value for state in State if state.is_final)


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one source, newest first. `floor` is the id down to which that is all there is to
    say; None: there is nothing more. `cut`: it stopped before it had found as many as asked."""

    rows: Sequence[Any]
    floor: str | None = None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """Index prefixes to walk, each newest first, and what is left to be checked row by row."""

    prefixes: list[dict[str, Any]]
    rest: list[Condition]


async def finished(
    session: AsyncSession, wanted: Sequence[Condition], before: str | None, limit: int
) -> Part:
    """Return up to `limit` finished tasks that fit, the newest first, below the id `before`."""
    plan = _plan(await _known_names(session, wanted))
    if not plan.prefixes:
        return Part([])
    # Whole rows, and no join of ids with the table again: a planner that believes in its statistics
    # may read all of it for that.
    row = aliased(Task, _walk(plan, before, WINDOW if plan.rest else limit, whole=True))
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    selecting = Selecting(lambda name: column(name, row), is_sqlite=is_sqlite)
    statement = select(row).where(selecting.clause(plan.rest)).order_by(row.id.desc())
    rows = (await session.scalars(statement.limit(limit))).all()
    if len(rows) == limit:
        return Part(rows, rows[-1].id)
    if not plan.rest:
        return Part(rows)
    ids = _walk(plan, before, WINDOW, whole=False)
    read, lowest = (await session.execute(select(func.count(), func.min(ids.c.id)))).one()
    return Part(rows, lowest, cut=True) if read == WINDOW else Part(rows)


async def _known_names(session: AsyncSession, wanted: Sequence[Condition]) -> list[Condition]:
    """Turn patterns of names and queues into the names that there are: an index knows these."""
    found = list(wanted)
    for place, one in enumerate(found):
        if one.attribute in {"name", "queue"} and one.patterns and not one.negated:
            known = select(Kind.name if one.attribute == "name" else Kind.queue)
            names = await session.scalars(known.distinct().limit(_MOST_KINDS))
            found[place] = expanded(one, names.all())
    return found


def _plan(wanted: Sequence[Condition]) -> _Plan:
    states, rest = list(FINALS), []
    for one in wanted:
        if one.attribute == "state":
            states = [state for state in states if state in one.values]
        else:
            rest.append(one)
    for attribute in ("id", "key", "flow", "name", "queue"):
        driver = next((one for one in rest if _drives(one, attribute)), None)
        if driver is None:
            continue
        rest.remove(driver)
        prefixes = [
            {attribute: value, "state": state} for value, state in product(driver.values, states)
        ]
        if len(prefixes) <= (_MOST_WINDOWS if rest else _MOST_PARTS):
            return _Plan(prefixes, rest)
        rest.append(driver)
    if states == list(FINALS):
        # Nearly all rows are: the primary key alone is the shortest way.
        return _Plan([{}], [*rest])
    return _Plan([{"state": state} for state in states], rest)


def _drives(one: Condition, attribute: str) -> bool:
    return one.attribute == attribute and one.op == "is" and not (one.negated or one.patterns)


def _walk(plan: _Plan, before: str | None, limit: int, *, whole: bool) -> Subquery:
    parts = [_newest(prefix, before, limit, whole=whole) for prefix in plan.prefixes]
    if len(parts) == 1:
        return parts[0].subquery("newest")
    merged = union_all(*(select(part.subquery()) for part in parts)).subquery()
    return select(merged).order_by(merged.c.id.desc()).limit(limit).subquery("newest")


def _newest(prefix: dict[str, Any], before: str | None, limit: int, *, whole: bool) -> Select[Any]:
    columns: Any = Task.__table__ if whole else Task.id
    statement = select(columns).order_by(Task.id.desc()).limit(limit)
    for name, value in prefix.items():
        statement = statement.where(column(name) == value)
    if not prefix:
        statement = statement.where(Task.finished_at.is_not(None))
    return statement if before is None else statement.where(Task.id < before)


@dataclass(frozen=True, slots=True)
class Whole:
    """A task with all that belongs to it."""

    task: Task
    executions: Sequence[TaskExecution]
    logs: dict[int, str]
    result: str | None


async def whole(session: AsyncSession, task_id: str) -> Whole | None:
    """Return everything that the history knows of a task, None when it knows nothing."""
    task = await session.get(Task, task_id)
    if task is None:
        return None
    executions = await session.scalars(
        select(TaskExecution)
        .where(TaskExecution.task_id == task_id)
        .order_by(TaskExecution.number.desc())
        .limit(200)
    )
    logs = await session.scalars(
        select(TaskLog).where(TaskLog.task_id == task_id).order_by(TaskLog.number.desc()).limit(200)
    )
    result = await session.get(TaskResult, task_id)
    return Whole(
        task,
        executions.all()[::-1],
        {one.number: one.lines for one in logs},
        None if result is None else result.body,
    )
