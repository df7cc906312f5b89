"""Cancellation (D15): waiting tasks now, running ones by a stored flag their worker is told of."""

from __future__ import annotations

import pytest

from conveyor.brokers.base import LEASE_SECONDS
from conveyor.core.outcome import (
    Cancelled,
    Interrupted,
    Lost,
    Outcome,
    Released,
    Snoozed,
    Unroutable,
)
from conveyor.core.task import State
from conveyor.testing.conformance.rig import BOOM, Rig, failure, ids, ok


async def test_a_queued_task_is_cancelled_now(rig: Rig) -> None:
    task = await rig.pushed()
    states = await rig.broker.cancel([task.id], by="ada", reason="wrong list")
    assert states == {task.id: State.CANCELLED}
    assert await rig.waiting_ids() == []
    info = await rig.info(task)
    assert (info.state, info.execution) == (State.CANCELLED, 0)
    assert info.finished_at == pytest.approx(rig.clock.time(), abs=0.01)
    assert "wrong list" in (info.reason or "")
    final = await rig.final(task)
    assert final is not None
    assert (final.state, final.result) == (State.CANCELLED, None)


async def test_a_scheduled_task_is_cancelled_now(rig: Rig) -> None:
    task = await rig.pushed(delay=10)
    assert await rig.broker.cancel([task.id]) == {task.id: State.CANCELLED}
    rig.clock.advance(20)
    assert (await rig.broker.tidy()).promoted == 0
    assert await rig.waiting_ids() == []
    assert await rig.counts() == {State.CANCELLED: 1}


async def test_a_parked_task_is_cancelled_now(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.settle(await rig.lease(), Unroutable())
    assert await rig.broker.cancel([task.id]) == {task.id: State.CANCELLED}
    await rig.worker()
    assert await rig.broker.adopt("w", ["work"], ["q"], 5) == []
    assert await rig.counts() == {State.CANCELLED: 1}


async def test_a_running_task_is_flagged_and_its_worker_told(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.lease()
    await rig.worker("other")
    assert await rig.broker.cancel([task.id]) == {task.id: State.RUNNING}
    info = await rig.info(task)
    assert info.state is State.RUNNING
    assert "cancelling" in info.flags
    assert list((await rig.step()).cancels) == [task.id]
    assert list((await rig.step(worker="other")).cancels) == []
    (holding,) = await rig.broker.held("w")
    assert holding.lease.cancel_requested


async def test_a_renewal_tells_of_cancellations_too(rig: Rig) -> None:
    """D15: the bound of ten seconds, when everything faster failed."""
    task = await rig.pushed()
    await rig.lease()
    await rig.worker("other")
    await rig.broker.cancel([task.id])
    renewals = await rig.broker.renew(["w", "other"], 15)
    assert list(renewals["w"].cancels) == [task.id]
    assert list(renewals["other"].cancels) == []


async def test_a_cancelled_execution_ends_cancelled(rig: Rig) -> None:
    task = await rig.pushed()
    lease = await rig.lease()
    await rig.broker.cancel([task.id])
    assert await rig.settle(lease, Cancelled())
    info = await rig.info(task)
    assert info.state is State.CANCELLED
    assert [execution.outcome for execution in info.executions] == ["cancelled"]


@pytest.mark.parametrize(
    "outcome",
    [failure(delay=1), Snoozed(1), Interrupted(), Released(), Lost(), Unroutable()],
    ids=lambda outcome: outcome.name,
)
async def test_a_flagged_task_never_gets_another_run(rig: Rig, outcome: Outcome) -> None:
    """The worker had not heard of the cancellation when it decided."""
    task = await rig.pushed()
    lease = await rig.lease()
    await rig.broker.cancel([task.id], reason="enough")
    assert await rig.settle(lease, outcome)
    assert await rig.state(task) is State.CANCELLED
    rig.clock.advance(60)
    assert await rig.waiting_ids() == []
    assert await rig.broker.adopt("w", ["work"], ["q"], 5) == []
    final = await rig.final(task)
    assert final is not None
    assert (final.state, final.result) == (State.CANCELLED, None)
    assert await rig.is_healthy()


async def test_success_beats_a_cancellation_that_came_too_late(rig: Rig) -> None:
    task = await rig.pushed()
    lease = await rig.lease()
    await rig.broker.cancel([task.id])
    assert await rig.settle(lease, ok())
    assert await rig.state(task) is State.SUCCEEDED


async def test_a_final_failure_stays_a_failure_though_cancelled(rig: Rig) -> None:
    task = await rig.pushed()
    lease = await rig.lease()
    await rig.broker.cancel([task.id])
    assert await rig.settle(lease, failure(final=True))
    info = await rig.info(task)
    assert (info.state, info.error) == (State.FAILED, BOOM)


async def test_finished_tasks_stay_as_they_are(rig: Rig) -> None:
    good, bad = await rig.pushed(), await rig.pushed()
    await rig.settle(await rig.lease(), ok("done"))
    await rig.settle(await rig.lease(), failure(final=True))
    states = await rig.broker.cancel([good.id, bad.id])
    assert states == {good.id: State.SUCCEEDED, bad.id: State.FAILED}
    final = await rig.final(good)
    assert final is not None
    assert final.result is not None


async def test_unknown_ids_are_left_out(rig: Rig) -> None:
    known, unknown = await rig.pushed(), rig.task()
    assert await rig.broker.cancel([unknown.id, known.id]) == {known.id: State.CANCELLED}
    assert await rig.broker.cancel([]) == {}


async def test_cancelling_twice_is_cancelling_once(rig: Rig) -> None:
    waiting, running = await rig.pushed(), await rig.pushed(queue="other")
    lease = await rig.lease(queues=["other"])
    for _ in range(2):
        states = await rig.broker.cancel([waiting.id, running.id])
        assert states == {waiting.id: State.CANCELLED, running.id: State.RUNNING}
    await rig.settle(lease, Cancelled())
    assert await rig.counts() == {State.CANCELLED: 2}
    assert await rig.is_healthy()


async def test_a_crowd_of_cancelled_tasks_does_not_hide_a_live_one(rig: Rig) -> None:
    tasks = [rig.task() for _ in range(400)]
    await rig.push(*tasks)
    await rig.broker.cancel(ids(tasks[:-1]))
    (queue,) = await rig.broker.inspector.queues()
    assert (queue.name, queue.queued) == ("q", 1)
    assert await rig.waiting_ids() == [tasks[-1].id]


async def test_a_flag_outlives_the_loss_of_the_worker(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.lease()
    await rig.broker.cancel([task.id])
    rig.clock.advance(LEASE_SECONDS + 1)
    (holding,) = await rig.broker.held()
    assert holding.lease.cancel_requested
    await rig.settle(holding.lease, Lost())
    assert await rig.state(task) is State.CANCELLED
