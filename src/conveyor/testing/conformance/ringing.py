"""Bells: no wake-up is lost between an empty step and the task that comes next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from conveyor.brokers.base import Step
from conveyor.core.outcome import Interrupted
from conveyor.core.task import NewTask, Pause, State
from conveyor.testing.conformance.rig import Rig, failure, ids

POLL_SECONDS = 1.0
"""How often a worker looks by itself; what the bell misses is found by then."""


@asynccontextmanager
async def listening(rig: Rig, worker: str = "w") -> AsyncIterator[asyncio.Event]:
    """Listen as a worker does after an empty step: the event is set when the bell rings."""
    rung = asyncio.Event()
    async with rig.broker.listen(worker, ["q"], rung.set):
        await rig.worker(worker)
        assert not (await rig.step(worker=worker)).leases
        rung.clear()
        yield rung


async def wait_for_ring(rig: Rig, rung: asyncio.Event) -> None:
    """Wait for the bell; skip when the store has none."""
    if not rig.capabilities.bells:
        pytest.skip("workers of this store poll")
    async with asyncio.timeout(POLL_SECONDS * 2):
        await rung.wait()


async def ring_or_poll(rung: asyncio.Event) -> None:
    """Sleep as a worker does."""
    try:
        async with asyncio.timeout(POLL_SECONDS):
            await rung.wait()
    except TimeoutError:
        pass
    rung.clear()


async def test_a_push_rings(rig: Rig) -> None:
    async with listening(rig) as rung:
        task = await rig.pushed()
        await wait_for_ring(rig, rung)
        assert await rig.waiting_ids() == [task.id]


async def test_a_push_of_another_process_rings(rig: Rig) -> None:
    other = await rig.another()
    async with listening(rig) as rung:
        for _ in range(3):
            rung.clear()
            task = rig.task()
            await other.push([NewTask(task)])
            await wait_for_ring(rig, rung)
            assert await rig.waiting_ids() == [task.id]
            assert await rig.waiting_ids() == []


async def test_a_cancellation_rings_for_the_worker_that_runs_it(rig: Rig) -> None:
    """D15: a push, well before the next heartbeat."""
    task = await rig.pushed()
    await rig.lease()
    other = await rig.another()
    async with listening(rig) as rung:
        await other.cancel([task.id])
        await wait_for_ring(rig, rung)
        assert list((await rig.step()).cancels) == [task.id]


async def test_resuming_a_queue_rings(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.broker.pause("q", Pause("test", "me", rig.clock.time()))
    async with listening(rig) as rung:
        await rig.broker.pause("q", None)
        await wait_for_ring(rig, rung)
        assert await rig.waiting_ids() == [task.id]


async def test_a_promotion_rings(rig: Rig) -> None:
    task = await rig.pushed(delay=10)
    async with listening(rig) as rung:
        rig.clock.advance(11)
        assert (await rig.broker.tidy()).promoted == 1
        await wait_for_ring(rig, rung)
        assert await rig.waiting_ids() == [task.id]


async def test_a_requeue_rings(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.broker.cancel([task.id])
    async with listening(rig) as rung:
        assert await rig.broker.requeue([task.id]) == [task.id]
        await wait_for_ring(rig, rung)
        assert await rig.waiting_ids() == [task.id]


async def test_a_task_given_back_rings_for_the_others(rig: Rig) -> None:
    task = await rig.pushed()
    lease = await rig.lease(worker="busy")
    async with listening(rig) as rung:
        await rig.settle(lease, Interrupted())
        await wait_for_ring(rig, rung)
        assert await rig.waiting_ids() == [task.id]


async def test_every_idle_worker_gets_its_share(rig: Rig) -> None:
    """Ten tasks for ten idle workers that take one each: none may sleep on."""
    other = await rig.another()
    tasks = [rig.task() for _ in range(10)]
    leased: list[str] = []

    async def work(token: str, ready: asyncio.Barrier) -> None:
        rung = asyncio.Event()
        async with rig.broker.listen(token, ["q"], rung.set):
            await rig.worker(token)
            assert not (await rig.step(want=1, worker=token)).leases
            await ready.wait()
            while True:
                reply = await rig.step(want=1, worker=token)
                if reply.leases:
                    leased.extend(lease.task.id for lease in reply.leases)
                    return
                await ring_or_poll(rung)

    ready = asyncio.Barrier(11)
    async with asyncio.timeout(10), asyncio.TaskGroup() as workers:
        for index in range(10):
            workers.create_task(work(f"w{index}", ready))
        await ready.wait()
        await other.push([NewTask(task) for task in tasks])
    assert sorted(leased) == sorted(ids(tasks))


async def test_no_wake_up_is_lost_in_a_race(rig: Rig) -> None:
    """The push lands before, during or after the empty step: found within the bound each time."""
    other = await rig.another()
    rung = asyncio.Event()
    async with rig.broker.listen("w", ["q"], rung.set):
        await rig.worker()
        for round_number in range(30):
            task = rig.task()

            async def produce(late: int, task: NewTask) -> None:
                for _ in range(late):
                    await asyncio.sleep(0)
                await other.push([task])

            producer = asyncio.ensure_future(produce(round_number % 6, NewTask(task)))
            async with asyncio.timeout(POLL_SECONDS * 3):
                while not (leases := (await rig.step(want=1)).leases):
                    await ring_or_poll(rung)
            await producer
            assert [lease.task.id for lease in leases] == [task.id]


async def test_a_bell_is_silent_once_it_was_left(rig: Rig) -> None:
    rings: list[None] = []
    async with rig.broker.listen("w", ["q"], lambda: rings.append(None)):
        await rig.worker()
        await rig.step()
    heard = len(rings)
    async with listening(rig, "later") as rung:
        await rig.pushed()
        await wait_for_ring(rig, rung)
    assert len(rings) == heard


async def test_bells_may_be_listened_to_again(rig: Rig) -> None:
    for _ in range(3):
        async with listening(rig) as rung:
            await rig.pushed()
            await wait_for_ring(rig, rung)
            assert len(await rig.waiting_ids()) == 1


async def test_a_retry_that_becomes_due_is_found(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.settle(await rig.lease(), failure(delay=5))
    async with listening(rig):
        rig.clock.advance(6)
        assert [lease.task for lease in (await rig.broker.step(Step("w", ["q"], 1))).leases] == [
            task
        ]
        assert await rig.state(task) is State.RUNNING
