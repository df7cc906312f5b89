"""What the tests of the history hold: a queue on any store with tasks that end in every way."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sqlalchemy import func, select

from conveyor import Conveyor, Reject, Retry
from conveyor.brokers.url import connect
from conveyor.core.task import State
from conveyor_console.console import Console
from conveyor_console.history.models import DeadLetter, Task, TaskExecution

AGAIN = Retry(max_attempts=3, base=0.0, cap=0.0)


async def migrated(url: str) -> None:
    """Make the schema of a store."""
    broker = connect(url)
    try:
        await broker.migrate()
    finally:
        await broker.close()


def shop(url: str) -> Conveyor:
    """An app whose tasks end in every way."""
    queue = Conveyor(url, retry=AGAIN)

    @queue.task(name="shop.greet")
    async def greet(name: str, *, loud: bool = False) -> str:
        return name.upper() if loud else name

    @queue.task(name="shop.fail")
    async def fail(why: str) -> None:
        raise ValueError(f"{why} of order {len(why)}")

    @queue.task(name="shop.recover")
    async def recover(number: int) -> int:
        from conveyor import current_task

        if current_task().attempt < 2:
            raise TimeoutError("the bank is slow")
        return number

    @queue.task(name="shop.reject")
    async def reject() -> None:
        raise Reject("no such item")

    return queue


async def counted(console: Console) -> dict[str, int]:
    """Tasks of the history that are final, by state."""
    finals = [state.value for state in State if state.is_final]
    async with console.database.reading() as db:
        rows = await db.execute(
            select(Task.state, func.count()).where(Task.state.in_(finals)).group_by(Task.state)
        )
        return dict(rows.all())


async def truth(queue: Conveyor) -> dict[str, int]:
    """The same of the broker."""
    counts = await (await queue.inspector()).counts()
    return {state.value: n for state, n in counts.items() if state.is_final and n}


async def letters(console: Console) -> set[str]:
    """Ids of the dead letters."""
    async with console.database.reading() as db:
        return set(await db.scalars(select(DeadLetter.task_id)))


async def outcomes(console: Console) -> Counter[str]:
    """Executions of the history by outcome."""
    async with console.database.reading() as db:
        rows: Any = await db.execute(
            select(TaskExecution.outcome, func.count()).group_by(TaskExecution.outcome)
        )
        return Counter(dict(map(tuple, rows.all())))
