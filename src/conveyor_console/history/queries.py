"""Questions asked of the past. A page never reads more than a window of rows, whatever the filter
and however many tasks there are: what an index cannot answer is looked for among the newest that it
can name, and the answer says how far that was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    String,
    bindparam,
    literal_column,
    select,
    text,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor.inspect import State
from conveyor_console.history.fields import column, hidden
from conveyor_console.history.models import Kind, Task, TaskExecution, TaskLog, TaskResult
from conveyor_console.history.rows import NONE
from conveyor_console.kit.filters import Condition, expanded
from conveyor_console.kit.selecting import Selecting

STEPS = (250, 750, 1_500, *(2_500,) * 3)
"""A database reads a thousand rows in half a millisecond, and as long again takes the asking."""
WINDOW = sum(STEPS)
"""Rows that are looked at for one page."""
PLAN_ANEW = text("SET LOCAL plan_cache_mode = force_custom_plan")
_MOST_PARTS, _MOST_WINDOWS = 24, 8
_MOST_KINDS = 5_000
ALL: ColumnElement[Any] = literal_column("*")
"""Naming thirty columns of each part takes longer to write down than the parts take to read."""
_ABOVE, _BELOW = "g", ""
"""More and less than any id: with them one statement does for pages with bounds and without."""
_FEW = frozenset({"id", "key", "flow"})
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
    width: int = 1
    """Prefixes that may be equally full: those of one state hold nearly all rows."""


async def finished(
    session: AsyncSession,
    wanted: Sequence[Condition],
    before: str | None,
    limit: int,
    late: Callable[[], bool] = lambda: False,
) -> Part:
    """Return up to `limit` finished tasks that fit, the newest first, below the id `before`. They
    are looked at a few at a time; once `late` says so, what was found by then is the answer.
    """
    plan = _plan(await _known_names(session, wanted))
    if not plan.prefixes:
        return Part([])
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    if not is_sqlite:
        # One plan for all states would read the whole table for a state that is rare.
        await session.execute(PLAN_ANEW)
    walk = _Walk(session, plan, is_sqlite)
    if not plan.rest:
        rows = await walk.rows(before, None, limit)
        return Part(rows, rows[-1].id if len(rows) == limit else None)
    found: list[Any] = []
    for size in STEPS:
        floor = await walk.floor(before, size)
        found += await walk.rows(before, floor, limit - len(found))
        if len(found) == limit:
            return Part(found, found[-1].id)
        if floor is None:
            return Part(found)
        before = floor
        if late():
            break
    return Part(found, before, cut=True)


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
            return _Plan(prefixes, rest, len(driver.values))
        rest.append(driver)
    if states == list(FINALS):
        # Nearly all rows are: the primary key alone is the shortest way.
        return _Plan([{}], [*rest])
    return _Plan([{"state": state} for state in states], rest)


def _drives(one: Condition, attribute: str) -> bool:
    return one.attribute == attribute and one.op == "is" and not (one.negated or one.patterns)


class _Walk:
    """Reads along the prefixes of a plan, by two statements that are made once."""

    def __init__(self, session: AsyncSession, plan: _Plan, is_sqlite: bool) -> None:
        self._session = session
        self._plan = plan
        clause = Selecting(column, is_sqlite=is_sqlite).clause(plan.rest)
        self._rows = _merged([self._part(prefix, clause) for prefix in plan.prefixes])
        ends = [
            _newest(select(Task.id), prefix).offset(_param("skip")).limit(1)
            for prefix in plan.prefixes
        ]
        self._floor = _merged(ends)

    @staticmethod
    def _part(prefix: dict[str, Any], clause: ColumnElement[bool]) -> Select[Any]:
        part = _newest(select(ALL).select_from(Task), prefix).where(clause).limit(_param("most"))
        if not prefix:
            part = part.where(Task.finished_at.is_not(None))
        return part.where(Task.id >= bindparam("floor", type_=String))

    async def floor(self, before: str | None, size: int) -> str | None:
        """Return an id down to which no prefix has more than `size` rows below `before`, None when
        none has so many. Only indexes are read."""
        per = max(STEPS[0], size // self._plan.width)
        told = {"before": before or _ABOVE, "skip": per - 1, "most": 1}
        floor: str | None = await self._session.scalar(self._floor, told)
        return floor

    async def rows(self, before: str | None, floor: str | None, limit: int) -> Sequence[Any]:
        """Return the first `limit` rows that fit, from below `before` down to `floor`."""
        told = {"before": before or _ABOVE, "floor": floor or _BELOW, "most": limit}
        found: Sequence[Any] = (await self._session.execute(self._rows, told)).all()
        return found


def _newest(statement: Select[Any], prefix: dict[str, Any]) -> Select[Any]:
    statement = statement.order_by(Task.id.desc())
    for name, value in prefix.items():
        # Keys and workflows have few rows each: SQLite, which cannot know, must not go by states.
        found = hidden(name) if name == "state" and _FEW.intersection(prefix) else column(name)
        statement = statement.where(found == value)
    return statement.where(Task.id < bindparam("before", type_=String))


def _merged(parts: Sequence[Select[Any]]) -> Select[Any]:
    """Return the first of all parts by id. Whole rows, and no join of ids with the table: a planner
    that believes in its statistics may read all of it for that."""
    if len(parts) == 1:
        return parts[0]
    every = union_all(*(select(ALL).select_from(part.subquery()) for part in parts))
    newest_first: ColumnElement[Any] = literal_column("id").desc()
    return select(ALL).select_from(every.subquery()).order_by(newest_first).limit(_param("most"))


def _param(name: str) -> ColumnElement[int]:
    return bindparam(name, type_=Integer)


@dataclass(frozen=True, slots=True)
class Whole:
    """A task with all that belongs to it."""

    task: Task
    executions: Sequence[TaskExecution]
    logs: dict[int, str]
    result: str | None
    """JSON; a None has none."""

    @property
    def has_result(self) -> bool:
        """Whether there was one when it was recorded, None included."""
        return self.result is not None or self.task.result_size == len(NONE)


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
