"""What a history is written from: finished tasks in bulk, and whether events were missed."""

from __future__ import annotations

from conveyor.brokers.base import FinishedTask
from conveyor.core import codec
from conveyor.core.task import State, Task
from conveyor.testing.conformance.inspecting import populate
from conveyor.testing.conformance.rig import Rig, failure, ok


async def finished(rig: Rig, *tasks: Task, known: bool = False) -> dict[str, FinishedTask]:
    homes = {task.id: task.queue for task in tasks} if known else None
    found = await rig.broker.inspector.finished([task.id for task in tasks], homes)
    assert len(found) == len({one.info.id for one in found})
    return {one.info.id: one for one in found}


async def test_finished_tasks_are_what_get_says_and_the_living_are_left_out(rig: Rig) -> None:
    tasks = await populate(rig)
    for known in (False, True):
        found = await finished(rig, *tasks.values(), rig.task(), known=known)
        assert set(found) == {tasks[name].id for name in ("succeeded", "failed", "cancelled")}
        for one in found.values():
            assert one.info == await rig.broker.inspector.get(one.info.id)
        assert found[tasks["succeeded"].id].result == codec.encode("result", what="result")
        assert found[tasks["failed"].id].result is None


async def test_every_execution_of_a_finished_task_is_told(rig: Rig) -> None:
    task = await rig.pushed(max_attempts=3, result_ttl=60)
    for _ in range(2):
        await rig.settle(await rig.lease(), failure(delay=1))
        rig.clock.advance(2)
    await rig.settle(await rig.lease(), ok(7))
    (one,) = (await finished(rig, task)).values()
    assert [e.outcome for e in one.info.executions] == ["failed", "failed", "succeeded"]
    assert one.info.executions[0].error is not None
    assert one.result == codec.encode(7, what="result")
    rig.clock.advance(61)
    (one,) = (await finished(rig, task)).values()
    assert one.result is None


async def test_a_requeued_task_is_finished_no_more(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.settle(await rig.lease(), failure(final=True))
    assert await finished(rig, task)
    await rig.broker.requeue([task.id])
    assert not await finished(rig, task)
    await rig.settle(await rig.lease(), ok())
    (one,) = (await finished(rig, task, known=True)).values()
    assert one.info.state is State.SUCCEEDED
    assert [e.number for e in one.info.executions] == [1, 2]


async def test_thousands_are_found_at_once_and_strange_ids_are_not(rig: Rig) -> None:
    tasks = [rig.task(queue=f"q{number % 3}") for number in range(2_500)]
    await rig.push(*tasks)
    await rig.broker.cancel([task.id for task in tasks])
    assert len(await finished(rig, *tasks)) == 2_500
    assert len(await finished(rig, *tasks, known=True)) == 2_500
    assert await rig.broker.inspector.finished(["", "no id", "\x00"]) == []
    assert await rig.broker.inspector.finished([]) == []


async def test_nothing_is_missed_while_events_are_kept(rig: Rig) -> None:
    inspector = rig.broker.inspector
    assert not await inspector.missed("")
    await populate(rig)
    events = await inspector.events()
    for cursor in ("", *(event.cursor for event in events)):
        assert not await inspector.missed(cursor)


async def test_the_newest_event_is_where_a_reader_of_what_is_to_come_begins(rig: Rig) -> None:
    inspector = rig.broker.inspector
    assert await inspector.newest() == ""
    await populate(rig)
    newest = await inspector.newest()
    assert newest == (await inspector.events())[-1].cursor
    assert await inspector.events(newest) == []
    later = await rig.pushed()
    assert [event.id for event in await inspector.events(newest)] == [later.id]
