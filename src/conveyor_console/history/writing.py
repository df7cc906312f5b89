"""One batch into the history: whole or not at all, and the same however often it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor.inspect import Event, Execution, FinishedTask, State
from conveyor_console.db.bulk import Upsert, matching
from conveyor_console.history import rows
from conveyor_console.history.models import DeadLetter, Task, TaskExecution, TaskLog, TaskResult
from conveyor_console.history.rollups import Sums

_tasks = Upsert(Task.__table__, replace=True)
_executions = Upsert(TaskExecution.__table__)
_results = Upsert(TaskResult.__table__, replace=True)
_logs = Upsert(TaskLog.__table__)
_letters = Upsert(DeadLetter.__table__, replace=True)
_DEAD = frozenset({State.FAILED, State.CANCELLED})
_KNOWN = "SELECT id, finished_at, execution FROM console_task WHERE id {ids}"
_LETTERS = (
    "SELECT d.task_id, t.execution, d.died_at FROM dead_letter_queue d "
    "JOIN console_task t ON t.id = d.task_id WHERE d.task_id {ids}"
)
_BURIED = "DELETE FROM dead_letter_queue WHERE task_id {ids}"
_LIVES = "UPDATE console_task SET state = 'queued', finished_at = NULL WHERE id {ids}"
_RISEN = text("DELETE FROM dead_letter_queue WHERE task_id = :task AND died_at = :at")
_RISEN_TASK = text(
    "UPDATE console_task SET state = 'queued', finished_at = NULL "
    "WHERE id = :task AND finished_at = :at"
)
Wait = Callable[[FinishedTask], float | None]
"""How long a task waited for its first execution, seconds; None when that is not known."""


class _Known(NamedTuple):
    finished_at: float | None
    execution: int


async def known(session: AsyncSession, ids: Sequence[str]) -> dict[str, _Known]:
    """Return what the history knows of tasks: when they ended and the last execution number."""
    found = await matching(session, _KNOWN, ids)
    return {task_id: _Known(at, execution) for task_id, at, execution in found}


async def write(
    session: AsyncSession, tasks: Sequence[FinishedTask], names: rows.Names, wait: Wait
) -> int:
    """Write finished tasks with all that belongs to them; returns how many were news."""
    before = await known(session, [task.info.id for task in tasks])
    fresh = [task for task in tasks if _is_news(task, before)]
    executions = {task.info.id: _new_executions(task, before) for task in fresh}
    await _tasks.run(session, [rows.task_row(task, names(task.info.name)) for task in fresh])
    await _write_executions(session, executions)
    results = [row for task in fresh if (row := rows.result_row(task)) is not None]
    await _results.run(session, results)
    await _write_letters(session, fresh, before)
    await _sums(fresh, executions, wait).add(session)
    return len(fresh)


async def revive(session: AsyncSession, waiting: Mapping[str, Event]) -> None:
    """These tasks wait (again): those that were dead letters are none any more."""
    letters = await matching(session, _LETTERS, list(waiting))
    # The history may know of a later death already: events tell of then, tasks are as of now.
    revived = [
        task_id
        for task_id, execution, died_at in letters
        if (execution, died_at) <= (waiting[task_id].execution, waiting[task_id].at)
    ]
    await matching(session, _BURIED, revived)
    await matching(session, _LIVES, revived)


async def requeued(session: AsyncSession, letters: Sequence[tuple[str, float]]) -> None:
    """These dead letters, as they died at these times, were requeued: unless they died again."""
    died = [{"task": task_id, "at": died_at} for task_id, died_at in letters]
    await session.execute(_RISEN, died)
    await session.execute(_RISEN_TASK, died)


async def bury(session: AsyncSession, ids: Sequence[str]) -> None:
    """These dead letters can be requeued no more; what happened stays."""
    await matching(session, _BURIED, ids)


def _is_news(task: FinishedTask, before: Mapping[str, _Known]) -> bool:
    was = before.get(task.info.id)
    return was is None or was.finished_at != task.info.finished_at


def _new_executions(task: FinishedTask, before: Mapping[str, _Known]) -> list[Execution]:
    was = before.get(task.info.id)
    last = 0 if was is None else was.execution
    return [one for one in task.info.executions if one.number > last]


async def _write_executions(session: AsyncSession, of: Mapping[str, list[Execution]]) -> None:
    flat = [(task_id, one) for task_id, executions in of.items() for one in executions]
    await _executions.run(session, [rows.execution_row(*pair) for pair in flat])
    await _logs.run(session, [rows.log_row(task_id, one) for task_id, one in flat if one.logs])


async def _write_letters(
    session: AsyncSession, fresh: Sequence[FinishedTask], before: Mapping[str, Any]
) -> None:
    dead = [task.info for task in fresh if task.info.state in _DEAD]
    await _letters.run(session, [rows.letter_row(info) for info in dead])
    well = [task.info.id for task in fresh if task.info.state not in _DEAD]
    await matching(session, _BURIED, [task_id for task_id in well if task_id in before])


def _sums(
    fresh: Sequence[FinishedTask], executions: Mapping[str, list[Execution]], wait: Wait
) -> Sums:
    sums = Sums()
    for task in fresh:
        sums.end(task.info)
        for one in executions[task.info.id]:
            sums.execution(task.info, one, wait(task) if one.number == 1 else None)
    return sums
