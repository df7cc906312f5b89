"""The history equals the truth: every end, every execution, once; whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import select, text

from conveyor import Conveyor
from conveyor_console.app import create_app
from conveyor_console.auth.passwords import Passwords
from conveyor_console.console import Console
from conveyor_console.history.models import RecorderState, Rollup, Task, TaskLog, TaskResult
from conveyor_console.settings import Settings
from tests.console.conftest import QUICK, TestClock
from tests.console.history_kit import counted, letters, migrated, outcomes, shop, truth
from tests.running import at_work, ended


@pytest.fixture
async def queue(broker_url: str) -> AsyncIterator[Conveyor]:
    await migrated(broker_url)
    async with shop(broker_url) as queue:
        yield queue


@pytest.fixture
async def console(queue: Conveyor, settings: Settings, clock: TestClock) -> AsyncIterator[Console]:
    """A console whose recorder does nothing by itself."""
    made: Console = create_app(
        queue, settings, clock=clock, passwords=Passwords(QUICK)
    ).state.console
    yield made
    await made.rest()
    await made.close()


async def some_work(queue: Conveyor) -> list[str]:
    """Let tasks end in every way; their ids."""
    names = queue.definitions
    calls: list[Any] = [
        *(names["shop.greet"].bind(f"n{number}", loud=True) for number in range(20)),
        *(names["shop.fail"].bind("boom" * number) for number in range(1, 6)),
        *(names["shop.recover"].bind(number) for number in range(5)),
        *(names["shop.reject"].bind() for _ in range(3)),
        *(names["shop.greet"].with_options(delay=3_600).bind("late") for _ in range(4)),
    ]
    handles = await queue.enqueue_many(calls)
    async with at_work(queue):
        for handle in handles[:-4]:
            await ended(handle)
    for handle in handles[-4:-1]:
        await handle.cancel("no need")
    return [handle.id for handle in handles]


async def test_every_end_and_every_execution_is_recorded_once(
    queue: Conveyor, console: Console
) -> None:
    ids = await some_work(queue)
    for _ in range(2):
        await console.recorder.catch_up()
        expected = {"succeeded": 25, "failed": 8, "cancelled": 3}
        assert await counted(console) == await truth(queue) == expected
        assert await outcomes(console) == {"succeeded": 25, "failed": 20, "rejected": 3}
        assert await letters(console) == {*ids[20:25], *ids[30:33], *ids[33:36]}
    async with console.database.reading() as db:
        sums = (
            await db.execute(
                text(
                    "SELECT sum(succeeded), sum(failed), sum(cancelled), "
                    "sum(executions), sum(errors) FROM console_rollup WHERE span = 1"
                )
            )
        ).one()
        assert tuple(sums) == (25, 8, 3, 48, 23)
        kinds = {"wait": 33, "run": 48}
        rows = await db.execute(
            text(
                "SELECT measure, sum(number) FROM console_histogram WHERE span = 60 "
                "GROUP BY measure"
            )
        )
        assert dict(rows.all()) == kinds
        greeted = await db.get_one(Task, ids[3])
        assert (greeted.name, greeted.queue, greeted.call) == (
            "shop.greet",
            "default",
            '[["n3"],{"loud":true}]',
        )
        assert greeted.facts == "\nname=n3\nloud=true\n"
        assert (await db.get_one(TaskResult, ids[3])).body == '"N3"'
        failed = await db.scalars(select(Task).where(Task.name == "shop.fail"))
        assert len({task.fingerprint for task in failed}) == 5


async def test_a_requeued_dead_letter_is_none_until_it_dies_again(
    queue: Conveyor, console: Console
) -> None:
    fail = queue.definitions["shop.fail"]
    handle = await fail.enqueue("x")
    async with at_work(queue):
        await ended(handle)
    await console.recorder.catch_up()
    assert await letters(console) == {handle.id}
    broker = (await queue.client()).broker
    await broker.requeue([handle.id])
    await console.recorder.catch_up()
    assert await letters(console) == set()
    assert await counted(console) == {}
    async with at_work(queue):
        await ended(handle)
    await console.recorder.catch_up()
    assert await letters(console) == {handle.id}
    assert await outcomes(console) == {"failed": 6}
    async with console.database.reading() as db:
        assert sum(await db.scalars(select(Rollup.failed).where(Rollup.span == 1))) == 2
        assert sum(await db.scalars(select(Rollup.executions).where(Rollup.span == 60))) == 6


async def test_a_death_that_was_read_early_is_not_revived_by_an_older_event(
    queue: Conveyor, console: Console
) -> None:
    handle = await queue.definitions["shop.fail"].enqueue("x")
    broker = (await queue.client()).broker
    for again in (False, True):
        if again:
            await broker.requeue([handle.id])
        async with at_work(queue):
            await ended(handle)
    # One event at a time: the first death is read when the second one has happened.
    while any(await console.recorder.record(most=1)):
        pass
    assert await letters(console) == {handle.id}
    async with console.database.reading() as db:
        assert sum(await db.scalars(select(Rollup.failed).where(Rollup.span == 1))) == 1
        assert sum(await db.scalars(select(Rollup.executions).where(Rollup.span == 60))) == 6


class Killed(BaseException):
    """As if the process were no more."""


@asynccontextmanager
async def killed_at(step: int, console: Console, monkeypatch: Any) -> AsyncIterator[None]:
    """Kill the recorder at the nth statement that it sends."""
    from sqlalchemy.ext.asyncio import AsyncConnection

    real, seen = AsyncConnection.exec_driver_sql, 0

    async def counting(self: AsyncConnection, *args: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == step:
            raise Killed
        return await real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(AsyncConnection, "exec_driver_sql", counting)
        yield


async def test_killed_at_any_statement_it_repeats_nothing(
    queue: Conveyor, console: Console, settings: Settings, clock: TestClock, monkeypatch: Any
) -> None:
    await some_work(queue)
    step = 0
    while True:
        step += 1
        async with killed_at(step, console, monkeypatch):
            try:
                await console.recorder.catch_up()
                break
            except Killed:
                console.recorder._state = None
    assert step > 10
    assert await counted(console) == await truth(queue)
    async with console.database.reading() as db:
        assert sum(await db.scalars(select(Rollup.executions).where(Rollup.span == 60))) == 48


async def test_of_two_recorders_one_writes(
    queue: Conveyor, console: Console, settings: Settings, clock: TestClock
) -> None:
    other: Console = create_app(
        queue, settings, clock=clock, passwords=Passwords(QUICK)
    ).state.console
    try:
        assert await console.recorder.beat() < 1
        assert await other.recorder.beat() > 1
        await console.rest()
        assert await other.recorder.beat() < 1
    finally:
        await other.rest()
        await other.close()


async def test_strange_texts_are_kept(queue: Conveyor, console: Console) -> None:
    greet = queue.definitions["shop.greet"]
    name = "nul \x00, ☃, 𝄞, \u202e, ' \" \\ % _ *"
    handle = await greet.enqueue(name)
    async with at_work(queue):
        await ended(handle)
    await console.recorder.catch_up()
    import json

    async with console.database.reading() as db:
        assert json.loads((await db.get_one(Task, handle.id)).call) == [[name], {}]
        assert json.loads((await db.get_one(TaskResult, handle.id)).body) == name


async def test_logs_are_kept(queue: Conveyor, console: Console) -> None:
    import logging

    @queue.task(name="shop.talk")
    async def talk() -> None:
        logging.getLogger("shop").warning("hello")

    handle = await talk.enqueue()
    async with at_work(queue):
        await ended(handle)
    await console.recorder.catch_up()
    async with console.database.reading() as db:
        assert "hello" in (await db.get_one(TaskLog, (handle.id, 1))).lines


async def test_what_ended_before_the_first_console_is_swept_in(
    queue: Conveyor, console: Console
) -> None:
    await some_work(queue)
    state = await console.recorder._load()
    client = await queue.client()
    from conveyor_console.history.identity import identify

    # As if all events were gone: only the sweep can know of the tasks.
    store = await identify(client, console.new_id)
    events = await client.broker.inspector.events(limit=10_000)
    async with console.database.writing() as db:
        row = await db.get_one(RecorderState, 1)
        row.store, row.cursor, row.sweep = store, events[-1].cursor, ""
    assert state.sweep is None
    console.recorder._state = None
    await console.recorder.catch_up()
    assert await counted(console) == await truth(queue)
