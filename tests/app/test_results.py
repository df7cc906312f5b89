"""Waiting for results, and what handles know."""

import asyncio

import pytest

from conveyor import Conveyor, TaskCancelled, TaskFailed
from conveyor.brokers.url import connect
from conveyor.core.errors import ConveyorError, ResultExpired, TaskNotFound
from conveyor.core.task import State
from conveyor.testing.clock import ManualClock
from tests.running import at_work
from tests.worker.harness import soon


async def test_waiting_ends_at_its_timeout_and_the_task_goes_on(app: Conveyor) -> None:
    release = asyncio.Event()

    @app.task
    async def wait() -> str:
        await release.wait()
        return "done"

    async with at_work(app):
        handle = await wait.enqueue()
        with pytest.raises(TimeoutError, match=r"was not finished within 0\.05 s; it goes on"):
            await handle.result(timeout=0.05)
        release.set()
        assert await handle.result(timeout=10) == "done"


async def test_many_may_wait_for_one_and_one_for_many(app: Conveyor) -> None:
    release = asyncio.Event()

    @app.task
    async def wait(n: int) -> int:
        await release.wait()
        return n

    async with at_work(app, concurrency=20):
        handles = await app.enqueue_many(wait.bind(n) for n in range(20))
        waits = [asyncio.create_task(handle.result(10)) for handle in handles for _ in range(3)]
        waits[0].cancel()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await waits[0]
        assert await asyncio.gather(*waits[1:]) == [n for n in range(20) for _ in range(3)][1:]


async def test_each_end_has_its_own_exception(app: Conveyor) -> None:
    @app.task
    async def fail() -> None:
        raise LookupError("not here")

    async with at_work(app):
        failed = await fail.with_options(max_attempts=1).enqueue()
        with pytest.raises(TaskFailed) as failure:
            await failed.result(10)
        assert failure.value.task_id == failed.id
        assert failure.value.error_type == "LookupError"
        assert failure.value.error_message == "not here"
        assert 'raise LookupError("not here")' in failure.value.remote_traceback
        assert "remote traceback:" in str(failure.value)

        cancelled = await fail.with_options(delay=60).enqueue()
        await cancelled.cancel(reason="by mistake")
        with pytest.raises(TaskCancelled, match=f"task {cancelled.id} was cancelled.*by mistake"):
            await cancelled.result(10)


async def test_a_result_lives_as_long_as_its_ttl(broker_url: str) -> None:
    clock = ManualClock()
    app = Conveyor(broker_url, clock=clock)

    @app.task(result_ttl=60)
    async def run() -> int:
        return 7

    async with app:
        handle = await run.enqueue()
        async with at_work(app):
            assert await handle.result(10) == 7
        clock.advance(59)
        assert await handle.result(10) == 7
        clock.advance(2)
        with pytest.raises(ResultExpired, match="its result has expired"):
            await handle.result(10)
        assert await handle.status() is State.SUCCEEDED
        clock.advance(2 * 86_400)
        broker = (await app.client()).broker
        while (await broker.tidy()).pruned:
            pass
        with pytest.raises(TaskNotFound):
            await handle.result(10)


async def test_closing_tells_those_who_wait(broker_url: str) -> None:
    app = Conveyor(broker_url)

    @app.task
    async def never() -> None: ...

    async with app:
        handle = await never.enqueue()
        waiting = asyncio.create_task(handle.result(30))
        results = (await app.client())._results
        await soon(lambda: results._waiters)
    with pytest.raises(ConveyorError, match="the app was closed while waiting"):
        await waiting


async def test_an_app_opens_by_itself_and_closes_twice(broker_url: str) -> None:
    app = Conveyor(broker_url)

    @app.task
    async def run() -> None: ...

    handles = await asyncio.gather(*(run.enqueue() for _ in range(20)))
    assert len(app._clients) == 1, "twenty first callers open one connection"
    assert await handles[0].status() is State.QUEUED
    await app.close()
    await app.close()
    again = await run.enqueue()
    assert await again.status() is State.QUEUED
    await app.close()


async def test_an_app_that_was_never_opened_closes(broker_url: str) -> None:
    app = Conveyor(broker_url)
    await app.close()
    app.close_sync()


def test_each_event_loop_has_its_own_connection(broker_url: str) -> None:
    app = Conveyor(broker_url)

    @app.task
    async def run() -> None: ...

    async def once() -> str:
        async with app:
            return (await run.enqueue()).id

    assert asyncio.run(once()) != asyncio.run(once())


def test_a_handle_needs_an_open_app(sqlite_url: str) -> None:
    async def ask() -> None:
        Conveyor(sqlite_url).handle("x")

    with pytest.raises(ConveyorError, match="inside `async with app:`"):
        asyncio.run(ask())


async def test_what_a_handle_knows(app: Conveyor) -> None:
    @app.task
    async def run(a: int, *, b: str) -> None: ...

    handle = await run.with_options(
        queue="q", priority=8, key="k", headers={"by": "ada"}, max_attempts=9, timeout=3
    ).enqueue(1, b="two")
    info = await handle.info()
    assert (info.id, info.name, info.queue, info.priority) == (handle.id, run.name, "q", 8)
    assert (info.args, info.kwargs, info.key) == ((1,), {"b": "two"}, "k")
    assert (info.headers, info.max_attempts, info.timeout) == ({"by": "ada"}, 9, 3.0)
    assert (info.state, info.execution, info.attempts) == (State.QUEUED, 0, 0)
    assert repr(handle) == f"<handle of task {handle.id}>"


async def test_a_broker_that_does_not_open_leaves_nothing_open(tmp_path: object) -> None:
    app = Conveyor(f"sqlite:///{tmp_path}/no/such/folder/x.db")
    with pytest.raises(ConveyorError, match="does not exist"):
        async with app:
            pass
    broker = connect(app.url)
    await broker.close()
    await broker.close()
