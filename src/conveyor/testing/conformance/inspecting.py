"""The inspector: counted from the rows, never changing anything (I11)."""

from __future__ import annotations

import pytest

from conveyor.brokers.base import LEASE_SECONDS, Filter
from conveyor.core.outcome import Lost, Unroutable
from conveyor.core.task import State, Task
from conveyor.testing.conformance.rig import Rig, failure, ids, ok


async def populate(rig: Rig) -> dict[str, Task]:
    """Make a task in every state there is."""
    tasks = {"succeeded": await rig.pushed()}
    await rig.settle(await rig.lease(), ok("result"))
    tasks["failed"] = await rig.pushed()
    await rig.settle(await rig.lease(), failure(final=True))
    tasks["parked"] = await rig.pushed("rare")
    await rig.settle(await rig.lease(), Unroutable())
    tasks["retried"] = await rig.pushed()
    await rig.settle(await rig.lease(), failure(delay=60))
    tasks["running"] = await rig.pushed()
    await rig.lease()
    tasks["cancelled"] = await rig.pushed()
    await rig.broker.cancel([tasks["cancelled"].id])
    tasks["queued"] = await rig.pushed()
    tasks["scheduled"] = await rig.pushed(delay=60)
    tasks["elsewhere"] = await rig.pushed("other.work", queue="b")
    return tasks


COUNTS = {
    State.SUCCEEDED: 1,
    State.FAILED: 1,
    State.CANCELLED: 1,
    State.RUNNING: 1,
    State.SCHEDULED: 2,
    State.QUEUED: 3,
}


async def test_counts_are_by_state(rig: Rig) -> None:
    assert await rig.counts() == {}
    await populate(rig)
    assert await rig.counts() == COUNTS


async def test_a_mixed_store_is_healthy(rig: Rig) -> None:
    assert await rig.is_healthy()
    await populate(rig)
    assert await rig.is_healthy()
    rig.clock.advance(61)
    await rig.broker.tidy()
    assert await rig.is_healthy()


async def test_a_missing_keeper_is_noticed(rig: Rig) -> None:
    """I9: the only violation that can be made through the front door. Its name begins the
    violation's.
    """
    task = await rig.pushed()
    await rig.lease()
    rig.clock.advance(LEASE_SECONDS + 1)
    assert await rig.is_healthy()
    rig.clock.advance(3_600)
    (violation,) = await rig.broker.inspector.check()
    assert violation.invariant.startswith("I9")
    assert violation.ids == (task.id,)
    (holding,) = await rig.broker.held()
    await rig.settle(holding.lease, Lost())
    assert await rig.is_healthy()


async def test_queued_tasks_are_counted_by_priority(rig: Rig) -> None:
    await rig.push(*(rig.task(priority=level) for level in (9, 5, 5, 0)))
    await rig.pushed(queue="b", priority=2)
    await rig.pushed(priority=7, delay=60)
    await rig.pushed(priority=9)
    await rig.lease()
    found = {info.name: info.by_priority for info in await rig.broker.inspector.queues()}
    assert found == {"q": {0: 1, 5: 2, 9: 1}, "b": {2: 1}}


async def test_looking_changes_nothing(rig: Rig) -> None:
    tasks = await populate(rig)
    inspector = rig.broker.inspector
    before = [await rig.info(task) for task in tasks.values()]
    events = await inspector.events()
    rig.clock.advance(3_600)
    await inspector.counts()
    await inspector.queues()
    await inspector.tasks(Filter())
    await inspector.workers()
    await inspector.check()
    assert [await rig.info(task) for task in tasks.values()] == before
    assert await inspector.events() == events


async def test_tasks_are_listed_newest_first(rig: Rig) -> None:
    tasks = await populate(rig)
    listed = await rig.broker.inspector.tasks(Filter())
    newest = sorted(ids(list(tasks.values())), reverse=True)
    assert [info.id for info in listed] == newest
    assert all(info.executions == () for info in listed)


