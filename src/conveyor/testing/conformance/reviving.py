"""Requeue and discard: what becomes of dead letters (D11)."""

from __future__ import annotations

from typing import Any

import pytest

from conveyor.brokers.base import RETENTION_SECONDS, Pushed
from conveyor.core.errors import TaskNotFound
from conveyor.core.outcome import Cancelled, Snoozed
from conveyor.core.task import UNTOUCHED, State, Task
from conveyor.testing.conformance.rig import Rig, failure, ok


async def dead_letter(rig: Rig, **fields: Any) -> Task:
    """Push a task and let it fail for good."""
    task = await rig.pushed(**fields)
    assert await rig.settle(await rig.lease(), failure(final=True))
    return task


async def test_a_dead_letter_gets_a_new_life_and_keeps_its_history(rig: Rig) -> None:
    task = await rig.pushed(max_attempts=2, key="k")
    for _ in range(2):
        await rig.settle(await rig.lease(), failure(delay=1))
        rig.clock.advance(2)
    assert await rig.broker.requeue([task.id]) == [task.id]
    info = await rig.info(task)
    assert (info.state, info.attempts, info.finished_at) == (State.QUEUED, 0, None)
    assert [execution.number for execution in info.executions] == [1, 2]
    assert await rig.final(task) is None
    lease = await rig.lease()
    assert (lease.task, lease.execution, lease.counters) == (task, 3, UNTOUCHED)
    assert await rig.settle(lease, ok())
    info = await rig.info(task)
    assert info.state is State.SUCCEEDED
    assert [execution.outcome for execution in info.executions] == [
        "failed",
        "failed",
        "succeeded",
    ]
    assert await rig.is_healthy()


async def test_a_requeued_task_keeps_its_key(rig: Rig) -> None:
    task = await dead_letter(rig, key="k")
    await rig.broker.requeue([task.id])
    assert await rig.push(rig.task(key="k")) == [Pushed(task.id, created=False)]
    await rig.settle(await rig.lease(), ok())
    assert await rig.push(rig.task(key="k")) == [Pushed(task.id, created=False)]


