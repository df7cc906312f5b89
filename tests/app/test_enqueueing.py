"""Enqueueing from wherever code runs: coroutines, plain functions, threads, many at once."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from conveyor import Conveyor, Rate
from conveyor.core.errors import (
    IdempotencyConflict,
    InvalidArguments,
    InvalidOption,
    NotSerialisable,
    PayloadTooLarge,
    TaskNotFound,
    UnknownTask,
)
from conveyor.core.task import State
from tests.running import at_work


def adder(app: Conveyor) -> Any:
    @app.task(name="add")
    async def add(a: int, b: int = 1) -> int:
        return a + b

    return add


async def test_many_come_back_in_order(app: Conveyor) -> None:
    add = adder(app)
    handles = await app.enqueue_many(add.bind(n, b=0) for n in range(2_500))
    assert len({handle.id for handle in handles}) == 2_500
    assert all(handle.created for handle in handles)
    counts = await (await app.inspector()).counts()
    assert counts[State.QUEUED] == 2_500
    async with at_work(app, concurrency=32):
        for place in (0, 999, 1_000, 1_001, 2_499):
            assert await handles[place].result(30) == place


async def test_many_of_none_are_none(app: Conveyor) -> None:
    assert await app.enqueue_many([]) == []


async def test_a_conflict_among_many_names_its_key_and_keeps_the_others(app: Conveyor) -> None:
    add = adder(app)
    await add.with_options(key="k").enqueue(1)
    calls = [add.bind(1), add.with_options(key="k").bind(2), add.bind(3)]
    with pytest.raises(IdempotencyConflict, match="key 'k' already belongs to task"):
        await app.enqueue_many(calls)
    assert (await (await app.inspector()).counts())[State.QUEUED] == 3


async def test_concurrent_singles_share_round_trips(app: Conveyor) -> None:
    add = adder(app)
    client = await app.client()
    calls = []
    push = client.broker.push

    async def counted(tasks: Any) -> Any:
        calls.append(len(tasks))
        return await push(tasks)

    client.broker.push = counted  # type: ignore[method-assign]
    await asyncio.gather(*(add.enqueue(n) for n in range(500)))
    assert sum(calls) == 500
    assert len(calls) <= 3


async def test_one_failing_push_does_not_stop_the_next(app: Conveyor) -> None:
    add = adder(app)
    client = await app.client()
    push = client.broker.push

    async def failing(tasks: Any) -> Any:
        raise ConnectionError("no")

    client.broker.push = failing  # type: ignore[method-assign]
    results = await asyncio.gather(*(add.enqueue(n) for n in range(5)), return_exceptions=True)
    assert all(isinstance(result, ConnectionError) for result in results)
    client.broker.push = push  # type: ignore[method-assign]
    assert (await add.enqueue(1)).created


async def test_a_caller_that_gives_up_does_not_hurt_the_others(app: Conveyor) -> None:
    add = adder(app)
    first = asyncio.create_task(add.enqueue(1))
    others = [asyncio.create_task(add.enqueue(n)) for n in range(5)]
    await asyncio.sleep(0)
    first.cancel()
    handles = await asyncio.gather(*others)
    assert len({handle.id for handle in handles}) == 5


async def test_what_does_not_fit_is_refused_before_anything_is_sent(app: Conveyor) -> None:
    add = adder(app)
    with pytest.raises(InvalidArguments, match="missing a required argument: 'a'"):
        await add.enqueue()
    with pytest.raises(NotSerialisable, match=r"arguments of add: .*object at \[0\]\[0\]"):
        await add.enqueue(object())
    with pytest.raises(PayloadTooLarge, match="arguments of add take 262,"):
        await add.enqueue("x" * 262_144)
    with pytest.raises(NotSerialisable):
        await app.enqueue_many([add.bind(1), add.bind(object())])
    assert not any((await (await app.inspector()).counts()).values())


def test_options_that_make_no_sense_are_refused_where_they_are_said(sqlite_url: str) -> None:
    app = Conveyor(sqlite_url)
    with pytest.raises(InvalidOption, match="executor='gpu'"):
        app.task(executor="gpu")  # type: ignore[call-overload]
    with pytest.raises(InvalidOption, match="on_uncertain='maybe'"):
        app.task(on_uncertain="maybe")  # type: ignore[call-overload]
    with pytest.raises(InvalidOption, match="timeout=0"):
        app.task(timeout=0)
    app.task(name="same")(lambda: 1)
    with pytest.raises(InvalidOption, match="two tasks are named 'same'"):
        app.task(name="same")(lambda: 2)
    app.task(name="call", rate_limit=Rate("50/s", name="crm"))(lambda: 1)
    other = app.task(name="sync", rate_limit=Rate("40/s", name="crm"))
    with pytest.raises(InvalidOption, match=r"50/s.* for task 'call' and .*40/s.* for task 'sync'"):
        other(lambda: 1)
    assert "sync" not in app.definitions
    with pytest.raises(UnknownTask, match="no task is named 'sam'; did you mean same"):
        app.definition("sam")

    def ambiguous(items: list[int] | set[int]) -> None: ...

    with pytest.raises(InvalidOption, match="annotation cannot be decoded"):
        app.task(ambiguous)


def test_plain_code_needs_no_event_loop(broker_url: str) -> None:
    app = Conveyor(broker_url)
    add = adder(app)
    handle = add.enqueue_sync(1)
    others = app.enqueue_many_sync(add.bind(n) for n in range(3))
    assert handle.created
    with pytest.raises(TimeoutError, match=r"was not finished within 0\.01 s; it goes on"):
        handle.result_sync(timeout=0.01)

    async def look() -> dict[State, int]:
        async with app, at_work(app):
            for one in (handle, *others):
                await app.handle(one.id).result(10)
            return await (await app.inspector()).counts()

    assert asyncio.run(look())[State.SUCCEEDED] == 4
    app.close_sync()


def test_the_result_can_be_awaited_from_plain_code(broker_url: str) -> None:
    app = Conveyor(broker_url)
    add = adder(app)
    enqueued, done = threading.Event(), threading.Event()

    async def work() -> None:
        async with Conveyor(broker_url) as other:
            adder(other)
            async with at_work(other):
                enqueued.set()
                await asyncio.to_thread(done.wait, 30)

    worker = threading.Thread(target=lambda: asyncio.run(work()))
    worker.start()
    try:
        assert enqueued.wait(30)
        assert add.enqueue_sync(20, b=22).result_sync(timeout=30) == 42
    finally:
        done.set()
        worker.join()
        app.close_sync()


def test_threads_may_enqueue_at_the_same_time(broker_url: str) -> None:
    app = Conveyor(broker_url)
    add = adder(app)
    with ThreadPoolExecutor(8) as threads:
        handles = list(threads.map(add.enqueue_sync, range(100)))
    assert len({handle.id for handle in handles}) == 100
    app.close_sync()


async def test_it_also_works_inside_a_running_loop(broker_url: str) -> None:
    app = Conveyor(broker_url)
    add = adder(app)
    handle = add.enqueue_sync(1)
    async with app:
        again = add.enqueue_sync(2)
        found = {handle.id: await app.handle(handle.id).status()}
        found[again.id] = await app.handle(again.id).status()
    assert set(found.values()) == {State.QUEUED}


async def test_threads_of_a_running_loop_use_its_connection(app: Conveyor) -> None:
    add = adder(app)
    handles = await asyncio.gather(*(asyncio.to_thread(add.enqueue_sync, n) for n in range(20)))
    assert len({handle.id for handle in handles}) == 20
    assert len(app._clients) == 1


def test_calling_a_definition_runs_the_function_itself(sqlite_url: str) -> None:
    app = Conveyor(sqlite_url)

    @app.task
    def double(n: int) -> int:
        """Double it."""
        return 2 * n

    assert double(4) == 8
    assert double.__name__ == "double"
    assert double.__doc__ == "Double it."
    assert asyncio.run(adder(app)(1, 2)) == 3


async def test_a_handle_of_nobody_says_so(app: Conveyor) -> None:
    handle = app.handle("01890000-0000-7000-8000-000000000000")
    for ask in (handle.status, handle.info, handle.result, handle.cancel):
        with pytest.raises(TaskNotFound, match="no task has the id '01890000"):
            await ask()
