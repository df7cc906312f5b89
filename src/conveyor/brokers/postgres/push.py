"""Push: store new tasks, all or none, with one call of a function."""

from __future__ import annotations

from collections.abc import Sequence

from conveyor.brokers.base import Pushed
from conveyor.brokers.postgres.connection import Connection
from conveyor.brokers.postgres.rows import pack
from conveyor.core.task import NewTask

_PUSH = "SELECT * FROM push($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"


async def push(connection: Connection, tasks: Sequence[NewTask], now: float | None) -> list[Pushed]:
    """Store tasks; repeats of an id or key change nothing."""
    fresh = list({new.task.id: new for new in reversed(tasks)}.values())
    fresh.reverse()
    plain = [new.task for new in fresh]
    keyed = [(place, task) for place, task in enumerate(plain, 1) if task.key is not None]
    rows = await connection.fetch(
        _PUSH,
        now,
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
    if not rows:
        return [Pushed(new.task.id) for new in tasks]
    held = {str(row[0]): Pushed(str(row[1]), created=False, conflict=row[2]) for row in rows}
    return [held.get(new.task.id) or Pushed(new.task.id) for new in tasks]
