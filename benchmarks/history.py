"""The console's history at a million finished tasks: how fast it is written, and how long its pages
take.

    python -m benchmarks.history --url sqlite:////tmp/history.db --tasks 1000000
    python -m benchmarks.history --url postgresql://…

Prints tasks written per second, then percentiles of each question, in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from uuid_utils import uuid7

from conveyor.inspect import ErrorInfo, Execution, FinishedTask, State, TaskInfo
from conveyor_console.db import schema
from conveyor_console.db.engine import Database
from conveyor_console.history import writing
from conveyor_console.history.fields import FIELDS
from conveyor_console.history.queries import finished, whole
from conveyor_console.kit.filters import conditions

NAMES = ("mail.send", "mail.send_digest", "shop.charge", "image.resize", "report.build")
QUEUES = ("default", "mail", "bulk")
_BATCH = 2_000
QUESTIONS = {
    "the newest": "",
    "failed ones": "state:failed",
    "one task name": "task:shop.charge",
    "a pattern of names, failed": "state:failed task:mail.*",
    "one queue, not failed": "queue:bulk -state:failed",
    "an argument": "args.user_id:42",
    "an error in a queue": 'queue:mail state:failed error:"timed out"',
    "what is not there": "args.user_id:none",
}


def tasks(count: int, dice: random.Random, end: float) -> Iterator[FinishedTask]:
    """Yield finished tasks of the last seven days before `end`, one in fifty of them failed."""
    for number in range(count):
        at = end - 7 * 86_400 * (1 - number / count)
        failed = dice.random() < 0.02
        error = ErrorInfo("builtins.TimeoutError", f"timed out after {dice.randrange(9)} s", "")
        execution = Execution(
            number=1,
            attempt=1,
            outcome="failed" if failed else "succeeded",
            worker="w",
            started_at=at + 0.01,
            duration=dice.random(),
            error=error if failed else None,
        )
        info = TaskInfo(
            id=str(uuid7()),
            name=dice.choice(NAMES),
            queue=dice.choice(QUEUES),
            priority=5,
            state=State.FAILED if failed else State.SUCCEEDED,
            kwargs={"user_id": dice.randrange(100_000), "kind": "a"},
            enqueued_at=at,
            started_at=execution.started_at,
            finished_at=at + 0.01 + execution.duration,
            execution=1,
            attempts=int(failed),
            max_attempts=5,
            worker="w",
            error=error if failed else None,
            executions=(execution,),
        )
        yield FinishedTask(info, None if failed else b"\x01")


async def fill(database: Database, count: int, end: float | None = None) -> list[str]:
    """Write finished tasks and return a hundred of their ids."""
    dice = random.Random(7)
    batch: list[FinishedTask] = []
    sample: list[str] = []

    async def flush() -> None:
        async with database.writing() as session:
            await writing.write(session, batch, lambda _: (), lambda _: 0.01)
        sample.append(batch[0].info.id)
        batch.clear()

    for task in tasks(count, dice, time.time() if end is None else end):
        batch.append(task)
        if len(batch) == _BATCH:
            await flush()
    if batch:
        await flush()
    return sample[:: max(1, len(sample) // 100)]


async def measure(ask: Callable[[], Awaitable[Any]], times: int) -> list[float]:
    """Return the milliseconds that each of so many calls took, sorted."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - began) * 1_000)
    return sorted(took)


async def main(url: str, count: int, times: int) -> None:
    """Fill and ask."""
    database = Database(url)
    await schema.upgrade(database)
    began = time.perf_counter()
    sample = await fill(database, count)
    took = time.perf_counter() - began
    print(f"written: {count:,} tasks in {took:.1f} s, {count / took:,.0f}/s")
    for title, q in QUESTIONS.items():
        wanted = conditions(q, FIELDS, time.time())

        async def page(wanted: Any = wanted) -> None:
            async with database.reading() as session:
                await finished(session, wanted, random.choice(sample), 50)

        _show(title, await measure(page, times))

    async def detail() -> None:
        async with database.reading() as session:
            await whole(session, random.choice(sample))

    _show("one task", await measure(detail, times))
    await database.close()


def _show(title: str, took: list[float]) -> None:
    at = [took[int(len(took) * share)] for share in (0.5, 0.95, 0.99)]
    print(f"{title:<28} p50 {at[0]:6.1f}  p95 {at[1]:6.1f}  p99 {at[2]:6.1f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=200)
    options = parser.parse_args()
    asyncio.run(main(options.url, options.tasks, options.times))
