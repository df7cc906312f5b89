"""How many tasks a second are enqueued in a session's transaction, together with a row.

One caller commits a row, then a row and a task, then a row and a hundred tasks; a figure counts
until the broker has the last task. On PostgreSQL and SQLite the session is in the broker's own
database. For Redis it is in an SQLite file, and the tasks go through its outbox.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from conveyor import Conveyor
from conveyor.transactions import create_tables, sound_savepoints

LOT = 100
"""Tasks of the larger transactions."""
PATIENCE = 120.0
Sessions = async_sessionmaker[AsyncSession]
Enqueue = Callable[[AsyncSession, int], Awaitable[int]]

app = Conveyor(os.environ.get("CONVEYOR_URL"))


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "bench_orders"
    id: Mapped[int] = mapped_column(primary_key=True)


@app.task(queue="transactions")
async def ship(order: int) -> int:
    return order


@asynccontextmanager
async def database(url: str) -> AsyncIterator[Sessions]:
    """Yield sessions of the broker's database, or, beside Redis, of an SQLite file of their own."""
    with TemporaryDirectory(prefix="bench-") as folder:
        scheme, rest = url.split("://", 1)
        if scheme == "redis":
            scheme, rest = "sqlite", f"/{Path(folder) / 'shop.db'}"
        driver = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}[scheme]
        engine = create_async_engine(f"{scheme}+{driver}://{rest}")
        sound_savepoints(engine)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            await create_tables(engine)
            yield async_sessionmaker(engine, expire_on_commit=False)
        finally:
            await engine.dispose()


async def alone(session: AsyncSession, number: int) -> int:
    """Enqueue nothing: what the row itself costs."""
    return 0


async def one(session: AsyncSession, number: int) -> int:
    """Enqueue a task."""
    await ship.with_options(session=session).enqueue(number)
    return 1


async def lot(session: AsyncSession, number: int) -> int:
    """Enqueue a hundred tasks."""
    within = ship.with_options(session=session)
    await app.enqueue_many(within.bind(number) for _ in range(LOT))
    return LOT


async def rate(sessions: Sessions, count: int, enqueue: Enqueue) -> float | None:
    """Commit `count` rows with what `enqueue` adds; return commits a second, or tasks where each
    commit has several. None when the broker did not have all of them in time."""
    inspector = await app.inspector()
    before = sum((await inspector.counts()).values())
    tasks = 0
    began = time.perf_counter()
    for number in range(count):
        async with sessions() as session, session.begin():
            session.add(Order())
            tasks += await enqueue(session, number)
    while sum((await inspector.counts()).values()) < before + tasks:
        if time.perf_counter() - began > PATIENCE:
            return None
        await asyncio.sleep(0.005)
    return (tasks or count) / (time.perf_counter() - began)


async def measure(url: str, count: int) -> dict[str, float | None]:
    """Return the figures of one store, which should be empty."""
    app.url = url
    # In this order: closing the app waits for what it still clears away in the outbox.
    async with database(url) as sessions, app:
        for enqueue in (alone, one, lot):  # connections, prepared statements
            await rate(sessions, 5, enqueue)
        return {
            "rows_per_second": await rate(sessions, count, alone),
            "row_and_task_per_second": await rate(sessions, count, one),
            "tasks_per_second_by_100": await rate(sessions, count // 20, lot),
        }
