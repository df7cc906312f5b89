"""Enqueue in a session's transaction: the task is there if, and only if, the rows are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from conveyor import Conveyor, Debounce, Middleware
from conveyor.core.errors import IdempotencyConflict, InvalidOption, SchemaMismatch
from conveyor.core.task import NewTask, State
from conveyor.limits import Concurrency, Unique
from conveyor.transactions import create_tables_sync, sound_savepoints
from conveyor.transactions.outbox import waiting
from tests.running import AT_ONCE, Stopwatch, at_work
from tests.sessions import (
    Base,
    Boom,
    Order,
    async_url,
    counts,
    define,
    sessions,
    sync_url,
    user_url,
)
from tests.worker.harness import soon

__all__ = ["sessions", "user_url"]
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def plain_sessions(user_url: str) -> Iterator[sessionmaker[Session]]:
    engine = create_engine(sync_url(user_url))
    sound_savepoints(engine)
    Base.metadata.create_all(engine)
    create_tables_sync(engine)
    yield sessionmaker(engine, expire_on_commit=False)
    engine.dispose()


@pytest.fixture
async def app(
    broker_url: str,
    sessions: async_sessionmaker[AsyncSession],
    plain_sessions: sessionmaker[Session],
) -> AsyncIterator[Conveyor]:
    """Closed before the engines are: its relay may still be clearing the outbox."""
    async with Conveyor(broker_url, retry=AT_ONCE) as app:
        yield app


async def emptied(sessions: async_sessionmaker[AsyncSession]) -> None:
    """Wait until the outbox is empty."""

    async def empty() -> bool:
        async with sessions() as session:
            return await (await session.connection()).run_sync(waiting) == 0

    await soon(empty)


async def test_a_commit_makes_row_and_task_visible(
    app: Conveyor, sessions: async_sessionmaker[AsyncSession]
) -> None:
    ship = define(app)
    async with at_work(app):
        async with sessions() as session, session.begin():
            session.add(Order(id=7))
            handle = await ship.with_options(session=session).enqueue(7)
            await session.flush()
        watch = Stopwatch()
        assert await handle.result(timeout=10) == 7
    assert handle.created
    assert watch.seconds < 5


async def test_nothing_is_visible_before_the_commit(
    app: Conveyor, sessions: async_sessionmaker[AsyncSession]
) -> None:
    ship = define(app)
    async with sessions() as session, session.begin():
        await ship.with_options(session=session).enqueue(1)
        if sessions.kw["bind"].dialect.name != "sqlite":
            assert await counts(app) == 0
    await emptied(sessions)
    assert await counts(app) == 1


async def test_a_rollback_never_runs_the_task(
    app: Conveyor, sessions: async_sessionmaker[AsyncSession]
) -> None:
    ship = define(app)
    with suppress(Boom):
        async with sessions() as session, session.begin():
            session.add(Order(id=1))
            await ship.with_options(session=session).enqueue(1)
            raise Boom
    async with sessions() as session:
        await ship.with_options(session=session).enqueue(2)
        # Closed without a commit.
    async with sessions() as session, session.begin():
        last = await ship.with_options(session=session).enqueue(3)
    async with at_work(app):
        assert await last.result(timeout=10) == 3
    assert await counts(app) == 1


async def test_a_savepoint_takes_its_tasks_along(
    app: Conveyor, sessions: async_sessionmaker[AsyncSession]
) -> None:
    ship = define(app)
    async with sessions() as session, session.begin():
        with suppress(Boom):
            async with session.begin_nested():
                await ship.with_options(session=session).enqueue(1)
                raise Boom
        async with session.begin_nested():
            kept = await ship.with_options(session=session).enqueue(2)
    async with at_work(app):
        assert await kept.result(timeout=10) == 2
    assert await counts(app) == 1


async def test_a_released_savepoint_in_a_rolled_back_transaction_leaves_nothing(
    app: Conveyor, sessions: async_sessionmaker[AsyncSession]
) -> None:
    ship = define(app)
    async with sessions() as session:
        async with session.begin_nested():
            await ship.with_options(session=session).enqueue(1)
        await session.rollback()
    async with sessions() as session, session.begin():
        last = await ship.with_options(session=session).enqueue(2)
    async with at_work(app):
        assert await last.result(timeout=10) == 2
    assert await counts(app) == 1


async def test_many_at_once(app: Conveyor, sessions: async_sessionmaker[AsyncSession]) -> None:
    ship = define(app)
    async with sessions() as session, session.begin():
        within = ship.with_options(session=session)
        handles = await app.enqueue_many(within.bind(number) for number in range(1_200))
    async with at_work(app, concurrency=32):
        await handles[-1].result(timeout=30)
        await emptied(sessions)
    assert await counts(app) == 1_200


async def test_a_key_is_idempotent(
    app: Conveyor, sessions: async_sessionmaker[AsyncSession]
) -> None:
    ship = define(app)
    async with sessions() as session, session.begin():
        within = ship.with_options(session=session, key="order-1")
        first, again = await within.enqueue(1), await within.enqueue(1)
        with pytest.raises(IdempotencyConflict):
            await within.enqueue(2)
    assert (again.id, again.created) == (first.id, False)
    await emptied(sessions)
    assert await counts(app) == 1


async def test_a_key_that_an_older_task_has_leads_to_that_task(
    app: Conveyor, sessions: async_sessionmaker[AsyncSession]
) -> None:
    """Also when the outbox has relayed the older one, and learns of it after the commit only."""
    ship = define(app)
    first = await ship.with_options(key="order-1").enqueue(1)
    async with sessions() as session, session.begin():
        again = await ship.with_options(session=session, key="order-1").enqueue(1)
    await emptied(sessions)
    async with at_work(app):
        assert await again.result(timeout=10) == 1
    assert (again.id, again.created) == (first.id, False)
    assert (await again.info()).id == first.id
    assert await counts(app) == 1


async def test_from_synchronous_code(app: Conveyor, plain_sessions: sessionmaker[Session]) -> None:
    ship = define(app)

    def produce() -> Any:
        with plain_sessions() as session:
            ship.with_options(session=session).enqueue_sync(1)
            session.rollback()
        with plain_sessions.begin() as session:
            session.add(Order(id=9))
            return ship.with_options(session=session).enqueue_sync(9)

    async with at_work(app):
        handle = await asyncio.to_thread(produce)
        assert await handle.result(timeout=10) == 9
    assert await counts(app) == 1


class Stamp(Middleware):
    async def enqueue(self, task: NewTask, call_next: Any) -> Any:
        self.seen = task.task.id
        return await call_next(task)


async def test_middleware_wraps_it(
    broker_url: str,
    sessions: async_sessionmaker[AsyncSession],
    plain_sessions: sessionmaker[Session],
) -> None:
    stamp = Stamp()
    async with Conveyor(broker_url, middleware=[stamp]) as app:
        ship = define(app)
        async with sessions() as session, session.begin():
            handle = await ship.with_options(session=session).enqueue(1)
        assert stamp.seen == handle.id

        def produce() -> Any:
            with plain_sessions.begin() as session:
                return ship.with_options(session=session).enqueue_sync(9)

        other = await asyncio.to_thread(produce)
        assert stamp.seen == other.id
        async with at_work(app):
            assert await handle.result(timeout=10) == 1
            assert await other.result(timeout=10) == 9


async def test_tasks_with_terms_inside_a_savepoint(
    app: Conveyor, sessions: async_sessionmaker[AsyncSession]
) -> None:
    """Their lanes, slots and unique keys are those of a plain enqueue."""

    @app.task(name="careful", concurrency=Concurrency(1), unique=Unique(60, key=lambda n: n))
    async def careful(number: int) -> int:
        return number

    @app.task(name="publish", debounce=Debounce(0.05, max=1))
    async def publish(number: int) -> int:
        return number

    async with sessions() as session, session.begin(), session.begin_nested():
        within = careful.with_options(session=session)
        handles = [await within.enqueue(number) for number in range(3)]
        late = await publish.with_options(session=session).enqueue(7)
    async with at_work(app):
        assert [await handle.result(timeout=10) for handle in handles] == [0, 1, 2]
        assert await late.result(timeout=10) == 7


async def test_a_delay_counts_from_the_enqueue(
    app: Conveyor, sessions: async_sessionmaker[AsyncSession]
) -> None:
    ship = define(app)
    async with sessions() as session, session.begin():
        handle = await ship.with_options(session=session, delay=60).enqueue(1)
    await emptied(sessions)
    info = await handle.info()
    assert info.state is State.SCHEDULED
    assert info.due_at is not None
    assert 50 < info.due_at - info.enqueued_at < 61


async def test_wrong_sessions_are_refused(sqlite_url: str, tmp_path: Path) -> None:
    async with Conveyor(sqlite_url) as app:
        ship = define(app)
        with Session(create_engine(f"sqlite:///{tmp_path / 'x.db'}")) as plain:
            with pytest.raises(InvalidOption, match="use enqueue_sync"):
                await ship.with_options(session=plain).enqueue(1)
            other = AsyncSession()
            with pytest.raises(InvalidOption, match="different sessions"):
                await app.enqueue_many(
                    [ship.with_options(session=s).bind(1) for s in (plain, other)]
                )
            with pytest.raises(InvalidOption, match="await enqueue"):
                ship.with_options(session=other).enqueue_sync(1)
            with pytest.raises(InvalidOption, match="no default engine"):
                await ship.with_options(session=other).enqueue(1)
            with pytest.raises(SchemaMismatch, match="create_tables"):
                ship.with_options(session=plain).enqueue_sync(1)
            plain.get_bind().engine.dispose()


async def test_an_unsound_savepoint_is_refused(sqlite_url: str) -> None:
    engine = create_async_engine(async_url(sqlite_url))
    async with Conveyor(sqlite_url) as app:
        ship = define(app)
        async with AsyncSession(engine) as session, session.begin_nested():
            with pytest.raises(InvalidOption, match="sound_savepoints"):
                await ship.with_options(session=session).enqueue(1)
    await engine.dispose()


def test_count_is_exact(sqlite_url: str) -> None:
    """Synchronous alone: the loop of the app's own serves it."""
    app = Conveyor(sqlite_url)
    ship = define(app)
    engine: Engine = create_engine(sqlite_url)
    Base.metadata.create_all(engine)
    app.run_sync(app.client())
    for number in range(20):
        with Session(engine) as session:
            session.add(Order(id=number))
            ship.with_options(session=session).enqueue_sync(number)
            (session.commit if number % 2 else session.rollback)()
    with Session(engine) as session:
        rows = session.scalar(select(func.count()).select_from(Order))
    assert rows == sum(app.run_sync(_counts(app)).values()) == 10
    app.close_sync()
    engine.dispose()


async def _counts(app: Conveyor) -> Any:
    return await (await app.inspector()).counts()
