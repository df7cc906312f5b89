"""Workflows that wait, are stopped, retried and asked why, on every broker."""

from __future__ import annotations

import pytest

from conveyor import Conveyor, Reject, TaskCancelled, TaskFailed
from conveyor.errors import InvalidWorkflow, WorkflowNotFound
from conveyor.flows.overview import newest
from tests.engine.flow_kit import Tasks, User, kept, states
from tests.running import at_work
from tests.worker.harness import soon


@pytest.fixture
def tasks(app: Conveyor) -> Tasks:
    return Tasks(app)


async def test_sleeping_and_waiting_hold_no_slot(app: Conveyor, tasks: Tasks) -> None:
    flow = app.workflow("patient")
    naps = [flow.sleep(0.5).after(flow.add(tasks.note, "tired")) for _ in range(3)]
    answer = flow.wait_for("approved").after(*naps)
    flow.add(tasks.note, "done", answer.result)
    async with at_work(app, concurrency=1):
        handle = await flow.enqueue()
        await (await tasks.note.enqueue("another")).result(20)

        async def waits() -> bool:
            return (await handle.why("wait_for approved")) == ["it waits for the signal 'approved'"]

        await soon(waits)
        assert await handle.signal("approved", {"by": "ada"})
        assert not await handle.signal("approved", {"by": "eve"})
        assert await handle.result(20) == "done"
    info = await app.inspector()
    (done,) = [n for n in (await handle.info()).nodes if n.name == "note-4"]
    assert (await info.get(done.task_id or "")).args == ("done", {"by": "ada"})


async def test_a_signal_that_came_before_the_wait_is_kept(app: Conveyor, tasks: Tasks) -> None:
    flow = app.workflow("early")
    flow.wait_for("go", timeout=3600).after(flow.add(tasks.hang))
    async with at_work(app):
        handle = await flow.enqueue()
        await handle.signal("go", 7)
        tasks.let_go.set()
        assert await handle.result(20) == 7


async def test_a_wait_that_times_out_fails(app: Conveyor, tasks: Tasks) -> None:
    flow = app.workflow("late")
    wait = flow.wait_for("go", timeout=0.2)
    flow.add(tasks.note, "too late").after(wait, mode="failure")
    async with at_work(app):
        assert await (await flow.enqueue()).result(20) == "too late"


async def test_cancelling_stops_what_runs_and_all_that_follows(app: Conveyor, tasks: Tasks) -> None:
    flow = app.workflow("stop")
    hang = flow.add(tasks.hang)
    flow.add(tasks.note, "after", hang.result)
    flow.add(tasks.note, "even so").after(hang, mode="end")
    flow.sleep(3600)
    mapped = flow.map(tasks.hang, range(100), window=2)
    flow.add(tasks.note, "after map").after(mapped, mode="end")
    async with kept(app, concurrency=10):
        handle = await flow.enqueue()
        await soon(lambda: tasks.ran["hang"] == 3)
        assert await handle.cancel("changed my mind", by="ada") == "running"
        with pytest.raises(TaskCancelled, match="changed my mind"):
            await handle.result(20)
    assert tasks.ran == {"hang": 3}
    assert set((await states(handle)).values()) == {"cancelled"}


async def test_a_node_cancelled_by_hand_is_found_by_the_keeper(app: Conveyor, tasks: Tasks) -> None:
    flow = app.workflow("by hand")
    nap = flow.sleep(3600)
    flow.add(tasks.note, "failure").after(nap, mode="failure")
    async with kept(app):
        handle = await flow.enqueue()
        (node, _) = (await handle.info()).nodes
        await app.handle(node.task_id or "").cancel()
        await soon(lambda: tasks.ran["failure"], 20)
        await handle.result(20)


async def test_a_failed_node_is_retried_with_all_that_comes_after(
    app: Conveyor, tasks: Tasks
) -> None:
    works = False

    @app.task(name="flaky")
    async def flaky(user: User) -> int:
        tasks.ran["flaky"] += 1
        if not works:
            raise Reject("not yet")
        return 5

    flow = app.workflow("again")
    user = flow.add(tasks.create, "x")
    flow.add(tasks.note, "beside", user.result)
    broken = flow.add(flaky, user.result)
    double = flow.add(tasks.double, broken.result)
    flow.add(tasks.note, "join", [user.result, double.result])
    flow.returns(double)
    async with at_work(app):
        handle = await flow.enqueue()
        with pytest.raises(TaskFailed, match="not yet"):
            await handle.result(20)
        with pytest.raises(InvalidWorkflow, match="no node"):
            await handle.retry("nothing")
        works = True
        assert await handle.retry() == ["flaky", "double", "note-2"]
        assert await handle.result(20) == 10
        assert await handle.retry("double") == ["double", "note-2"]
        assert await handle.result(20) == 10
    assert tasks.ran == {
        "create": 1,
        "beside": 1,
        "flaky": 2,
        "double": 2,
        "join": 2,
    }


async def test_why_names_the_parents_that_are_waited_for(app: Conveyor, tasks: Tasks) -> None:
    flow = app.workflow("why")
    hang = flow.add(tasks.hang)
    flow.add(tasks.note, "after", hang.result).named("after")
    async with at_work(app):
        handle = await flow.enqueue()
        await soon(lambda: tasks.ran["hang"])
        assert await handle.why("after") == ["runs when hang succeeds; it is running"]
        assert (await handle.why("hang"))[0].endswith("is running")
        tasks.let_go.set()
        await handle.result(20)
        assert await handle.why("after") == ["it has succeeded"]


async def test_a_run_that_is_not_there(app: Conveyor) -> None:
    handle = app.workflow_handle("01890000-0000-7000-8000-000000000000")
    for call in (handle.result(1), handle.status(), handle.info(), handle.cancel()):
        with pytest.raises(WorkflowNotFound):
            await call


async def test_cancelling_reaches_the_workflow_within(app: Conveyor, tasks: Tasks) -> None:
    inner = app.workflow("inner")
    inner.add(tasks.note, "after", inner.add(tasks.hang).result)
    outer = app.workflow("outer")
    outer.include(inner)
    async with kept(app):
        handle = await outer.enqueue()
        await soon(lambda: tasks.ran["hang"])
        await handle.cancel("enough")
        with pytest.raises(TaskCancelled, match="enough"):
            await handle.result(20)
        (run,) = [run for run in await newest(await handle._runs(), 10) if run.name == "inner"]
        within = app.workflow_handle(run.id)
        with pytest.raises(TaskCancelled, match="enough"):
            await within.result(20)
    assert tasks.ran == {"hang": 1}
