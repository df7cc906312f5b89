"""Paused queues: nothing is given out, everything else goes on (D14)."""

from __future__ import annotations

from conveyor.core.outcome import Unroutable
from conveyor.core.task import Pause, State
from conveyor.testing.conformance.rig import Rig, ok


def a_pause(rig: Rig, reason: str = "maintenance") -> Pause:
    """Return a pause that begins now."""
    return Pause(reason, "ada", rig.clock.time())


async def test_a_paused_queue_gives_out_nothing_until_it_is_resumed(rig: Rig) -> None:
    task, other = await rig.pushed(), await rig.pushed(queue="other")
    await rig.broker.pause("q", a_pause(rig))
    assert await rig.waiting_ids(queues=["q", "other"]) == [other.id]
    assert await rig.state(task) is State.QUEUED
    await rig.broker.pause("q", None)
    assert await rig.waiting_ids() == [task.id]


async def test_enqueueing_and_settling_go_on_while_paused(rig: Rig) -> None:
    first = await rig.pushed()
    lease = await rig.lease()
    await rig.broker.pause("q", a_pause(rig))
    second = await rig.pushed()
    assert await rig.settle(lease, ok())
    assert await rig.state(first) is State.SUCCEEDED
    assert await rig.state(second) is State.QUEUED
    assert (await rig.broker.cancel([second.id]))[second.id] is State.CANCELLED


async def test_what_becomes_due_while_paused_waits_too(rig: Rig) -> None:
    task = await rig.pushed(delay=10)
    await rig.broker.pause("q", a_pause(rig))
    rig.clock.advance(20)
    await rig.broker.tidy()
    assert await rig.waiting_ids() == []
    await rig.broker.pause("q", None)
    assert await rig.waiting_ids() == [task.id]


async def test_a_pause_says_why_by_whom_and_since_when(rig: Rig) -> None:
    await rig.pushed()
    pause = a_pause(rig)
    await rig.broker.pause("q", pause)
    (queue,) = await rig.broker.inspector.queues()
    assert queue.pause == pause
    await rig.broker.pause("q", again := a_pause(rig, "still broken"))
    (queue,) = await rig.broker.inspector.queues()
    assert queue.pause == again
    await rig.broker.pause("q", None)
    (queue,) = await rig.broker.inspector.queues()
    assert queue.pause is None


async def test_a_pause_holds_for_every_broker(rig: Rig) -> None:
    other = await rig.another()
    task = await rig.pushed()
    await other.pause("q", a_pause(rig))
    assert await rig.waiting_ids() == []
    await other.close()
    assert await rig.waiting_ids() == []
    await rig.broker.pause("q", None)
    assert await rig.waiting_ids() == [task.id]


async def test_a_queue_can_be_paused_before_its_first_task(rig: Rig) -> None:
    await rig.broker.pause("q", a_pause(rig))
    await rig.pushed()
    assert await rig.waiting_ids() == []


async def test_resuming_what_is_not_paused_does_nothing(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.broker.pause("q", None)
    assert await rig.waiting_ids() == [task.id]


async def test_parked_tasks_of_a_paused_queue_are_not_adopted(rig: Rig) -> None:
    """Reading: adoption is a lease, and a paused queue gives out none."""
    task = await rig.pushed("rare")
    await rig.settle(await rig.lease(), Unroutable())
    await rig.broker.pause("q", a_pause(rig))
    await rig.worker()
    assert await rig.broker.adopt("w", ["rare"], ["q"], 5) == []
    await rig.broker.pause("q", None)
    (lease,) = await rig.broker.adopt("w", ["rare"], ["q"], 5)
    assert lease.task == task
