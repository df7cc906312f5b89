"""Opening, closing, migrating: what outlives a broker."""

from __future__ import annotations

import asyncio

import pytest

from conveyor.brokers.base import Note, WorkerInfo
from conveyor.core.task import NewTask, Pause, Progress, State
from conveyor.testing.conformance.rig import Rig, failure, ok


async def test_closing_twice_is_closing_once(rig: Rig) -> None:
    await rig.broker.close()
    await rig.broker.close()


async def test_a_broker_that_was_never_opened_can_be_closed(rig: Rig) -> None:
    await rig.unopened().close()


async def test_migrating_what_is_current_changes_nothing(rig: Rig) -> None:
    await rig.pushed()
    assert await rig.broker.migrate() == []
    assert await rig.counts() == {State.QUEUED: 1}


async def test_migrations_may_run_beside_each_other_and_beside_work(rig: Rig) -> None:
    other = await rig.another()
    migrating = [rig.unopened() for _ in range(3)]
    try:
        changes = await asyncio.gather(
            *(broker.migrate() for broker in migrating),
            *(other.push([NewTask(rig.task())]) for _ in range(10)),
        )
    finally:
        for broker in migrating:
            await broker.close()
    assert changes[:3] == [[], [], []]
    assert await rig.counts() == {State.QUEUED: 10}


async def test_the_url_names_the_store(rig: Rig) -> None:
    assert "://" in rig.broker.url


async def test_everything_outlives_its_broker(rig: Rig) -> None:
    if not rig.capabilities.shared:
        pytest.skip("this store ends with its broker")
    finished = await rig.pushed(key="k")
    await rig.settle(await rig.lease(), ok("kept"))
    retried = await rig.pushed()
    await rig.settle(await rig.lease(), failure(delay=60))
    running = await rig.pushed()
    said = WorkerInfo(id="w", host="alpha", pid=1, started_at=rig.clock.time())
    await rig.broker.renew(["w"], 15, said)
    lease = (await rig.step(want=1)).leases[0]
    await rig.broker.annotate([Note(running.id, "q", 1, Progress(1, 2))])
    await rig.broker.cancel([running.id])
    await rig.pushed(queue="p")
    await rig.broker.pause("p", Pause("test", "me", rig.clock.time()))
    tasks = (finished, retried, running)
    before = [await rig.info(task) for task in tasks]
    queues, events = await rig.broker.inspector.queues(), await rig.broker.inspector.events()

    await rig.stop()
    await rig.start()

    assert [await rig.info(task) for task in tasks] == before
    assert await rig.broker.inspector.queues() == queues
    assert await rig.broker.inspector.events() == events
    (worker,) = await rig.broker.inspector.workers()
    assert worker.host == "alpha"
    assert list((await rig.step(queues=["p"])).cancels) == [running.id]
    (repeat,) = await rig.push(rig.task(key="k"))
    assert (repeat.id, repeat.created) == (finished.id, False)
    assert await rig.settle(lease, ok())
