"""Scheduled tasks that are to be due at another time."""

from __future__ import annotations

from conveyor.brokers.base import Pushed
from conveyor.core.task import State
from conveyor.testing.conformance.gates_rig import gated, slots
from conveyor.testing.conformance.rig import Rig, failure
from conveyor.testing.conformance.uniting import unique

UNKNOWN = "01900000-0000-7000-8000-00000000ffff"


async def test_a_scheduled_task_becomes_due_sooner_or_later(rig: Rig) -> None:
    sooner, later, same = [await rig.pushed(delay=60) for _ in range(3)]
    assert await rig.broker.reschedule([sooner.id], delay=10) == [sooner.id]
    due_at = rig.clock.time() + 100
    assert await rig.broker.reschedule([later.id], due_at=due_at) == [later.id]
    info = await rig.broker.inspector.get(later.id)
    assert info.due_at is not None
    assert abs(info.due_at - due_at) < 0.01
    for seconds, due in ((9, []), (2, [sooner.id]), (50, [same.id]), (38, []), (2, [later.id])):
        rig.clock.advance(seconds)
        assert await rig.waiting_ids() == due
    assert await rig.broker.inspector.check() == []


async def test_a_time_that_is_past_makes_it_due(rig: Rig) -> None:
    first, second = await rig.pushed(delay=60), await rig.pushed(delay=60)
    await rig.broker.reschedule([first.id], due_at=rig.clock.time() - 60)
    await rig.broker.reschedule([second.id], delay=0)
    rig.clock.advance(0.1)
    assert sorted(await rig.waiting_ids()) == sorted([first.id, second.id])


async def test_only_scheduled_tasks_are_moved(rig: Rig) -> None:
    dead, queued = await rig.pushed(delay=60), await rig.pushed()
    await rig.broker.cancel([dead.id])
    asked = [dead.id, queued.id, UNKNOWN, "no id"]
    assert await rig.broker.reschedule(asked, delay=5) == []
    lease = await rig.lease()
    assert await rig.broker.reschedule(asked, delay=5) == []
    assert lease.task.id == queued.id
    assert await rig.state(dead) is State.CANCELLED
    moved = await rig.pushed(delay=60)
    twice = [moved.id, queued.id, moved.id]
    assert await rig.broker.reschedule(twice, delay=5) == [moved.id]
    assert await rig.broker.reschedule([], delay=5) == []


async def test_keys_limits_and_attempts_stay(rig: Rig) -> None:
    keyed = rig.task(key="k")
    single, limited = unique(rig, "start"), gated(rig, slots())
    for task in (keyed, single, limited):
        await rig.push(task, delay=60)
    tasks = [keyed.id, single.id, limited.id]
    assert await rig.broker.reschedule(tasks, delay=5) == tasks
    again = rig.task(key="k")
    assert await rig.push(again) == [Pushed(keyed.id, created=False)]
    assert await rig.push(unique(rig, "start")) == [Pushed(single.id, created=False)]
    rig.clock.advance(6)
    assert sorted(await rig.waiting_ids()) == sorted(tasks)
    assert await rig.broker.inspector.check() == []


async def test_a_retry_can_be_hurried(rig: Rig) -> None:
    task = await rig.pushed(retry_base=800.0)
    await rig.settle(await rig.lease(), failure(), dice=0.5)
    assert await rig.broker.reschedule([task.id], delay=1) == [task.id]
    rig.clock.advance(2)
    lease = await rig.lease()
    assert (lease.task.id, lease.attempt) == (task.id, 2)
