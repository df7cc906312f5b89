"""Cancellation of tasks that wait, run, or are about to be retried."""

import asyncio
import threading

import pytest

from conveyor import Conveyor, Retry, TaskCancelled, current_task
from conveyor.core.errors import TaskNotFound
from conveyor.core.task import State
from conveyor.system import new_id
from tests.running import at_work, ended
from tests.worker.harness import soon


async def test_a_waiting_task_never_runs(app: Conveyor) -> None:
    runs = []

    @app.task
    async def run() -> None:
        runs.append(1)

    handle, other = await run.enqueue(), await run.enqueue()
    assert await handle.cancel(reason="changed my mind") is State.CANCELLED
    async with at_work(app):
        await other.result(10)
        with pytest.raises(TaskCancelled, match="changed my mind"):
            await handle.result(10)
    assert len(runs) == 1
    assert (await handle.info()).executions == ()


async def test_a_delayed_task_can_be_cancelled(app: Conveyor) -> None:
    @app.task
    async def run() -> None: ...

    handle = await run.with_options(delay=3_600).enqueue()
    assert await handle.cancel() is State.CANCELLED
    assert await handle.status() is State.CANCELLED


async def test_a_running_async_task_is_stopped_within_a_second(app: Conveyor) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    @app.task
    async def wait() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with at_work(app):
        handle = await wait.enqueue()
        await asyncio.wait_for(started.wait(), 10)
        assert await handle.cancel(reason="enough") is State.RUNNING
        await asyncio.wait_for(stopped.wait(), 2)
        with pytest.raises(TaskCancelled, match="enough"):
            await handle.result(10)
    info = await handle.info()
    assert [e.outcome for e in info.executions] == ["cancelled"]
    assert info.attempts == 0


async def test_a_running_thread_sees_that_it_is_cancelled(app: Conveyor) -> None:
    started = threading.Event()

    @app.task
    def wait() -> str:
        started.set()
        pause = threading.Event()
        while not current_task().cancelled:
            pause.wait(0.005)
        raise RuntimeError("I was told to stop")

    async with at_work(app, kill_grace=10.0):
        handle = await wait.enqueue()
        await soon(started.is_set)
        await handle.cancel()
        with pytest.raises(TaskCancelled):
            await handle.result(10)
    assert len((await handle.info()).executions) == 1


async def test_a_thread_that_ignores_it_is_fenced(app: Conveyor) -> None:
    started, release = threading.Event(), threading.Event()

    @app.task
    def ignore() -> str:
        started.set()
        release.wait(30)
        return "late"

    async with at_work(app) as worker:
        handle = await ignore.enqueue()
        try:
            await soon(started.is_set)
            await handle.cancel()
            assert (await ended(handle)).state is State.CANCELLED
            await soon(lambda: worker.board.stuck == 1)
        finally:
            release.set()
        await soon(lambda: worker.board.stuck == 0)


async def test_a_thread_that_ends_well_before_the_grace_has_succeeded(app: Conveyor) -> None:
    started, release = threading.Event(), threading.Event()

    @app.task
    def finish() -> str:
        started.set()
        release.wait(30)
        return "done"

    async with at_work(app, kill_grace=10.0):
        handle = await finish.enqueue()
        await soon(started.is_set)
        await handle.cancel()
        release.set()
        assert await handle.result(10) == "done"


async def test_a_cancelled_task_that_fails_is_not_retried(app: Conveyor) -> None:
    started = asyncio.Event()
    runs = []

    @app.task(retry=Retry(max_attempts=10, base=0, cap=0))
    async def fail() -> None:
        runs.append(1)
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("while stopping") from None

    async with at_work(app):
        handle = await fail.enqueue()
        await asyncio.wait_for(started.wait(), 10)
        await handle.cancel()
        assert (await ended(handle)).state is State.CANCELLED
    assert len(runs) == 1


async def test_a_task_that_waits_for_its_retry_can_be_cancelled(app: Conveyor) -> None:
    @app.task(retry=Retry(max_attempts=10, base=3_600, cap=3_600))
    async def fail() -> None:
        raise ValueError("no")

    async with at_work(app):
        handle = await fail.enqueue()

        async def retrying() -> bool:
            return await handle.status() is State.SCHEDULED

        await soon(retrying)
        assert await handle.cancel(reason="hopeless") is State.CANCELLED
        with pytest.raises(TaskCancelled, match="hopeless"):
            await handle.result(10)
    assert [e.outcome for e in (await handle.info()).executions] == ["failed"]


async def test_a_finished_task_stays_finished(app: Conveyor) -> None:
    @app.task
    async def run() -> int:
        return 1

    async with at_work(app):
        handle = await run.enqueue()
        await handle.result(10)
        assert await handle.cancel() is State.SUCCEEDED
        assert await handle.result(10) == 1


async def test_cancelling_what_never_was_is_an_error(app: Conveyor) -> None:
    with pytest.raises(TaskNotFound, match="no task has the id"):
        await app.handle(new_id()).cancel()


async def test_tasks_leased_ahead_are_cancelled_without_running(app: Conveyor) -> None:
    started, release, runs = asyncio.Event(), asyncio.Event(), []

    @app.task
    async def quick(n: int) -> None:
        runs.append(n)

    @app.task
    async def block() -> None:
        started.set()
        await release.wait()

    async with at_work(app, concurrency=1):
        await (await quick.enqueue(-1)).result(10)
        handles = await app.enqueue_many([block.bind(), *(quick.bind(n) for n in range(5))])
        await asyncio.wait_for(started.wait(), 10)
        for handle in handles[1:4]:
            await handle.cancel()
            await ended(handle)
        release.set()
        states = [(await ended(handle)).state for handle in handles[1:]]
    assert states == [State.CANCELLED] * 3 + [State.SUCCEEDED] * 2
    assert runs == [-1, 3, 4]
