"""How long a task waited: from when it could have begun."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import pytest
from sqlalchemy import select

from conveyor import Conveyor
from conveyor.inspect import Event, Execution, FinishedTask, State, TaskInfo
from conveyor_console.console import Console
from conveyor_console.history.buckets import bucket_of
from conveyor_console.history.models import DueTask, Histogram
from conveyor_console.history.recorder import Recorder
from conveyor_console.history.waits import Waits
from tests.console.history_kit import migrated
from tests.console.history_kit import shop as shop_at
from tests.running import at_work, ended
from tests.worker.harness import soon

MADE = 1_764_244_800.0


def id_of(at: float) -> str:
    return str(uuid.UUID(int=(int(at * 1000) << 80) | (7 << 76) | (2 << 62)))


TASK = id_of(MADE)


def event(state: State, at: float, task_id: str = TASK) -> Event:
    return Event("1", at, task_id, "default", state.value)


def finished(started: float, task_id: str = TASK) -> FinishedTask:
    run = Execution(1, 1, "succeeded", "w", started, 0.1)
    return FinishedTask(
        TaskInfo(
            id=task_id,
            name="a",
            queue="default",
            priority=5,
            state=State.SUCCEEDED,
            enqueued_at=MADE,
            executions=(run,),
        )
    )


@pytest.mark.parametrize(
    ("events", "wait"),
    [
        ([event(State.QUEUED, MADE)], 62.0),
        ([event(State.SCHEDULED, MADE), event(State.QUEUED, MADE + 60)], 2.0),
        # It was scheduled before this recorder began to read.
        ([event(State.QUEUED, MADE + 60)], 2.0),
        # And what cannot be known: it was due by then as well.
        ([], 62.0),
        ([event(State.SCHEDULED, MADE)], None),
    ],
)
def test_a_wait_counts_from_when_a_task_was_due(
    events: Sequence[Event], wait: float | None
) -> None:
    waits = Waits()
    waits.note(events)
    assert waits.of(finished(MADE + 62)) == wait
    waits.forget([TASK])
    assert waits.of(finished(MADE + 62)) == 62.0


def test_ids_that_tell_no_time_are_remembered() -> None:
    waits = Waits()
    waits.note([event(State.QUEUED, MADE + 60, "a made-up id")])
    assert waits.of(finished(MADE + 61, "a made-up id")) == 1.0


async def due(console: Console) -> dict[str, float]:
    async with console.database.reading() as db:
        rows = await db.execute(select(DueTask.task_id, DueTask.at))
        return {one.task_id: one.at for one in rows}


async def test_a_recorder_that_begins_knows_what_became_due_before_it(
    console: Console, queue: Conveyor
) -> None:
    """It became due when the former one read, and starts when the next one does."""
    await console.rest()
    handle = await queue.definition("shop.greet").with_options(delay=1.2).enqueue("Eve")
    broker = (await queue.client()).broker

    async def promoted() -> bool:
        return bool((await broker.tidy()).promoted)

    await soon(promoted)
    await console.recorder.catch_up()
    at = (await due(console))[handle.id]
    async with at_work(queue):
        await ended(handle)
    started = (await handle.info()).executions[0].started_at
    following = Recorder(queue, console.database, console.clock, console.new_id, 30)
    await following.catch_up()
    assert await due(console) == {}
    waited = select(Histogram.bucket).where(Histogram.measure == "wait", Histogram.span == 1)
    async with console.database.reading() as db:
        assert (await db.scalars(waited)).all() == [bucket_of(started - at)]


async def test_the_delay_is_no_wait_on_any_store(broker_url: str) -> None:
    await migrated(broker_url)
    queue: Conveyor = shop_at(broker_url)
    async with queue:
        greet = queue.definitions["shop.greet"].with_options(delay=1.5)
        handle = await greet.enqueue("Ada")
        async with at_work(queue):
            await ended(handle)
        inspector = await queue.inspector()
        events = [one for one in await inspector.events("", 1_000) if one.id == handle.id]
        (task,) = await inspector.finished([handle.id], {handle.id: "default"})
        told = [one for one in events if one.state == State.QUEUED.value]
        for known in (events, told):
            waits = Waits()
            waits.note(known)
            wait = waits.of(task)
            assert wait is not None, events
            assert wait < 1.4, events
