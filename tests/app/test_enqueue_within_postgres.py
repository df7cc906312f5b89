"""Enqueue in a transaction of the PostgreSQL database that is the broker's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from conveyor import Conveyor
from conveyor.core.errors import SchemaMismatch
from conveyor.limits import Concurrency
from tests.running import Stopwatch, at_work
from tests.sessions import async_url, counts, define, driver

pytestmark = pytest.mark.timeout(60)


@pytest.mark.postgres
async def test_a_copy_of_the_database_is_not_the_broker(postgres: Any, postgres_url: str) -> None:
    """Its identity was copied too, and its tasks would never be run."""
    copy = postgres.create_database(template=postgres_url.rpartition("/")[2])
    try:
        engine = create_async_engine(async_url(copy))
        async with Conveyor(postgres_url) as app, AsyncSession(engine) as session:
            ship = define(app)
            with pytest.raises(SchemaMismatch, match="conveyor_outbox"):
                await ship.with_options(session=session).enqueue(1)
        await engine.dispose()
    finally:
        postgres.drop_database(copy)


@pytest.mark.postgres
async def test_any_driver_and_search_path(postgres_url: str) -> None:
    """The functions of the schema bring their own search path."""
    async with Conveyor(postgres_url) as app:
        ship = define(app)
        for name in ("asyncpg", "psycopg"):
            engine = create_async_engine(driver(postgres_url, name))
            async with AsyncSession(engine) as session, session.begin():
                await session.execute(text("SET LOCAL search_path = pg_catalog"))
                await ship.with_options(session=session).enqueue(1)
            await engine.dispose()
        assert await counts(app) == 2


@pytest.mark.postgres
async def test_an_open_transaction_keeps_nobody_waiting(postgres_url: str) -> None:
    """Neither producers nor workers, on a new queue and for tasks with limits."""
    engine = create_async_engine(async_url(postgres_url))
    async with Conveyor(postgres_url) as app:
        ship = define(app)

        @app.task(name="careful", concurrency=Concurrency(1), fair_by=lambda n: n % 2)
        async def careful(number: int) -> int:
            return number

        async with at_work(app), AsyncSession(engine) as session, session.begin():
            mine = [await task.with_options(session=session).enqueue(0) for task in (ship, careful)]
            others = [await task.enqueue(n) for task in (ship, careful) for n in range(4)]
            assert [await other.result(timeout=4) for other in others] == [0, 1, 2, 3] * 2
            await session.commit()
            assert [await handle.result(timeout=4) for handle in mine] == [0, 0]
    await engine.dispose()


@pytest.mark.postgres
async def test_a_late_commit_is_seen_beside_a_busy_queue(postgres_url: str) -> None:
    """Its time is that of its push, and the claim has moved on since: it begins at the front."""
    engine = create_async_engine(async_url(postgres_url))
    async with Conveyor(postgres_url) as app:
        ship = define(app)
        async with at_work(app):
            async with AsyncSession(engine) as session, session.begin():
                late = await ship.with_options(session=session).enqueue(1)
                for number in range(20):
                    await (await ship.enqueue(number)).result(timeout=10)
                    await asyncio.sleep(0.02)
            watch = Stopwatch()
            assert await late.result(timeout=10) == 1
            assert watch.seconds < 0.4
    await engine.dispose()
