"""The relay of the outbox: what is left is found at the second look, and never twice over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from conveyor import Conveyor
from conveyor.core.errors import InvalidOption, SchemaMismatch, TaskCancelled
from conveyor.core.record import new_task
from conveyor.core.task import NewTask, State
from conveyor.keeper.main import keep_until
from conveyor.keeper.outbox import OutboxRelay, relay_of
from conveyor.limits import Unique
from conveyor.system import SystemClock, new_id
from conveyor.transactions import create_tables
from conveyor.transactions.database import Database
from conveyor.transactions.outbox import clear, put, waiting
from tests.running import at_work
from tests.worker.harness import soon


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
    await create_tables(engine)
    yield engine
    await engine.dispose()


def some(app: Conveyor, number: int, key: str | None = None) -> NewTask:
    call = ship_of(app).with_options(key=key).bind(number)
    return new_task(new_id(), "ship", call.options, call.args, call.kwargs, app.clock.time())


def ship_of(app: Conveyor) -> Any:
    if "ship" not in app.definitions:

        @app.task(name="ship")
        async def ship(order: int) -> int:
            return order

    return app.definitions["ship"]


async def a_relay(app: Conveyor) -> OutboxRelay:
    broker = (await app.client()).broker
    return OutboxRelay(broker, "unused", SystemClock(), lambda: 0.5, "relay")


async def test_the_second_look_finds_an_orphan(app: Conveyor, engine: AsyncEngine) -> None:
    database, relay = Database(engine), await a_relay(app)
    await database.run(lambda c: put(c, [some(app, 1), some(app, 2)], app.clock.time()))

    assert await relay.round(database) == 0
    await database.run(lambda c: put(c, [some(app, 3)], app.clock.time()))
    assert await relay.round(database) == 2
    assert await relay.round(database) == 1
    assert await database.run(waiting) == 0
    assert sum((await (await app.inspector()).counts()).values()) == 3


async def test_a_relay_that_died_before_it_cleared_repeats_nothing(
    app: Conveyor, engine: AsyncEngine
) -> None:
    database = Database(engine)
    mine = some(app, 1)
    await database.run(lambda c: put(c, [mine], app.clock.time()))
    await (await app.client()).broker.push([mine])

    relay = await a_relay(app)
    assert [await relay.round(database) for _ in range(3)] == [0, 1, 0]
    assert sum((await (await app.inspector()).counts()).values()) == 1


async def refused(app: Conveyor, task: NewTask, *words: str) -> None:
    """It is a dead letter that says why, and that a person may run."""
    handle = app.handle(task.task.id)
    info = await handle.info()
    assert info.state is State.CANCELLED
    assert all(word in (info.reason or "") for word in ("the outbox", *words))
    assert info.args == (2,)
    with pytest.raises(TaskCancelled, match="the outbox"):
        await handle.result(5)
    broker = (await app.client()).broker
    assert await broker.requeue([handle.id]) == [handle.id]
    assert await handle.status() is State.QUEUED
    assert await broker.inspector.check() == []


async def test_a_refused_task_is_a_dead_letter_with_its_reason(
    app: Conveyor, engine: AsyncEngine
) -> None:
    database, relay = Database(engine), await a_relay(app)
    first = await ship_of(app).with_options(key="k").enqueue(1)
    mine = some(app, 2, "k")
    await database.run(lambda c: put(c, [mine, some(app, 3)], app.clock.time()))

    assert [await relay.round(database) for _ in range(3)] == [0, 2, 0]
    assert await database.run(waiting) == 0
    await refused(app, mine, first.id, "with other arguments")


async def test_a_task_that_is_not_unique_is_a_dead_letter(
    app: Conveyor, engine: AsyncEngine
) -> None:
    database, relay = Database(engine), await a_relay(app)
    strict = ship_of(app).with_options(unique=Unique(key=lambda _: "", on_conflict="raise"))
    first = await strict.enqueue(1)
    call = strict.bind(2)
    mine = new_task(
        new_id(), "ship", call.options, call.args, call.kwargs, app.clock.time(), call.rules
    )
    await database.run(lambda c: put(c, [mine], app.clock.time()))

    assert [await relay.round(database) for _ in range(3)] == [0, 1, 0]
    await refused(app, mine, first.id, "unique")


async def test_a_relay_that_died_before_the_burial(app: Conveyor, engine: AsyncEngine) -> None:
    database, relay = Database(engine), await a_relay(app)
    mine = some(app, 2, "k")
    await database.run(lambda c: put(c, [mine], app.clock.time()))
    await database.run(lambda c: clear(c, [], [(mine.task.id, "taken")]))

    assert [await relay.round(database) for _ in range(3)] == [0, 1, 0]
    await refused(app, mine, "taken")


async def test_one_relay_leads(app: Conveyor, engine: AsyncEngine) -> None:
    database, first = Database(engine), await a_relay(app)
    second = OutboxRelay((await app.client()).broker, "", SystemClock(), lambda: 0.5, "second")
    await database.run(lambda c: put(c, [some(app, 1)], app.clock.time()))

    assert [await first.round(database), await second.round(database)] == [0, 0]
    assert [await second.round(database), await first.round(database)] == [0, 1]


async def test_workers_look_after_the_outbox(broker_url: str, engine: AsyncEngine) -> None:
    async with Conveyor(broker_url, outbox=engine) as app:
        left = [some(app, number) for number in range(700)]
        await Database(engine).run(lambda c: put(c, left, app.clock.time()))
        async with at_work(app, concurrency=16):

            async def all_done() -> bool:
                counts = await (await app.inspector()).counts()
                return counts.get(State.SUCCEEDED, 0) == 700

            await soon(all_done, 20)


async def test_a_keeper_looks_after_the_outbox_of_its_app(
    broker_url: str, engine: AsyncEngine
) -> None:
    async with Conveyor(broker_url, outbox=engine) as app:
        database, stopped = Database(engine), asyncio.Event()
        await database.run(lambda c: put(c, [some(app, 1), some(app, 2)], app.clock.time()))
        broker = (await app.client()).broker
        keeping = asyncio.create_task(keep_until(stopped, broker, app))

        async def empty() -> bool:
            return await database.run(waiting) == 0

        await soon(empty)
        stopped.set()
        await keeping
        assert (await (await app.inspector()).counts())[State.QUEUED] == 2


async def test_an_outbox_that_is_none_is_said_once(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Conveyor(sqlite_url, outbox="nonsense") as app:
        broker = (await app.client()).broker
        relay = relay_of(app, broker, SystemClock(), lambda: 0.5)
        assert relay is not None
        await relay.run()
    (line,) = caplog.messages
    assert "nobody looks after the outbox here: outbox=: an SQLAlchemy engine or URL" in line


async def test_missing_tables_and_wrong_places(app: Conveyor, tmp_path: Path) -> None:
    bare = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'bare.db'}")
    with pytest.raises(SchemaMismatch, match="create_tables"):
        await (await a_relay(app)).round(Database(bare))
    await bare.dispose()
    with pytest.raises(InvalidOption, match="engine or URL"):
        Database.of("nonsense")
    with pytest.raises(InvalidOption, match="engine or URL"):
        Database.of(7)
    own = Database.of(f"sqlite:///{tmp_path / 'bare.db'}")
    assert await own.run(lambda c: c.dialect.name) == "sqlite"
    await own.close()
