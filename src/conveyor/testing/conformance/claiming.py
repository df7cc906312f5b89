"""The order of a claim (D19): strict priority with an age credit, first come first served."""

from __future__ import annotations

import pytest

from conveyor.core.outcome import Interrupted
from conveyor.core.task import SECONDS_PER_LEVEL, State
from conveyor.testing.conformance.rig import Rig, failure, ids


async def test_a_worker_whose_lease_was_never_made_gets_nothing(rig: Rig) -> None:
    await rig.pushed()
    assert not (await rig.step(worker="stranger")).leases
    assert await rig.counts() == {State.QUEUED: 1}


async def test_a_lease_says_who_holds_it_since_when_and_under_which_number(rig: Rig) -> None:
    task = await rig.pushed()
    rig.clock.advance(3)
    lease = await rig.lease(worker="w7")
    assert (lease.task, lease.execution, lease.worker) == (task, 1, "w7")
    assert (lease.attempt, lease.cancel_requested, lease.must_run_alone) == (1, False, False)
    assert lease.leased_at == pytest.approx(rig.clock.time(), abs=0.01)
    info = await rig.info(task)
    assert (info.state, info.execution, info.worker) == (State.RUNNING, 1, "w7")
    assert info.started_at == pytest.approx(rig.clock.time(), abs=0.01)


async def test_first_come_first_served(rig: Rig) -> None:
    tasks = []
    for _ in range(5):
        rig.clock.advance(0.01)
        tasks.append(await rig.pushed())
    assert await rig.waiting_ids() == ids(tasks)


async def test_one_push_is_served_in_its_order(rig: Rig) -> None:
    tasks = [rig.task() for _ in range(25)]
    await rig.push(*tasks)
    served = await rig.waiting_ids(want=10)
    served += await rig.waiting_ids(want=10)
    served += await rig.waiting_ids(want=10)
    assert served == ids(tasks)


async def test_the_higher_priority_goes_first(rig: Rig) -> None:
    """Strict among tasks of the same minute, whatever the order of the push."""
    tasks = {}
    for priority in (5, 0, 9, 2, 7, 1, 8, 3, 6, 4):
        tasks[priority] = await rig.pushed(priority=priority)
        rig.clock.advance(1)
    assert await rig.waiting_ids() == [tasks[priority].id for priority in range(9, -1, -1)]


@pytest.mark.parametrize(("lower", "higher"), [(4, 5), (2, 5), (0, 9)])
async def test_a_waiting_task_gains_one_level_per_minute(rig: Rig, lower: int, higher: int) -> None:
    """The bound of D19, from both sides: nobody starves, and nobody jumps the queue sooner."""
    credit = SECONDS_PER_LEVEL * (higher - lower)
    old = await rig.pushed(priority=lower)
    rig.clock.advance(credit - 1)
    in_time = await rig.pushed(priority=higher)
    rig.clock.advance(2)
    too_late = await rig.pushed(priority=higher)
    assert await rig.waiting_ids() == [in_time.id, old.id, too_late.id]


async def test_a_flood_of_critical_tasks_does_not_starve_a_low_one(rig: Rig) -> None:
    """Seven levels lower means at most about seven minutes behind, however many keep coming."""
    low = await rig.pushed(priority=2)
    served: list[str] = []
    minutes = 0
    while low.id not in served:
        await rig.pushed(priority=9)
        served = await rig.waiting_ids(want=1)
        rig.clock.advance(60)
        minutes += 1
        assert minutes < 20
    assert minutes == pytest.approx(8.5, abs=0.5)


async def test_no_more_than_wanted_is_leased(rig: Rig) -> None:
    tasks = [rig.task() for _ in range(5)]
    await rig.push(*tasks)
    assert await rig.waiting_ids(want=0) == []
    assert await rig.waiting_ids(want=3) == ids(tasks[:3])
    assert await rig.counts() == {State.QUEUED: 2, State.RUNNING: 3}


async def test_more_can_be_wanted_than_there_is(rig: Rig) -> None:
    tasks = [rig.task(priority=index % 10) for index in range(30)]
    await rig.push(*tasks)
    assert sorted(await rig.waiting_ids(want=1_000)) == sorted(ids(tasks))


async def test_the_first_queue_is_drained_before_the_next(rig: Rig) -> None:
    """In the order given, whatever their names, priorities and ages."""
    second = [await rig.pushed(queue="a", priority=9) for _ in range(3)]
    first = [await rig.pushed(queue="z", priority=0) for _ in range(2)]
    assert await rig.waiting_ids(want=4, queues=["z", "a"]) == ids([*first, *second[:2]])


async def test_only_the_queues_asked_for_are_served(rig: Rig) -> None:
    await rig.pushed(queue="a")
    task = await rig.pushed(queue="a:b")
    assert await rig.waiting_ids(queues=["q", "b", "a:b", "never seen"]) == [task.id]


async def test_a_retry_waits_behind_those_who_came_before_it_was_due(rig: Rig) -> None:
    """`available_at` is when it last became queued, not when it was pushed."""
    retried = await rig.pushed()
    lease = await rig.lease()
    await rig.settle(lease, failure(delay=10))
    rig.clock.advance(5)
    waiting = await rig.pushed()
    rig.clock.advance(6)
    assert await rig.waiting_ids() == [waiting.id, retried.id]


async def test_an_interrupted_task_waits_anew_but_keeps_its_priority(rig: Rig) -> None:
    interrupted = await rig.pushed(priority=7)
    lease = await rig.lease()
    rig.clock.advance(1)
    same = await rig.pushed(priority=7)
    normal = await rig.pushed(priority=5)
    rig.clock.advance(1)
    await rig.settle(lease, Interrupted())
    assert await rig.waiting_ids() == [same.id, interrupted.id, normal.id]


async def test_a_leased_task_is_given_to_nobody_else(rig: Rig) -> None:
    await rig.pushed()
    await rig.lease(worker="first")
    await rig.worker("second")
    assert not (await rig.step(worker="second")).leases
    assert not (await rig.step(worker="first")).leases


async def test_settling_and_leasing_are_one_step(rig: Rig) -> None:
    first, second = await rig.pushed(), await rig.pushed()
    lease = await rig.lease()
    reply = await rig.step(rig.settlement(lease, Interrupted()), want=5)
    assert [lease.task.id for lease in reply.leases] == [second.id, first.id]
    assert [lease.execution for lease in reply.leases] == [1, 2]