async def test_a_cancelled_waiting_task_can_be_requeued(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.broker.cancel([task.id])
    assert await rig.broker.requeue([task.id]) == [task.id]
    assert await rig.waiting_ids() == [task.id]
    assert await rig.waiting_ids() == []


async def test_a_requeue_forgets_the_cancellation(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.lease()
    await rig.broker.cancel([task.id])
    (holding,) = await rig.broker.held("w")
    await rig.settle(holding.lease, Cancelled())
    assert await rig.broker.requeue([task.id]) == [task.id]
    lease = await rig.lease()
    assert (lease.execution, lease.cancel_requested) == (2, False)
    assert "cancelling" not in (await rig.info(task)).flags
    assert list((await rig.step(want=0)).cancels) == []
    assert await rig.settle(lease, failure(delay=5))
    assert await rig.state(task) is State.SCHEDULED


async def test_a_requeue_for_the_dead_only_leaves_the_living_alone(rig: Rig) -> None:
    dead, risen = await dead_letter(rig), await dead_letter(rig)
    waiting, later = await rig.pushed(), await rig.pushed(delay=60)
    assert await rig.broker.requeue([risen.id]) == [risen.id]
    assert (await rig.lease()).task == waiting
    assert await rig.settle(await rig.lease(), failure(delay=30))
    asked = [dead.id, risen.id, waiting.id, later.id]
    assert await rig.broker.requeue(asked, dead_only=True) == [dead.id]
    assert await rig.broker.requeue(asked, dead_only=True) == []
    assert await rig.state(risen) is State.SCHEDULED
    assert await rig.state(later) is State.SCHEDULED
    assert await rig.waiting_ids() == [dead.id]
    assert await rig.is_healthy()


async def test_the_settlement_of_an_earlier_life_stays_refused(rig: Rig) -> None:
    task = await rig.pushed()
    old = await rig.lease()
    await rig.settle(old, failure(final=True))
    await rig.broker.requeue([task.id])
    assert not await rig.settle(old, ok())
    new = await rig.lease()
    assert not await rig.settle(old, ok())
    assert await rig.settle(new, ok())


async def test_a_scheduled_task_is_made_due_now(rig: Rig) -> None:
    """Reading: it is not dead, so its counters stay."""
    task = await rig.pushed(delay=3_600)
    assert await rig.broker.requeue([task.id]) == [task.id]
    lease = await rig.lease()
    assert (lease.task, lease.execution) == (task, 1)
    await rig.settle(lease, Snoozed(600))
    assert await rig.broker.requeue([task.id]) == [task.id]
    assert (await rig.lease()).counters.snoozes == 1
    rig.clock.advance(7_200)
    assert (await rig.broker.tidy()).promoted == 0


async def test_only_the_dead_and_the_scheduled_are_requeued(rig: Rig) -> None:
    done = await rig.pushed()
    await rig.settle(await rig.lease(), ok())
    running = await rig.pushed()
    await rig.lease()
    queued = await rig.pushed()
    before = await rig.counts()
    asked = [done.id, running.id, queued.id, rig.task().id]
    assert await rig.broker.requeue(asked) == []
    assert await rig.counts() == before
    assert await rig.waiting_ids() == [queued.id]
    assert await rig.broker.requeue([]) == []


async def test_a_task_named_twice_is_requeued_once(rig: Rig) -> None:
    task = await dead_letter(rig)
    assert list(dict.fromkeys(await rig.broker.requeue([task.id, task.id]))) == [task.id]
    assert await rig.broker.requeue([task.id]) == []
    assert await rig.waiting_ids() == [task.id]
    assert await rig.counts() == {State.RUNNING: 1}


async def test_a_requeue_does_not_take_a_key_back_from_its_next_owner(rig: Rig) -> None:
    """Its key was freed a day after its end, and given to another task since. Reading: the older
    task lives again, the key names the younger one.
    """
    old = await dead_letter(rig, key="k")
    rig.clock.advance(RETENTION_SECONDS + 60)
    await rig.broker.tidy()
    young = await rig.pushed(key="k")
    assert await rig.broker.requeue([old.id]) == [old.id]
    assert await rig.push(rig.task(key="k")) == [Pushed(young.id, created=False)]
    assert sorted(await rig.waiting_ids()) == [old.id, young.id]
    assert await rig.is_healthy()


async def test_a_discarded_dead_letter_is_gone_for_good(rig: Rig) -> None:
    failed, cancelled = await dead_letter(rig), await rig.pushed()
    await rig.broker.cancel([cancelled.id])
    assert sorted(await rig.broker.discard([failed.id, cancelled.id])) == [failed.id, cancelled.id]
    for task in (failed, cancelled):
        with pytest.raises(TaskNotFound):
            await rig.info(task)
        with pytest.raises(TaskNotFound):
            await rig.final(task)
    assert await rig.counts() == {}
    assert await rig.broker.requeue([failed.id, cancelled.id]) == []
    assert await rig.broker.discard([failed.id]) == []
    assert await rig.waiting_ids() == []
    assert await rig.is_healthy()


async def test_only_the_dead_are_discarded(rig: Rig) -> None:
    done = await rig.pushed()
    await rig.settle(await rig.lease(), ok())
    running = await rig.pushed()
    lease = await rig.lease()
    queued, scheduled = await rig.pushed(), await rig.pushed(delay=60)
    before = await rig.counts()
    asked = [done.id, running.id, queued.id, scheduled.id, rig.task().id]
    assert await rig.broker.discard(asked) == []
    assert await rig.counts() == before
    assert await rig.settle(lease, ok())


async def test_a_discarded_task_lets_go_of_its_key(rig: Rig) -> None:
    """Reading: a key must not name a task that no longer exists."""
    task = await dead_letter(rig, key="k")
    await rig.broker.discard([task.id])
    fresh = rig.task(key="k")
    assert await rig.push(fresh) == [Pushed(fresh.id)]
