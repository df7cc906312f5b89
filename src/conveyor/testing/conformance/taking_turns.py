"""Fair lanes, lines, and what a full limit does to tasks."""

from __future__ import annotations

import pytest

from conveyor.core.outcome import Cancelled, Interrupted
from conveyor.core.task import State
from conveyor.testing.conformance.gates_rig import line, pushed, slots, take, taken
from conveyor.testing.conformance.rig import Rig, failure, ids, ok


async def test_fair_lanes_take_turns(rig: Rig) -> None:
    a = await pushed(rig, 50, fair="a")
    rig.clock.advance(1)
    b = await pushed(rig, 2, fair="b")
    order = taken(await take(rig, want=6))
    assert b[0].id in order[:2]
    assert b[1].id in order[:4]
    assert [i for i in order if i not in ids(b)] == ids(a[:4])


async def test_a_latecomer_is_not_behind_a_backlog_that_was_served(rig: Rig) -> None:
    await pushed(rig, 50, fair="a")
    for _ in range(5):
        rig.clock.advance(1)
        for lease in await take(rig, want=3):
            await rig.settle(lease, ok())
    rig.clock.advance(1)
    (b,) = await pushed(rig, 1, fair="b")
    rig.clock.advance(1)
    assert b.id in taken(await take(rig, want=2))


async def test_weights_give_longer_turns(rig: Rig) -> None:
    a = await pushed(rig, 20, fair="a", weight=3)
    await pushed(rig, 20, fair="b")
    order = taken(await take(rig, want=8))
    assert sum(task_id in ids(a) for task_id in order) == 6


async def test_fairness_and_limits_together(rig: Rig) -> None:
    await pushed(rig, 5, slots(1, key="a"), fair="a")
    await pushed(rig, 5, slots(1, key="b"), fair="b")
    leases = await take(rig)
    assert {
        lease.task.terms.fair.key for lease in leases if lease.task.terms and lease.task.terms.fair
    } == {"a", "b"}
    assert len(leases) == 2


async def test_a_line_runs_one_at_a_time_in_order(rig: Rig) -> None:
    tasks = await pushed(rig, 3, line())
    order = []
    for _ in range(3):
        (lease,) = await take(rig)
        order.append(lease.task.id)
        await rig.settle(lease, ok())
    assert order == ids(tasks)


async def test_a_retry_holds_the_line(rig: Rig) -> None:
    tasks = await pushed(rig, 2, line())
    (lease,) = await take(rig)
    await rig.settle(lease, failure(delay=30))
    assert await take(rig) == []
    rig.clock.advance(31)
    (again,) = await take(rig)
    assert (again.task.id, again.execution) == (tasks[0].id, 2)
    assert await take(rig) == []
    await rig.settle(again, failure(final=True))
    assert taken(await take(rig)) == [tasks[1].id]
    assert await rig.is_healthy()


async def test_a_cancelled_retry_lets_the_line_go_on(rig: Rig) -> None:
    tasks = await pushed(rig, 2, line())
    (lease,) = await take(rig)
    await rig.settle(lease, failure(delay=30))
    await rig.broker.cancel([tasks[0].id])
    assert taken(await take(rig)) == [tasks[1].id]


async def test_an_interrupted_task_of_a_line_goes_first_again(rig: Rig) -> None:
    tasks = await pushed(rig, 2, line())
    (lease,) = await take(rig)
    await rig.settle(lease, Interrupted())
    (again,) = await take(rig)
    assert again.task.id == tasks[0].id


@pytest.mark.parametrize(
    ("on_full", "state"), [("cancel_newest", State.CANCELLED), ("drop", State.SKIPPED)]
)
async def test_a_full_limit_may_end_the_newcomer(rig: Rig, on_full: str, state: State) -> None:
    tasks = await pushed(rig, 3, slots(1, on_full=on_full))
    assert taken(await take(rig)) == ids(tasks[:1])
    for task in tasks[1:]:
        info = await rig.info(task)
        assert info.state is state
        assert "slots" in (info.reason or "")
    assert await rig.is_healthy()


async def test_a_full_limit_may_cancel_the_oldest(rig: Rig) -> None:
    tasks = await pushed(rig, 1, slots(1, on_full="cancel_oldest"))
    (lease,) = await take(rig)
    tasks += await pushed(rig, 1, slots(1, on_full="cancel_oldest"))
    await rig.worker()
    cancels = [*(await rig.step()).cancels, *(await rig.step(want=0)).cancels]
    assert set(cancels) == {tasks[0].id}
    await rig.settle(lease, Cancelled())
    assert taken(await take(rig)) == [tasks[1].id]
