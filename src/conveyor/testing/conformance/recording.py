"""Events: one per change of state, in order, resumable, none skipped."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from conveyor.brokers.base import Broker, Event
from conveyor.core.outcome import Interrupted, Outcome, Snoozed, Unroutable
from conveyor.core.task import NewTask, Task
from conveyor.testing.conformance.gates_rig import gated, slots
from conveyor.testing.conformance.rig import Rig, failure, ids, ok


async def read_all(broker: Broker, *, after: str = "", limit: int = 1_000) -> list[Event]:
    """Read page by page until there is no more."""
    events: list[Event] = []
    while page := await broker.inspector.events(after, limit):
        assert len(page) <= limit
        events += page
        after = page[-1].cursor
    return events


def story(events: list[Event], task: Task) -> list[tuple[str, int]]:
    """Return what happened to one task."""
    return [(event.state, event.execution) for event in events if event.id == task.id]


async def test_a_life_is_told_in_order(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.settle(await rig.lease(), failure(delay=5))
    rig.clock.advance(6)
    await rig.settle(await rig.lease(), Interrupted())
    await rig.settle(await rig.lease(), ok())
    events = await read_all(rig.broker)
    assert story(events, task) == [
        ("queued", 0),
        ("running", 1),
        ("scheduled", 1),
        ("queued", 1),
        ("running", 2),
        ("queued", 2),
        ("running", 3),
        ("succeeded", 3),
    ]
    assert {event.queue for event in events} == {"q"}
    assert all(before.at <= now.at for before, now in pairwise(events))
    assert abs(events[-1].at - rig.clock.time()) < 0.01


async def test_every_verb_that_changes_a_state_is_told(rig: Rig) -> None:
    delayed = await rig.pushed(delay=60)
    await rig.broker.cancel([delayed.id])
    await rig.broker.requeue([delayed.id])
    await rig.settle(await rig.lease(), Unroutable())
    (lease,) = await rig.broker.adopt("w", ["work"], ["q"], 1)
    await rig.settle(lease, failure(final=True))
    events = await read_all(rig.broker)
    assert story(events, delayed) == [
        ("scheduled", 0),
        ("cancelled", 0),
        ("queued", 0),
        ("running", 1),
        ("queued", 1),
        ("running", 2),
        ("failed", 2),
    ]


async def test_who_becomes_due_is_told_by_whoever_promotes(rig: Rig) -> None:
    """Waits are counted from there."""
    await rig.worker(seconds=60)
    for promote in (rig.broker.tidy, rig.step):
        tasks = [rig.task(), gated(rig, slots(10))]
        await rig.push(*tasks, delay=5)
        rig.clock.advance(6)
        await promote()
        events = await read_all(rig.broker)
        for task in tasks:
            assert story(events, task)[:2] == [("scheduled", 0), ("queued", 0)]


async def test_what_changes_nothing_is_not_told(rig: Rig) -> None:
    task = await rig.pushed(key="k")
    lease = await rig.lease()
    await rig.settle(lease, ok())
    before = await read_all(rig.broker)
    await rig.push(task, rig.task(key="k"), rig.task(key="k", args=["conflict"]))
    await rig.settle(lease, failure())
    await rig.broker.cancel([task.id])
    await rig.broker.requeue([task.id])
    await rig.step()
    assert await read_all(rig.broker) == before


async def test_reading_resumes_after_any_cursor(rig: Rig) -> None:
    await rig.push(*(rig.task() for _ in range(7)))
    await rig.waiting_ids()
    await rig.push(*(rig.task() for _ in range(3)))
    events = await read_all(rig.broker)
    assert len(events) == 17
    for index, event in enumerate(events):
        assert await read_all(rig.broker, after=event.cursor) == events[index + 1 :]
    assert await rig.broker.inspector.events(events[-1].cursor) == []


async def test_pages_fit_together(rig: Rig) -> None:
    await rig.push(*(rig.task() for _ in range(10)))
    await rig.waiting_ids()
    events = await read_all(rig.broker)
    for limit in (1, 3, 7):
        assert await read_all(rig.broker, limit=limit) == events


async def test_cursors_sort_and_are_unique(rig: Rig) -> None:
    for _ in range(12):
        await rig.push(*(rig.task() for _ in range(12)))
    cursors = [event.cursor for event in await read_all(rig.broker)]
    assert len(cursors) == 144
    assert cursors == sorted(set(cursors))


async def test_a_reader_skips_nothing_while_others_write(rig: Rig) -> None:
    """A batch that commits late must not appear behind a cursor that was given out already."""
    brokers = [rig.broker, await rig.another(), await rig.another()]
    batches = [[[rig.task() for _ in range(5)] for _ in range(15)] for _ in brokers]
    expected = sorted(task.id for mine in batches for batch in mine for task in batch)

    async def write(broker: Broker, mine: list[list[Task]]) -> None:
        for batch in mine:
            await broker.push([NewTask(task) for task in batch])

    reader = await rig.another()
    writers = asyncio.gather(*map(write, brokers, batches))
    seen: list[str] = []
    cursor = ""
    async with asyncio.timeout(20):
        while len(seen) < len(expected):
            page = await reader.inspector.events(cursor, 50)
            seen += [event.id for event in page]
            cursor = page[-1].cursor if page else cursor
            await asyncio.sleep(0)
        await writers
    assert sorted(seen) == expected


async def test_a_batch_is_told_one_by_one(rig: Rig) -> None:
    tasks = [rig.task(queue=f"q{index % 2}") for index in range(6)]
    await rig.push(*tasks)
    await rig.worker()
    leases = (await rig.step(queues=["q0", "q1"])).leases
    outcomes: list[Outcome] = [ok(), failure(final=True), Snoozed(9)] * 2
    await rig.step(*map(rig.settlement, leases, outcomes), want=0)
    events = await read_all(rig.broker)
    assert sorted({event.id for event in events}) == sorted(ids(tasks))
    for lease, state in zip(leases, ["succeeded", "failed", "scheduled"] * 2, strict=True):
        assert story(events, lease.task) == [("queued", 0), ("running", 1), (state, 1)]
        assert {e.queue for e in events if e.id == lease.task.id} == {lease.task.queue}
