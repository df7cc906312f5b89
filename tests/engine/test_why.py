"""`why` names the true reason, whatever keeps a task from running."""

from __future__ import annotations

import asyncio
import time

import pytest

from conveyor import Concurrency, Conveyor, Rate, Retry
from conveyor.core.task import Pause, State
from conveyor.inspect import Reason
from conveyor.limits import limit
from conveyor.strikes import strike
from conveyor.tasks import Handle
from tests.running import at_work, ended, reached


async def first(handle: Handle[object]) -> Reason:
    return (await handle.why())[0]


async def codes(handle: Handle[object]) -> list[str]:
    return [reason.code for reason in await handle.why()]


async def test_no_worker_is_live(app: Conveyor) -> None:
    @app.task
    async def work() -> None: ...

    assert (await first(await work.enqueue())).code == "no_worker"


async def test_nobody_serves_its_queue_or_knows_its_name(app: Conveyor) -> None:
    @app.task
    async def work() -> None: ...

    async with Conveyor(app.url) as other:

        @other.task(name="elsewhere")
        async def elsewhere() -> None: ...

        broker = (await app.client()).broker
        from conveyor.brokers.base import WorkerInfo

        info = WorkerInfo(
            id="w", host="h", pid=1, started_at=0.0, queues=("default",), names=("x",)
        )
        await broker.renew(["w"], 30, info)
        assert "unknown_name" in await codes(await elsewhere.enqueue())
        assert "not_served" in await codes(await work.with_options(queue="lonely").enqueue())
        await broker.renew(["w"], 0)


async def test_it_is_not_due_or_waits_for_a_retry(app: Conveyor) -> None:
    @app.task(retry=Retry(max_attempts=2, on={ValueError: 60.0}))
    async def fails() -> None:
        raise ValueError("boom")

    later = await fails.with_options(delay=600).enqueue()
    reason = await first(later)
    assert reason.code == "due"
    assert reason.at == pytest.approx(time.time() + 600, abs=5)
    handle = await fails.enqueue()
    async with at_work(app):
        await reached(handle, State.SCHEDULED)
        reason = await first(handle)
        assert reason.code == "retry"
        assert "ValueError" in reason.text


async def test_its_queue_is_paused(app: Conveyor) -> None:
    @app.task
    async def work() -> None: ...

    handle = await work.enqueue()
    broker = (await app.client()).broker
    await broker.pause("default", Pause("ticket 4711", "ada", time.time()))
    reason = await first(handle)
    assert reason.code == "paused"
    assert "by ada: ticket 4711" in reason.text


async def test_a_strike_by_name(app: Conveyor) -> None:
    @app.task
    async def work() -> None: ...

    await strike(app, name="*work", reason="bad release")
    assert (await first(await work.enqueue())).code == "struck"


async def test_its_limit_is_paused_used_up_or_full(app: Conveyor) -> None:
    done = asyncio.Event()

    @app.task(rate_limit=Rate("1/h", name="hourly"))
    async def hourly() -> None: ...

    @app.task(concurrency=Concurrency(1, name="printer"))
    async def printing() -> None:
        await done.wait()

    async with at_work(app):
        await (await hourly.enqueue()).result(10)
        reason = next(r for r in await (await hourly.enqueue()).why() if r.code == "rate")
        assert reason.at == pytest.approx(time.time() + 3600, abs=30)
        running = await printing.enqueue()
        await reached(running, State.RUNNING)
        waiting = await printing.enqueue()
        reason = next(r for r in await waiting.why() if r.code == "full")
        assert reason.ids == (running.id,)
        await limit("printer", app=app).pause(by="ada")
        assert "closed" in await codes(waiting)
        await limit("printer", app=app).resume()
        done.set()
        await waiting.result(10)


async def test_another_one_of_its_line_is_before_it(app: Conveyor) -> None:
    done = asyncio.Event()

    @app.task(partition_by=lambda account: account)
    async def book(account: str) -> None:
        await done.wait()

    async with at_work(app):
        running = await book.enqueue("a")
        await reached(running, State.RUNNING)
        waiting = await book.enqueue("a")
        reason = next(r for r in await waiting.why() if r.code == "line")
        assert reason.ids == (running.id,)
        done.set()
        await waiting.result(10)


async def test_others_go_before_it(app: Conveyor) -> None:
    @app.task
    async def work() -> None: ...

    handles = [await work.enqueue() for _ in range(3)]
    (reason,) = [r for r in await handles[2].why() if r.code == "behind"]
    assert reason.text.startswith("2 task(s)")


async def test_it_runs_or_is_being_cancelled_or_has_ended(app: Conveyor) -> None:
    done = asyncio.Event()

    @app.task
    async def stubborn() -> None:
        try:
            await done.wait()
        except asyncio.CancelledError:
            await done.wait()

    handle = await stubborn.enqueue()
    async with at_work(app, kill_grace=5.0):
        await reached(handle, State.RUNNING)
        assert await codes(handle) == ["running"]
        await handle.cancel()
        assert await codes(handle) == ["cancelling"]
        done.set()
        await ended(handle)
        assert await codes(handle) == ["finished"]
