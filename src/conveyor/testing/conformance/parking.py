"""Parked tasks: their name is known to no worker that is live, until one adopts them (D26)."""

from __future__ import annotations

from conveyor.core.outcome import Released, Unroutable
from conveyor.core.task import State, Task
from conveyor.testing.conformance.gates_rig import pushed, slots, take
from conveyor.testing.conformance.rig import Rig, failure, ids, ok


async def parked(rig: Rig, name: str = "rare", *, queue: str = "q", priority: int = 5) -> Task:
    """Push a task and let a worker that does not know it park it."""
    task = await rig.pushed(name, queue=queue, priority=priority)
    assert await rig.settle(await rig.lease(queues=[queue]), Unroutable())
    return task


async def test_a_parked_task_is_queued_and_flagged_but_not_given_out(rig: Rig) -> None:
    task = await parked(rig)
    info = await rig.info(task)
    assert (info.state, info.attempts, info.executions) == (State.QUEUED, 0, ())
    assert "unroutable" in info.flags
    assert info.reason == "no live worker knows the task 'rare'"
    assert await rig.waiting_ids() == []
    (queue,) = await rig.broker.inspector.queues()
    assert queue.parked == 1
    assert await rig.counts() == {State.QUEUED: 1}


async def test_a_worker_that_knows_the_name_adopts_it(rig: Rig) -> None:
    task = await parked(rig)
    await rig.worker("knows")
    assert await rig.broker.adopt("knows", ["common"], ["q"], 5) == []
    (lease,) = await rig.broker.adopt("knows", ["common", "rare"], ["other", "q"], 5)
    assert (lease.task, lease.execution, lease.worker) == (task, 2, "knows")
    info = await rig.info(task)
    assert info.state is State.RUNNING
    assert "unroutable" not in info.flags
    (queue,) = await rig.broker.inspector.queues()
    assert (queue.parked, queue.running) == (0, 1)
    assert await rig.broker.adopt("knows", ["rare"], ["q"], 5) == []
    assert await rig.settle(lease, ok())
    assert await rig.is_healthy()


async def test_adoption_is_cheap_when_nothing_is_parked(rig: Rig) -> None:
    await rig.pushed("rare")
    await rig.worker()
    assert await rig.broker.adopt("w", ["rare"], ["q"], 5) == []
    assert await rig.broker.adopt("w", [], ["q"], 5) == []
    assert await rig.counts() == {State.QUEUED: 1}


async def test_more_gated_ones_than_wanted_are_not_adopted_past_their_gates(rig: Rig) -> None:
    tasks = await pushed(rig, 4, slots(1))
    for _ in tasks:
        (lease,) = await take(rig)
        assert await rig.settle(lease, Unroutable())
    leases = [*await rig.broker.adopt("w", ["work"], ["q"], 1), *await take(rig)]
    leases += await rig.broker.adopt("w", ["work"], ["q"], 10)
    assert len([*leases, *await take(rig)]) == 1
    assert await rig.is_healthy()


async def test_no_more_than_wanted_are_adopted(rig: Rig) -> None:
    tasks = [await parked(rig) for _ in range(4)]
    await rig.worker()
    assert await rig.broker.adopt("w", ["rare"], ["q"], 0) == []
    first = await rig.broker.adopt("w", ["rare"], ["q"], 3)
    second = await rig.broker.adopt("w", ["rare"], ["q"], 3)
    assert (len(first), len(second)) == (3, 1)
    assert sorted(lease.task.id for lease in [*first, *second]) == sorted(ids(tasks))


async def test_only_queues_of_the_worker_are_adopted_from(rig: Rig) -> None:
    await parked(rig, queue="other")
    mine = await parked(rig)
    await rig.worker()
    (lease,) = await rig.broker.adopt("w", ["rare"], ["q"], 5)
    assert lease.task == mine


async def test_a_worker_without_a_live_lease_adopts_nothing(rig: Rig) -> None:
    await parked(rig)
    assert await rig.broker.adopt("stranger", ["rare"], ["q"], 5) == []
    rig.clock.advance(60)
    assert await rig.broker.adopt("w", ["rare"], ["q"], 5) == []
    assert await rig.counts() == {State.QUEUED: 1}


async def test_an_adopted_task_that_is_released_waits_like_any_other(rig: Rig) -> None:
    task = await parked(rig)
    await rig.worker()
    (lease,) = await rig.broker.adopt("w", ["rare"], ["q"], 5)
    await rig.settle(lease, Released())
    info = await rig.info(task)
    assert (info.state, info.flags) == (State.QUEUED, ())
    assert await rig.waiting_ids() == [task.id]


async def test_a_retried_task_may_be_parked_with_what_it_has_used_up(rig: Rig) -> None:
    task = await rig.pushed("rare")
    await rig.settle(await rig.lease(), failure(delay=1))
    rig.clock.advance(2)
    await rig.settle(await rig.lease(), Unroutable())
    await rig.worker()
    (lease,) = await rig.broker.adopt("w", ["rare"], ["q"], 5)
    assert (lease.task, lease.execution, lease.attempt) == (task, 3, 2)


async def test_a_settlement_of_the_parking_execution_is_stale(rig: Rig) -> None:
    task = await rig.pushed("rare")
    old = await rig.lease()
    assert await rig.settle(old, Unroutable())
    assert not await rig.settle(old, ok())
    (lease,) = await rig.broker.adopt("w", ["rare"], ["q"], 5)
    assert not await rig.settle(old, ok())
    assert await rig.settle(lease, ok())
    assert await rig.state(task) is State.SUCCEEDED
