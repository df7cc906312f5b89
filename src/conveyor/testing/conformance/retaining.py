"""Retention (D20, D28): finished records go in time, living tasks never."""

from __future__ import annotations

import pytest

from conveyor.brokers.base import DEAD_RETENTION_SECONDS, RETENTION_SECONDS
from conveyor.core.errors import TaskNotFound
from conveyor.core.outcome import Cancelled, Unroutable
from conveyor.core.task import State, Task
from conveyor.testing.conformance.rig import Rig, failure, ids, ok


async def is_gone(rig: Rig, task: Task) -> bool:
    """Whether nothing is known of the task any more."""
    try:
        await rig.info(task)
    except TaskNotFound:
        with pytest.raises(TaskNotFound):
            await rig.final(task)
        return True
    return False


async def tidy_all(rig: Rig, limit: int = 1_000) -> int:
    """Tidy until there is nothing left to prune; return how much it was."""
    pruned = 0
    for _ in range(200):
        done = (await rig.broker.tidy(limit)).pruned
        if not done:
            return pruned
        pruned += done
    pytest.fail("tidy() prunes something for ever")


async def test_a_result_expires_after_its_own_time_to_live(rig: Rig) -> None:
    task = await rig.pushed(result_ttl=60.0)
    await rig.settle(await rig.lease(), ok("short-lived"))
    rig.clock.advance(59)
    final = await rig.final(task)
    assert final is not None
    assert final.result is not None
    rig.clock.advance(2)
    final = await rig.final(task)
    assert final is not None
    assert (final.state, final.result) == (State.SUCCEEDED, None)
    await tidy_all(rig)
    assert await rig.state(task) is State.SUCCEEDED


async def test_a_succeeded_task_is_kept_for_a_day(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.settle(await rig.lease(), ok("kept"))
    rig.clock.advance(RETENTION_SECONDS - 60)
    await tidy_all(rig)
    final = await rig.final(task)
    assert final is not None
    assert final.result is not None


async def test_a_succeeded_task_is_pruned_in_the_end(rig: Rig) -> None:
    """Reading: a store may prune by the day, so two days are the bound."""
    task = await rig.pushed()
    await rig.settle(await rig.lease(), ok("kept"))
    rig.clock.advance(2 * RETENTION_SECONDS + 60)
    await tidy_all(rig)
    assert await is_gone(rig, task)
    assert await rig.counts() == {}
    assert await rig.is_healthy()


async def test_a_result_with_a_longer_life_is_kept_for_it(rig: Rig) -> None:
    task = await rig.pushed(result_ttl=3 * RETENTION_SECONDS)
    await rig.settle(await rig.lease(), ok("long-lived"))
    rig.clock.advance(3 * RETENTION_SECONDS - 60)
    await tidy_all(rig)
    final = await rig.final(task)
    assert final is not None
    assert final.result is not None


async def test_dead_letters_are_kept_for_thirty_days(rig: Rig) -> None:
    task = await rig.pushed(max_attempts=2, args=["evidence"])
    await rig.settle(await rig.lease(), failure(delay=1))
    rig.clock.advance(2)
    await rig.settle(await rig.lease(), failure(delay=1))
    rig.clock.advance(DEAD_RETENTION_SECONDS - 3_600)
    await tidy_all(rig)
    info = await rig.info(task)
    assert (info.state, info.args, len(info.executions)) == (State.FAILED, ("evidence",), 2)
    assert await rig.broker.requeue([task.id]) == [task.id]


@pytest.mark.parametrize("was", ["waiting", "running"])
async def test_a_cancelled_task_is_a_dead_letter_like_any_other(rig: Rig, was: str) -> None:
    task = await rig.pushed(args=["evidence"])
    lease = await rig.lease() if was == "running" else None
    await rig.broker.cancel([task.id], by="ada")
    if lease is not None:
        await rig.settle(lease, Cancelled())
    rig.clock.advance(DEAD_RETENTION_SECONDS - 3_600)
    await tidy_all(rig)
    info = await rig.info(task)
    assert (info.state, info.args) == (State.CANCELLED, ("evidence",))
    assert len(info.executions) == (was == "running")
    assert await rig.broker.requeue([task.id]) == [task.id]


async def test_dead_letters_are_pruned_in_the_end(rig: Rig) -> None:
    failed = await rig.pushed()
    await rig.settle(await rig.lease(), failure(final=True))
    cancelled = await rig.pushed()
    await rig.broker.cancel([cancelled.id])
    rig.clock.advance(DEAD_RETENTION_SECONDS + RETENTION_SECONDS + 60)
    await tidy_all(rig)
    assert await is_gone(rig, failed)
    assert await is_gone(rig, cancelled)
    assert await rig.counts() == {}


async def test_a_requeued_dead_letter_is_not_pruned(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.settle(await rig.lease(), failure(final=True))
    rig.clock.advance(86_400.0)
    await rig.broker.requeue([task.id])
    rig.clock.advance(DEAD_RETENTION_SECONDS + RETENTION_SECONDS)
    await tidy_all(rig)
    assert await rig.waiting_ids() == [task.id]
    assert len((await rig.info(task)).executions) == 1


async def test_living_tasks_are_never_pruned(rig: Rig) -> None:
    running = await rig.pushed()
    lease = await rig.lease()
    parked = await rig.pushed("rare")
    await rig.settle(await rig.lease(), Unroutable())
    retried = await rig.pushed()
    await rig.settle(await rig.lease(), failure(delay=300 * 86_400.0))
    queued, scheduled = await rig.pushed(key="k"), await rig.pushed(delay=300 * 86_400.0)
    rig.clock.advance(2 * DEAD_RETENTION_SECONDS)
    await tidy_all(rig)
    assert await rig.counts() == {State.RUNNING: 1, State.QUEUED: 2, State.SCHEDULED: 2}
    assert len((await rig.info(retried)).executions) == 1
    assert await rig.waiting_ids() == [queued.id]
    assert [lease.task for lease in await rig.broker.adopt("w", ["rare"], ["q"], 5)] == [parked]
    assert await rig.settle(lease, ok())
    assert await rig.state(running) is State.SUCCEEDED
    assert await rig.state(scheduled) is State.SCHEDULED


async def test_pruning_goes_in_small_bites(rig: Rig) -> None:
    """D28: no call takes long, however much there is to do. Reading: `limit` counts records of
    each kind, of which there are a few.
    """
    tasks = [rig.task() for _ in range(6)]
    await rig.push(*tasks)
    await rig.broker.cancel(ids(tasks))
    rig.clock.advance(DEAD_RETENTION_SECONDS + RETENTION_SECONDS + 60)
    await rig.broker.tidy(limit=2)
    assert (await rig.counts()).get(State.CANCELLED, 0) >= 4
    await tidy_all(rig, limit=2)
    assert await rig.counts() == {}
    for task in tasks:
        assert await is_gone(rig, task)
