"""Timeouts: code that stops, code that cleans up first, and code that will not stop."""

import asyncio
import threading

import pytest

from conveyor import Conveyor, Retry, TaskFailed, current_task
from conveyor.core.task import State
from tests.running import Stopwatch, at_work, ended
from tests.worker.harness import soon

ONCE = Retry(max_attempts=1)


async def test_an_async_task_is_stopped_and_the_caller_is_told(app: Conveyor) -> None:
    seen: list[str] = []

    @app.task(timeout=0.1, retry=ONCE)
    async def sleep() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cleaned up")

    async with at_work(app):
        handle = await sleep.enqueue()
        with pytest.raises(
            TaskFailed, match=r"it ran longer than its timeout of 0\.1 s"
        ) as failure:
            await handle.result(10)
        assert failure.value.error_type == "TimeoutError"
        assert "in sleep\n    await asyncio.Event().wait()" in failure.value.remote_traceback
        assert "conveyor/worker" not in failure.value.remote_traceback
        assert seen == ["cleaned up"]
    info = await handle.info()
    assert [e.outcome for e in info.executions] == ["timed_out"]
    assert info.executions[0].duration >= 0.1


async def test_a_timeout_is_retried_like_a_failure(app: Conveyor) -> None:
    @app.task(timeout=0.05)
    async def sleep() -> int:
        if current_task().attempt < 3:
            await asyncio.Event().wait()
        return current_task().attempt

    async with at_work(app):
        assert await (await sleep.enqueue()).result(10) == 3


async def test_the_timeout_of_one_enqueue_overrides_the_definition_s(app: Conveyor) -> None:
    @app.task(timeout=3_600, retry=ONCE)
    async def sleep() -> None:
        await asyncio.Event().wait()

    async with at_work(app):
        info = await ended(await sleep.with_options(timeout=0.05).enqueue())
    assert info.error is not None
    assert info.error.message == "it ran longer than its timeout of 0.05 s"


async def test_code_that_swallows_the_cancellation_is_fenced(app: Conveyor) -> None:
    release = asyncio.Event()

    @app.task(timeout=0.05, retry=ONCE)
    async def stubborn() -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    async with at_work(app) as worker:
        handle = await stubborn.enqueue()
        with pytest.raises(TaskFailed, match=r"timeout of 0\.05 s"):
            await handle.result(10)
        await soon(lambda: worker.board.stuck == 1)
        release.set()
        await soon(lambda: worker.board.stuck == 0)
    assert (await handle.info()).state is State.FAILED


async def test_a_thread_that_looks_at_cancelled_ends_by_itself(app: Conveyor) -> None:
    @app.task(timeout=0.05, retry=ONCE)
    def polite() -> str:
        pause = threading.Event()
        while not current_task().cancelled:
            pause.wait(0.005)
        return "ended early"

    async with at_work(app, kill_grace=5.0) as worker:
        watch = Stopwatch()
        info = await ended(await polite.enqueue())
        assert watch.seconds < 5
        assert worker.engine._executor.stuck == 0
    assert [e.outcome for e in info.executions] == ["timed_out"]


async def test_a_stuck_thread_is_fenced_counted_and_replaced(app: Conveyor) -> None:
    release = threading.Event()

    @app.task(timeout=0.05, retry=ONCE)
    def stuck() -> str:
        release.wait(30)
        return "too late"

    @app.task
    def quick(n: int) -> int:
        return n

    async with at_work(app, concurrency=1) as worker:
        handle = await stuck.enqueue()
        try:
            with pytest.raises(TaskFailed, match=r"timeout of 0\.05 s") as failure:
                await handle.result(10)
            assert "in stuck\n    release.wait(30)" in failure.value.remote_traceback
            assert "conveyor/worker" not in failure.value.remote_traceback
            assert await (await quick.enqueue(1)).result(10) == 1
            await soon(lambda: worker.board.stuck == 1)
            assert worker.board.running_now() == []
        finally:
            release.set()
        await soon(lambda: worker.board.stuck == 0)
        assert await (await quick.enqueue(2)).result(10) == 2
        assert worker.engine.completer.stale == 0
    info = await handle.info()
    assert (info.state, len(info.executions)) == (State.FAILED, 1)


async def test_more_threads_may_stick_than_there_are_slots(app: Conveyor) -> None:
    release = threading.Event()

    @app.task(timeout=0.05, retry=ONCE)
    def stuck() -> None:
        release.wait(30)

    @app.task
    def quick() -> str:
        return "done"

    async with at_work(app, concurrency=2) as worker:
        try:
            for handle in await app.enqueue_many(stuck.bind() for _ in range(6)):
                assert (await ended(handle)).state is State.FAILED
            await soon(lambda: worker.board.stuck == 6)
            assert await (await quick.enqueue()).result(10) == "done"
        finally:
            release.set()
        await soon(lambda: worker.board.stuck == 0)


async def test_a_late_result_within_the_grace_does_not_count(app: Conveyor) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @app.task(timeout=0.05, retry=ONCE)
    async def late() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await release.wait()
        return "late"

    async with at_work(app, kill_grace=10.0):
        handle = await late.enqueue()
        await asyncio.wait_for(started.wait(), 10)
        release.set()
        with pytest.raises(TaskFailed, match="timeout"):
            await handle.result(10)


async def test_a_task_knows_its_deadline(app: Conveyor) -> None:
    @app.task(timeout=60)
    async def ask() -> float:
        deadline = current_task().deadline
        assert deadline is not None
        return deadline.timestamp()

    @app.task
    async def ask_without() -> bool:
        return current_task().deadline is None

    async with at_work(app):
        now = app.clock.time()
        assert await (await ask.enqueue()).result(10) == pytest.approx(now + 60, abs=5)
        assert await (await ask_without.enqueue()).result(10)
