"""Push: what is stored, in which state, and what a repeat does."""

from __future__ import annotations

import pytest

from conveyor.brokers.base import Pushed
from conveyor.core import codec
from conveyor.core.errors import TaskNotFound
from conveyor.core.outcome import Outcome
from conveyor.core.task import NewTask, State
from conveyor.testing.conformance.rig import Rig, failure, ids, ok


async def test_a_pushed_task_is_queued_with_everything_its_producer_said(rig: Rig) -> None:
    task = rig.task(
        "mail.send",
        payload=codec.encode([["ada"], {"copy": True}], what="arguments"),
        queue="mail",
        priority=7,
        key="ada-1",
        max_attempts=3,
        timeout=12.5,
        headers={"traceparent": "00-ab-cd-01"},
    )
    assert await rig.push(task) == [Pushed(task.id, created=True, conflict=False)]
    info = await rig.info(task)
    assert (info.id, info.name, info.queue, info.priority) == (task.id, "mail.send", "mail", 7)
    assert (info.state, info.execution, info.attempts) == (State.QUEUED, 0, 0)
    assert (list(info.args), info.kwargs) == (["ada"], {"copy": True})
    assert (info.key, info.max_attempts, info.timeout) == ("ada-1", 3, 12.5)
    assert info.headers == {"traceparent": "00-ab-cd-01"}
    assert info.enqueued_at == pytest.approx(task.enqueued_at, abs=0.01)
    assert (info.started_at, info.finished_at, info.worker) == (None, None, None)
    assert (info.error, info.progress, info.executions) == (None, None, ())


async def test_a_leased_task_is_the_task_that_was_pushed(rig: Rig) -> None:
    task = await rig.pushed(
        "naïve ✓",
        args=[1, -(2**63), 1.5, None, b"\x00\xff", "\N{ROCKET}\n\x00"],
        priority=0,
        max_attempts=1,
        retry_base=0.25,
        retry_cap=9.0,
        timeout=0.5,
        key="k",
        result_ttl=60.0,
        headers={"a": "b"},
    )
    assert (await rig.lease()).task == task


async def test_answers_come_in_the_order_of_the_tasks(rig: Rig) -> None:
    tasks = [rig.task(queue=f"q{index % 3}", priority=index % 10) for index in range(50)]
    assert await rig.push(*tasks) == [Pushed(task.id) for task in tasks]
    assert await rig.counts() == {State.QUEUED: 50}


async def test_pushing_nothing_answers_nothing(rig: Rig) -> None:
    assert await rig.broker.push([]) == []


async def test_a_large_push_is_stored_whole(rig: Rig) -> None:
    tasks = [rig.task(args=[index]) for index in range(2_500)]
    assert [answer.id for answer in await rig.push(*tasks)] == ids(tasks)
    assert await rig.counts() == {State.QUEUED: 2_500}
    assert (await rig.info(tasks[-1])).args == (2_499,)


async def test_a_payload_at_the_limit_is_stored(rig: Rig) -> None:
    blob = bytes(range(256)) * 1_000
    task = await rig.pushed(args=[blob])
    assert (await rig.lease()).task.payload == task.payload


async def test_a_delayed_task_is_scheduled(rig: Rig) -> None:
    task = await rig.pushed(delay=30)
    info = await rig.info(task)
    assert info.state is State.SCHEDULED
    assert info.due_at == pytest.approx(rig.clock.time() + 30, abs=0.01)
    assert await rig.waiting_ids() == []


async def test_a_task_may_be_due_at_an_absolute_time(rig: Rig) -> None:
    task, due_at = rig.task(), rig.clock.time() + 3_600
    await rig.push(task, due_at=due_at)
    info = await rig.info(task)
    assert info.state is State.SCHEDULED
    assert info.due_at == pytest.approx(due_at, abs=0.01)


async def test_what_is_already_due_is_queued_at_once(rig: Rig) -> None:
    """Reading: a due time that is not in the future is the same as none."""
    await rig.push(first := rig.task(), delay=0)
    await rig.push(second := rig.task(), due_at=rig.clock.time() - 5)
    assert await rig.state(first) is State.QUEUED
    assert await rig.state(second) is State.QUEUED


async def test_one_push_may_mix_queues_and_due_times(rig: Rig) -> None:
    now, later, other = rig.task(), rig.task(), rig.task(queue="other")
    await rig.broker.push([NewTask(now), NewTask(later, delay=60), NewTask(other)])
    assert await rig.counts() == {State.QUEUED: 2, State.SCHEDULED: 1}
    assert await rig.waiting_ids() == [now.id]
    assert await rig.waiting_ids(queues=["other"]) == [other.id]


async def test_pushing_a_queued_id_again_changes_nothing(rig: Rig) -> None:
    """D2: a producer whose reply was lost pushes the same ids again."""
    tasks = [rig.task(), rig.task()]
    await rig.push(*tasks)
    fresh = rig.task()
    answers = await rig.push(*tasks, fresh)
    assert answers == [Pushed(task.id, created=True) for task in [*tasks, fresh]]
    assert await rig.counts() == {State.QUEUED: 3}


async def test_an_id_twice_in_one_push_is_one_task(rig: Rig) -> None:
    task = rig.task()
    assert await rig.push(task, task) == [Pushed(task.id), Pushed(task.id)]
    assert await rig.waiting_ids() == [task.id]


async def test_pushing_a_running_id_again_does_not_queue_it(rig: Rig) -> None:
    task = await rig.pushed()
    lease = await rig.lease()
    assert await rig.push(task) == [Pushed(task.id)]
    assert await rig.waiting_ids() == []
    assert await rig.settle(lease, ok())


async def test_pushing_a_scheduled_id_again_does_not_make_it_due(rig: Rig) -> None:
    task = await rig.pushed(delay=60)
    assert await rig.push(task) == [Pushed(task.id)]
    assert await rig.counts() == {State.SCHEDULED: 1}
    assert await rig.waiting_ids() == []


@pytest.mark.parametrize("outcome", [ok("done"), failure(final=True)], ids=["succeeded", "failed"])
async def test_pushing_a_finished_id_again_does_not_run_it(rig: Rig, outcome: Outcome) -> None:
    task = await rig.pushed()
    lease = await rig.lease()
    assert await rig.settle(lease, outcome)
    before = await rig.info(task)
    assert await rig.push(task) == [Pushed(task.id)]
    assert await rig.waiting_ids() == []
    assert await rig.info(task) == before


async def test_pushing_a_cancelled_id_again_does_not_revive_it(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.broker.cancel([task.id])
    assert await rig.push(task) == [Pushed(task.id)]
    assert await rig.counts() == {State.CANCELLED: 1}
    assert await rig.waiting_ids() == []


async def test_another_broker_sees_what_was_pushed(rig: Rig) -> None:
    other = await rig.another()
    task = await rig.pushed()
    assert (await other.inspector.get(task.id)).state is State.QUEUED
    assert await other.push([NewTask(task)]) == [Pushed(task.id)]
    assert await rig.counts() == {State.QUEUED: 1}


async def test_an_unknown_id_is_not_found(rig: Rig) -> None:
    with pytest.raises(TaskNotFound):
        await rig.info(rig.task())
