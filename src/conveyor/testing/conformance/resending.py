"""Lost replies: whatever was sent may be sent again (D2), and what was leased is found again."""

from __future__ import annotations

from conveyor.brokers.base import Pushed, Step
from conveyor.core.task import NewTask, State
from conveyor.testing.conformance.rig import Rig, failure, ids, ok


async def test_a_push_resent_over_another_connection_is_harmless(rig: Rig) -> None:
    other = await rig.another()
    tasks = [NewTask(rig.task(key=f"k{n}")) for n in range(3)] + [NewTask(rig.task(), delay=60)]
    first = await rig.broker.push(tasks)
    assert await other.push(tasks) == first
    assert all(answer == Pushed(task.task.id) for answer, task in zip(first, tasks, strict=True))
    assert await rig.counts() == {State.QUEUED: 3, State.SCHEDULED: 1}


async def test_a_conflict_resent_is_the_same_conflict(rig: Rig) -> None:
    await rig.pushed(key="k", args=[1])
    tasks = [NewTask(rig.task(key="k", args=[2])), NewTask(rig.task())]
    assert await rig.broker.push(tasks) == await rig.broker.push(tasks)
    assert await rig.counts() == {State.QUEUED: 2}


async def test_a_step_resent_settles_once_and_leases_what_is_left(rig: Rig) -> None:
    """The worker cannot know that the first one arrived; what that leased is among its holdings."""
    tasks = [await rig.pushed() for _ in range(5)]
    lease = await rig.lease()
    lost = Step("w", ["q"], 2, [rig.settlement(lease, failure(delay=60))])
    await rig.broker.step(lost)
    reply = await rig.broker.step(lost)
    assert list(reply.refused) == [tasks[0].id]
    assert [one.task.id for one in reply.leases] == ids(tasks[3:])
    info = await rig.info(tasks[0])
    assert (info.state, info.attempts, len(info.executions)) == (State.SCHEDULED, 1, 1)
    holdings = await rig.broker.held("w")
    assert sorted(holding.lease.task.id for holding in holdings) == sorted(ids(tasks[1:]))
    for holding in holdings:
        assert await rig.settle(holding.lease, ok())
    assert await rig.is_healthy()


async def test_leases_of_a_lost_reply_are_whole(rig: Rig) -> None:
    await rig.pushed()
    await rig.settle(await rig.lease(), failure(delay=1))
    rig.clock.advance(2)
    (lease,) = (await rig.step()).leases
    (holding,) = await rig.broker.held("w")
    assert holding.lease == lease
    assert (lease.execution, lease.attempt) == (2, 2)


async def test_resent_requeues_cancels_and_discards_are_harmless(rig: Rig) -> None:
    dead, revived = await rig.pushed(), await rig.pushed()
    await rig.broker.cancel([dead.id, revived.id])
    for answer in ([revived.id], []):
        assert await rig.broker.requeue([revived.id]) == answer
    for answer in ([dead.id], []):
        assert await rig.broker.discard([dead.id]) == answer
    for _ in range(2):
        states = await rig.broker.cancel([dead.id, revived.id])
        assert states == {revived.id: State.CANCELLED}
    assert await rig.counts() == {State.CANCELLED: 1}


async def test_a_resent_renewal_or_pause_is_harmless(rig: Rig) -> None:
    await rig.pushed()
    for _ in range(2):
        await rig.worker()
        await rig.broker.pause("q", None)
    assert len(await rig.waiting_ids()) == 1