@pytest.mark.parametrize("state", list(COUNTS))
async def test_tasks_are_listed_by_state(rig: Rig, state: State) -> None:
    await populate(rig)
    listed = await rig.broker.inspector.tasks(Filter(states=(state,)))
    assert len(listed) == COUNTS[state]
    assert {info.state for info in listed} == {state}


async def test_listed_tasks_say_what_get_says(rig: Rig) -> None:
    tasks = await populate(rig)
    for info in await rig.broker.inspector.tasks(Filter()):
        (task,) = [task for task in tasks.values() if task.id == info.id]
        full = await rig.info(task)
        for field in ("name", "queue", "state", "flags", "attempts", "execution", "priority"):
            assert getattr(info, field) == getattr(full, field), field


async def test_filters_can_be_combined(rig: Rig) -> None:
    tasks = await populate(rig)
    inspector = rig.broker.inspector

    async def found(where: Filter) -> list[str]:
        return [info.id for info in await inspector.tasks(where)]

    assert await found(Filter(queue="b")) == [tasks["elsewhere"].id]
    assert await found(Filter(name="rare")) == [tasks["parked"].id]
    dead = (State.FAILED, State.CANCELLED)
    assert await found(Filter(states=dead)) == [tasks["cancelled"].id, tasks["failed"].id]
    assert await found(Filter(states=(State.QUEUED,), queue="q", name="work")) == [
        tasks["queued"].id
    ]
    assert await found(Filter(queue="never seen")) == []
    assert await found(Filter(states=(State.RUNNING,), queue="b")) == []


async def test_pages_go_on_before_a_cursor(rig: Rig) -> None:
    tasks = await populate(rig)
    newest = sorted(ids(list(tasks.values())), reverse=True)
    seen: list[str] = []
    before = None
    while page := await rig.broker.inspector.tasks(Filter(before=before, limit=2)):
        assert len(page) <= 2
        seen += [info.id for info in page]
        before = seen[-1]
    assert seen == newest
    seen = []
    while page := await rig.broker.inspector.tasks(
        Filter(after=seen[-1] if seen else None, limit=2, oldest_first=True)
    ):
        seen += [info.id for info in page]
    assert seen == newest[::-1]
    dead = Filter(states=(State.FAILED, State.CANCELLED, State.QUEUED), oldest_first=True)
    few = [info.id for info in await rig.broker.inspector.tasks(dead)]
    assert few == [one for one in newest[::-1] if one in few]
    between = Filter(after=newest[-1], before=newest[1], oldest_first=True)
    assert [info.id for info in await rig.broker.inspector.tasks(between)] == newest[2:-1][::-1]


async def test_queues_show_what_waits_in_them(rig: Rig) -> None:
    assert await rig.broker.inspector.queues() == []
    await populate(rig)
    rig.clock.advance(42)
    queues = await rig.broker.inspector.queues()
    assert [queue.name for queue in queues] == ["b", "q"]
    b, q = queues
    assert (b.queued, b.scheduled, b.running, b.parked, b.pause) == (1, 0, 0, 0, None)
    assert (q.scheduled, q.running, q.parked) == (2, 1, 1)
    assert b.oldest_wait == pytest.approx(42, abs=0.1)
    assert q.oldest_wait == pytest.approx(42, abs=0.1)
    rig.clock.advance(1)
    later = await rig.broker.inspector.queues()
    assert [one.waits_since for one in later] == [b.waits_since, q.waits_since]


async def test_parked_tasks_do_not_count_as_waiting(rig: Rig) -> None:
    """Reading: `queued` is the backlog that `step` can give out; `parked` is beside it."""
    await populate(rig)
    q = (await rig.broker.inspector.queues())[1]
    assert (q.queued, q.parked) == (1, 1)


async def test_an_empty_queue_that_had_tasks_is_still_listed(rig: Rig) -> None:
    await rig.pushed()
    await rig.lease()
    (queue,) = await rig.broker.inspector.queues()
    assert (queue.name, queue.queued, queue.running) == ("q", 0, 1)
    assert queue.oldest_wait is None
