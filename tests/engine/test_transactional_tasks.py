"""Transactional tasks: their rows and their end commit together, or not at all (I12)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from conveyor import Conveyor, Retry, current_task
from conveyor.core.errors import InvalidOption
from conveyor.core.task import State
from conveyor.transactions import create_tables, locks
from tests.running import AT_ONCE, at_work, ended
from tests.sessions import Base, Order, async_url, sessions, sync_url, user_url
from tests.worker.harness import soon

__all__ = ["sessions", "user_url"]
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def shop(
    broker_url: str, sessions: async_sessionmaker[AsyncSession]
) -> AsyncIterator[Conveyor]:
    async with Conveyor(broker_url, retry=AT_ONCE, sessions=sessions) as app:
        yield app


async def rows(sessions: async_sessionmaker[AsyncSession]) -> list[int]:
    async with sessions() as session:
        return sorted((await session.scalars(select(Order.id))).all())


async def test_rows_and_end_commit_together(
    shop: Conveyor, sessions: async_sessionmaker[AsyncSession]
) -> None:
    @shop.task(transactional=True)
    async def book(number: int) -> str:
        current_task().session.add(Order(id=number))
        current_task().logger.info("booked")
        return f"order {number}"

    async with at_work(shop):
        handle = await book.enqueue(7)
        assert await handle.result(timeout=10) == "order 7"
        info = await ended(handle)
    assert info.state is State.SUCCEEDED
    assert [one.outcome for one in info.executions] == ["succeeded"]
    assert "booked" in info.executions[0].logs[0]
    assert await rows(sessions) == [7]


async def test_a_failure_leaves_no_row(
    shop: Conveyor, sessions: async_sessionmaker[AsyncSession]
) -> None:
    @shop.task(transactional=True)
    async def book(number: int) -> int:
        session = current_task().session
        session.add(Order(id=number * 10 + current_task().attempt))
        await session.flush()
        if current_task().attempt < 3:
            raise RuntimeError("not yet")
        return number

    async with at_work(shop):
        assert await (await book.enqueue(1)).result(timeout=10) == 1
    assert await rows(sessions) == [13]


async def test_enqueue_joins_the_session(
    shop: Conveyor, sessions: async_sessionmaker[AsyncSession]
) -> None:
    ran: list[int] = []

    @shop.task
    async def follow(number: int) -> None:
        ran.append(number)

    @shop.task(transactional=True, retry=Retry(max_attempts=2, base=0, cap=0))
    async def lead(number: int) -> str:
        handle = await follow.enqueue(current_task().attempt)
        if current_task().attempt == 1:
            raise RuntimeError("undone, with what was enqueued")
        return handle.id

    async with at_work(shop):
        await (await lead.enqueue(1)).result(timeout=10)
        await soon(lambda: ran)
    assert ran == [2]


async def test_a_superseded_execution_changes_nothing(
    shop: Conveyor, sessions: async_sessionmaker[AsyncSession]
) -> None:
    """The fence is in the very transaction: while the code runs, another worker takes over."""
    overtaken = asyncio.Event()
    running: list[int] = []

    @shop.task(transactional=True)
    async def book() -> int:
        token = current_task().fencing_token
        running.append(token)
        if token == 1:
            await overtaken.wait()
        session = current_task().session
        session.add(Order(id=token))
        return token

    async with at_work(shop, concurrency=1) as first:
        handle = await book.enqueue()
        await soon(lambda: running)
        await first.broker.renew([first.engine.token], 0)
        from conveyor.keeper.rescuer import rescue
        from conveyor.system import SystemClock

        assert await rescue(first.broker, SystemClock(), lambda: 0.5, "rescuer") == 1
        async with at_work(shop, concurrency=1):
            assert await handle.result(timeout=10) == 2
            overtaken.set()
            await first.stop()
        assert await rows(sessions) == [2]
    info = await handle.info()
    assert info.state is State.SUCCEEDED
    assert info.execution == 2


async def test_a_redelivered_task_that_committed_does_not_run_again(
    redis_url: str, tmp_path: Path
) -> None:
    """The settlement was lost with the worker: the done row says how it ended."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
    sessions = async_sessionmaker(engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await create_tables(engine)
    runs: list[int] = []
    async with Conveyor(redis_url, sessions=sessions, retry=AT_ONCE) as app:

        @app.task(transactional=True, retry=Retry(max_attempts=1))
        async def book() -> str:
            runs.append(current_task().fencing_token)
            current_task().session.add(Order(id=1))
            return "booked"

        from conveyor.brokers.base import Step
        from conveyor.keeper.rescuer import rescue
        from conveyor.system import SystemClock
        from conveyor.worker.executor import Run
        from conveyor.worker.transacting import Transacting

        handle = await book.enqueue()
        broker = (await app.client()).broker
        await broker.renew(["gone"], 60)
        (lease,) = (await broker.step(Step("gone", ["default"], 1))).leases
        run = Run(lease, book, "loop", 0)
        from conveyor.context import CurrentTask, activate

        run.context = CurrentTask(lease, {}, None, lambda _: None, app)
        activate(run.context)
        await Transacting(app, SystemClock()).run(run, book.fn)
        await broker.renew(["gone"], 0)
        assert await rescue(broker, SystemClock(), lambda: 0.5, "rescuer") == 1
        async with at_work(app):
            assert await handle.result(timeout=10) == "booked"
    assert runs == [1]
    assert await rows(sessions) == [1]
    await engine.dispose()


async def test_functions_in_threads_and_processes_too(broker_url: str, user_url: str) -> None:
    engine = create_engine(sync_url(user_url))
    Base.metadata.create_all(engine)
    from conveyor.transactions import create_tables_sync

    create_tables_sync(engine)
    async with Conveyor(broker_url, sessions=sessionmaker(engine), retry=AT_ONCE) as app:

        @app.task(transactional=True)
        def book(number: int) -> int:
            current_task().session.add(Order(id=number))
            if number < 3:
                book.enqueue_sync(number + 1)
            return number

        async with at_work(app):
            assert await (await book.enqueue(1)).result(timeout=10) == 1

            def count() -> int:
                with Session(engine) as session:
                    return session.scalar(select(func.count()).select_from(Order)) or 0

            await soon(lambda: count() == 3)
    engine.dispose()


async def test_the_task_must_not_commit(
    shop: Conveyor, sessions: async_sessionmaker[AsyncSession]
) -> None:
    @shop.task(transactional=True, retry=Retry(max_attempts=1))
    async def book() -> None:
        current_task().session.add(Order(id=1))
        await current_task().session.commit()

    @shop.task
    async def plain() -> str:
        try:
            return str(current_task().session)
        except InvalidOption as exc:
            return str(exc)

    async with at_work(shop):
        info = await ended(await book.enqueue())
        assert "transactional=True" in await (await plain.enqueue()).result(timeout=10)
    assert info.state is State.FAILED
    assert "its worker commits" in info.error.message if info.error else False
    assert await rows(sessions) == []


async def test_the_write_lock_of_sqlite_is_not_held_for_long(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "WARN", 0.1)
    monkeypatch.setattr(locks, "ABORT", 0.4)
    engine, plain = create_async_engine(async_url(sqlite_url)), create_engine(sqlite_url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    once = Retry(max_attempts=1)
    async with Conveyor(sqlite_url, sessions=async_sessionmaker(engine), retry=once) as app:

        @app.task(transactional=True)
        async def slow(number: int, before: float, after: float) -> str:
            await current_task().session.scalars(select(Order.id))
            await asyncio.sleep(before)
            current_task().session.add(Order(id=number))
            await current_task().session.flush()
            await asyncio.sleep(after)
            return "done"

        async with at_work(app):
            # What comes before the first write is free.
            assert await (await slow.enqueue(1, 0.5, 0.0)).result(timeout=10) == "done"
            with caplog.at_level(logging.WARNING, "conveyor.worker"):
                info = await ended(await slow.enqueue(2, 0.0, 30.0))
    assert info.state is State.FAILED
    assert info.error is not None
    assert "held the write lock" in info.error.message
    assert [r for r in caplog.records if "write lock of SQLite" in r.getMessage()]

    async with Conveyor(sqlite_url, sessions=sessionmaker(plain), retry=once) as app:

        @app.task(transactional=True)
        def stuck(number: int) -> None:
            current_task().session.add(Order(id=number))
            current_task().session.flush()
            time.sleep(0.8)

        async with at_work(app):
            info = await ended(await stuck.enqueue(5))
    assert info.error is not None
    assert "held the write lock" in info.error.message
    with Session(plain) as session:
        assert session.scalars(select(Order.id)).all() == [1]
    plain.dispose()
    await engine.dispose()


def test_definitions_say_what_is_missing(sqlite_url: str) -> None:
    app = Conveyor(sqlite_url)

    async def fine() -> None: ...
    def plain() -> None: ...

    with pytest.raises(InvalidOption, match="async_sessionmaker"):
        app.task(transactional=True)(fine)
    with pytest.raises(InvalidOption, match=r"sessions=sessionmaker"):
        Conveyor(sqlite_url, sessions=async_sessionmaker()).task(transactional=True)(plain)
