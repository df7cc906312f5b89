"""Push: store new tasks, all or none, with one call of a function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conveyor.brokers.base import Pushed
from conveyor.brokers.postgres.connection import Connection
from conveyor.brokers.postgres.rows import pack, unpack_task
from conveyor.brokers.postgres.terms import asks, columns_of
from conveyor.core.task import NewTask

_PUSH = "SELECT * FROM push($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"


def _call(function: str, arguments: int) -> str:
    return f"{function}({', '.join(f'${n}' for n in range(1, arguments + 1))})"


_PUSH_TERMS = f"SELECT * FROM {_call('push_terms', 33)}"  # noqa: S608 - numbers
_DEAD = "SELECT id FROM finished WHERE id = ANY ($1) AND state IN (6, 7) ORDER BY id FOR UPDATE"
_REQUEUE_TERMS = f"SELECT {_call('requeue_terms', 21)}"


async def push(connection: Connection, tasks: Sequence[NewTask], now: float | None) -> list[Pushed]:
    """Store tasks; repeats of an id or key change nothing."""
    fresh = distinct(tasks)
    if any(asks(new.task) for new in fresh):
        lanes, gates, uniques = columns_of([new.task for new in fresh])
        rows = await connection.fetch(_PUSH_TERMS, now, *columns(fresh), *lanes, *gates, *uniques)
    else:
        rows = await connection.fetch(_PUSH, now, *columns(fresh))
    if not rows:
        return [Pushed(new.task.id) for new in tasks]
    held = {str(row[0]): Pushed(str(row[1]), created=False, conflict=row[2]) for row in rows}
    return [held.get(new.task.id) or Pushed(new.task.id) for new in tasks]


def distinct(tasks: Sequence[NewTask]) -> list[NewTask]:
    """Return the first of each id, in order."""
    fresh = list({new.task.id: new for new in reversed(tasks)}.values())
    fresh.reverse()
    return fresh


def columns(fresh: Sequence[NewTask]) -> tuple[list[Any], ...]:
    """Return the columns of plain tasks, as the function `push` takes them."""
    plain = [new.task for new in fresh]
    keyed = [(place, task) for place, task in enumerate(plain, 1) if task.key is not None]
    return (
        [task.id for task in plain],
        [task.queue for task in plain],
        [task.name for task in plain],
        [task.priority for task in plain],
        [new.delay for new in fresh],
        [new.due_at for new in fresh],
        [pack(task) for task in plain],
        [place for place, _ in keyed],
        [task.key for _, task in keyed],
        [task.digest or "" for _, task in keyed],
    )


async def requeue(
    connection: Connection, ids: Sequence[str], now: float | None, *, dead_only: bool
) -> list[Any]:
    """Give dead letters another life, with what they asked for; return the ids that changed."""
    if not dead_only:
        return await _requeue(connection, ids, now)
    async with connection.transaction():
        # Locked until the end: none of them can live again in between.
        dead = [task_id for (task_id,) in await connection.fetch(_DEAD, ids)]
        return await _requeue(connection, dead, now) if dead else []


async def _requeue(connection: Connection, ids: Sequence[Any], now: float | None) -> list[Any]:
    bodies = await connection.fetch("SELECT body FROM task WHERE id = ANY ($1)", ids)
    tasks = [task for (body,) in bodies if asks(task := unpack_task(body))]
    if not tasks:
        changed = await connection.fetchval("SELECT requeue($1, $2)", now, ids)
    else:
        lanes, gates, uniques = columns_of(tasks)
        changed = await connection.fetchval(
            _REQUEUE_TERMS, now, ids, [task.id for task in tasks], *lanes, *gates, *uniques[:3]
        )
    return list(changed)
