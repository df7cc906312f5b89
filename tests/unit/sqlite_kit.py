"""Short words for the tests of the SQLite store."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conveyor.brokers.base import Settlement, Step
from conveyor.brokers.sqlite.broker import SQLiteBroker
from conveyor.brokers.sqlite.turns import Turns
from conveyor.core import codec
from conveyor.core.lifecycle import decide
from conveyor.core.outcome import Succeeded
from conveyor.core.task import Lease, NewTask, Task
from conveyor.system import new_id
from conveyor.testing.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def broker(clock: ManualClock) -> AsyncIterator[SQLiteBroker]:
    made = SQLiteBroker("sqlite://", clock=clock)
    await made.open()
    await made.renew(["w"], 1e9)
    yield made
    await made.close()


def task(**fields: Any) -> NewTask:
    fields = {"name": "work", "queue": "q", "priority": 5, "payload": b"\x92\x90\x80", **fields}
    return NewTask(Task(**{"id": new_id(), "enqueued_at": 1.0, **fields}))


def success(lease: Lease, result: Any = None) -> Settlement:
    outcome = Succeeded(codec.encode(result, what="result"))
    return Settlement(lease, decide(lease, outcome, dice=0.5))


@contextmanager
def plain(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of somebody else."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=5)
    try:
        yield connection
    finally:
        connection.close()


async def lease(broker: SQLiteBroker, want: int = 10, worker: str = "w") -> list[Lease]:
    await broker.renew([worker], 60)
    return list((await broker.step(Step(worker, ["q"], want))).leases)


async def on_writer(broker: SQLiteBroker, *statements: str) -> Any:
    """Run statements on the writer's own connection; return the first column of the last row."""

    def run(connection: sqlite3.Connection) -> Any:
        row = [connection.execute(statement).fetchone() for statement in statements][-1]
        return row[0] if row else None

    return await broker._opened().writer.read(run)


async def writer_waits(path: Path) -> None:
    """Wait until a broker waits for the write lock of the file."""
    turns = Turns(str(path))
    try:
        for _ in range(10_000):
            if turns.somebody_waits():
                return
            await asyncio.sleep(0.001)
        raise TimeoutError("no broker waits for the write lock")
    finally:
        turns.close()
