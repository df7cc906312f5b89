"""Notes: progress and logs of a running execution, fenced like its end."""

from __future__ import annotations

from conveyor.brokers.base import LEASE_SECONDS, Note
from conveyor.core.outcome import Interrupted, Lost
from conveyor.core.task import Progress
from conveyor.testing.conformance.rig import Rig, ok


async def test_progress_of_a_running_task_shows(rig: Rig) -> None:
    task = await rig.pushed()
    lease = await rig.lease()
    note = Note(task.id, "q", lease.execution, Progress(3, 10, "sending"), ("one", "naïve ✓"))
    assert await rig.broker.annotate([note]) == [True]
    assert (await rig.info(task)).progress == Progress(3, 10, "sending")
    (holding,) = await rig.broker.held("w")
    assert holding.note == note


async def test_a_note_replaces_the_one_before(rig: Rig) -> None:
    task = await rig.pushed()
    await rig.lease()
    await rig.broker.annotate([Note(task.id, "q", 1, Progress(1, 10), ("a",))])
    last = Note(task.id, "q", 1, Progress(2, 10), ("a", "b"))
    await rig.broker.annotate([last])
    (holding,) = await rig.broker.held("w")
    assert holding.note == last


async def test_notes_of_superseded_executions_are_refused(rig: Rig) -> None:
    """D8: also progress and logs of a worker that came back too late."""
    task = await rig.pushed()
    stale = await rig.lease(worker="stalled")
    await rig.broker.annotate([Note(task.id, "q", stale.execution, Progress(1))])
    await rig.settle(stale, Lost())
    assert await rig.broker.annotate([Note(task.id, "q", 1, Progress(2))]) == [False]
    fresh = await rig.lease(worker="healthy")
    (holding,) = await rig.broker.held("healthy")
    assert holding.note is None
    good = Note(task.id, "q", fresh.execution, Progress(9))
    late = Note(task.id, "q", stale.execution, Progress(3))
    assert await rig.broker.annotate([late, good, late]) == [False, True, False]
    (holding,) = await rig.broker.held("healthy")
    assert holding.note == good


async def test_notes_need_a_running_task(rig: Rig) -> None:
    waiting, unknown = await rig.pushed(), rig.task()
    notes = [Note(task.id, "q", number) for task in (waiting, unknown) for number in (0, 1)]
    assert await rig.broker.annotate(notes) == [False] * 4
    lease = await rig.lease()
    await rig.settle(lease, ok())
    assert await rig.broker.annotate([Note(waiting.id, "q", 1)]) == [False]
    assert await rig.broker.annotate([]) == []


async def test_the_sweep_finds_the_last_note_of_a_silent_worker(rig: Rig) -> None:
    """So that the record of a lost execution has its logs."""
    task = await rig.pushed()
    await rig.lease()
    note = Note(task.id, "q", 1, Progress(7), ("last words",))
    await rig.broker.annotate([note])
    rig.clock.advance(LEASE_SECONDS + 1)
    (holding,) = await rig.broker.held()
    assert holding.note == note


async def test_a_new_execution_starts_without_the_old_progress(rig: Rig) -> None:
    task = await rig.pushed()
    lease = await rig.lease()
    await rig.broker.annotate([Note(task.id, "q", 1, Progress(7))])
    await rig.settle(lease, Interrupted())
    await rig.lease()
    assert (await rig.info(task)).progress is None
