"""Workflows on a running engine, on every broker: data, conditions, failures, maps."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from conveyor import Conveyor, Reject, TaskFailed
from conveyor.workflows import Results, RunInfo
from tests.engine.flow_kit import Tasks, is_over, states
from tests.running import at_work
from tests.worker.harness import soon


@pytest.fixture
def tasks(app: Conveyor) -> Tasks:
    return Tasks(app)


async def test_the_workflow_of_the_guide(app: Conveyor, tasks: Tasks) -> None:
    flow = app.workflow("onboard")
    user = flow.add(tasks.create, "ada@example.org")
    score = flow.add(tasks.score, user.result)
    with flow.when(score.result["risk"] > 10):
        flow.add(tasks.note, "review", user.result)
    with flow.otherwise():
        flow.add(tasks.note, "welcome", user.result)
    total = flow.map(tasks.double, user.result.contacts, window=2).reduce(tasks.total)
    flow.returns(total)
    async with at_work(app):
        handle = await flow.enqueue()
        assert await handle.result(20) == 2 * (0 + 1 + 2)
    assert tasks.ran == {"create": 1, "score": 1, "review": 1, "double": 3, "total": 1}
    info = await handle.info()
    assert isinstance(info, RunInfo)
    assert (info.status, info.counts) == ("succeeded", {"succeeded": 5, "skipped": 1})
    assert await handle.why("note-2") == [
        "it is skipped",
        "not (score.result['risk'] (= 15) > 10) does not hold",
    ]


async def test_a_diamond_joins_once(app: Conveyor, tasks: Tasks) -> None:
    flow = app.workflow("diamond")
    top = flow.add(tasks.create, "x")
    sides = flow.group(tasks.note.bind(f"side {n}", top.result) for n in range(50))
    flow.add(tasks.note, "bottom", [side.result for side in sides])
    async with at_work(app):
        assert await (await flow.enqueue()).result(20) == "bottom"
    assert tasks.ran["bottom"] == 1
    assert sum(tasks.ran.values()) == 52


async def test_a_failure_skips_what_needs_success_and_runs_what_asked_for_it(
    app: Conveyor, tasks: Tasks
) -> None:
    flow = app.workflow("sad")
    broken = flow.add(tasks.fail)
    flow.add(tasks.note, "next", broken.result).named("next")
    flow.add(tasks.note, "always").after(broken, mode="end").named("always")
    flow.add(tasks.note, "on failure").after(broken, mode="failure").named("repair")
    skipped = flow.add(tasks.note, "after next").after(broken).named("deep")
    flow.add(tasks.note, "join").after(skipped, mode="optional").named("join")
    async with at_work(app):
        handle = await flow.enqueue()
        # The failure was asked for, so the run as a whole did not fail.
        assert isinstance(await handle.result(20), dict)
    assert await states(handle) == {
        "fail": "failed",
        "next": "skipped",
        "always": "succeeded",
        "repair": "succeeded",
        "deep": "skipped",
        "join": "succeeded",
    }


async def test_a_run_whose_node_failed_raises_what_it_raised(app: Conveyor, tasks: Tasks) -> None:
    flow = app.workflow("sad")
    flow.add(tasks.note, "after").after(flow.add(tasks.fail))
    async with at_work(app):
        handle = await flow.enqueue()
        with pytest.raises(TaskFailed, match="no way"):
            await handle.result(20)
    assert await handle.status() == "failed"


async def test_what_cannot_be_compared_fails_the_node_with_its_operands(
    app: Conveyor, tasks: Tasks
) -> None:
    flow = app.workflow("odd")
    user = flow.add(tasks.create, "x")
    with flow.when(cast("Any", user.result.email) > 3):
        flow.add(tasks.note, "never")
    async with at_work(app):
        handle = await flow.enqueue()
        with pytest.raises(TaskFailed, match="'x' > 3"):
            await handle.result(20)
    assert not tasks.ran["never"]


async def test_batches_call_back_once(app: Conveyor, tasks: Tasks) -> None:
    flow = app.workflow("batch")
    flow.batch(
        [tasks.double.bind(1), tasks.fail.bind(), tasks.fail.bind()],
        on_success=tasks.note.bind("success"),
        on_complete=tasks.note.bind("complete"),
        on_first_failure=tasks.note.bind("alarm"),
    )
    empty = app.workflow("empty batch")
    empty.batch([], on_success=tasks.note.bind("empty success"))
    async with at_work(app):
        handle = await flow.enqueue()
        await soon(is_over(handle))
        await (await empty.enqueue()).result(20)
    wanted = {"success": 0, "complete": 1, "alarm": 1, "empty success": 1}
    assert {name: tasks.ran[name] for name in wanted} == wanted


async def test_an_empty_map_ends_and_is_reduced(app: Conveyor, tasks: Tasks) -> None:
    flow = app.workflow("empty")
    user = flow.add(tasks.create, "x", 0)
    flow.map(tasks.double, user.result.contacts).reduce(tasks.total)
    async with at_work(app):
        assert await (await flow.enqueue()).result(20) == 0


async def test_a_map_keeps_its_window_and_streams_to_its_reducer(
    app: Conveyor, tasks: Tasks
) -> None:
    in_flight, most = 0, 0

    @app.task(name="busy")
    async def busy(number: int) -> int:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0)
        in_flight -= 1
        return number

    @app.task(name="stream")
    async def stream(numbers: Results[int]) -> int:
        return sum([number async for number in numbers])

    @app.task(name="stream in a thread")
    def stream_in_thread(numbers: Results[int]) -> int:
        return sum(numbers)

    flow = app.workflow("wide")
    mapped = flow.map(busy, range(1_500), window=5)
    one = mapped.reduce(stream)
    two = mapped.reduce(stream_in_thread)
    flow.add(tasks.total, [one.result, two.result])
    async with at_work(app, concurrency=20):
        assert await (await flow.enqueue()).result(60) == 2 * sum(range(1_500))
    assert most <= 5


async def test_a_map_with_failures_is_reduced_when_asked_to(app: Conveyor, tasks: Tasks) -> None:
    @app.task(name="picky")
    async def picky(number: int) -> int:
        if number % 2:
            raise Reject("odd")
        return number

    flow = app.workflow("picky")
    flow.map(picky, [0, 1, 2, 3, 4], window=2).reduce(tasks.total, mode="end")
    strict = app.workflow("strict")
    strict.map(picky, [0, 1]).reduce(tasks.total)
    async with at_work(app):
        handle, other = await flow.enqueue(), await strict.enqueue()
        await soon(is_over(handle))
        with pytest.raises(TaskFailed, match="children of node picky failed"):
            await other.result(20)
    assert await states(handle) == {"picky": "failed", "total": "succeeded"}
    assert await states(other) == {"picky": "failed", "total": "skipped"}


async def test_a_sub_workflow_gets_inputs_and_gives_a_result(app: Conveyor, tasks: Tasks) -> None:
    inner = app.workflow("inner")
    inner.add(tasks.double, inner.add(tasks.double, inner.input("number")).result)
    outer = app.workflow("outer")
    first = outer.add(tasks.double, 1)
    sub = outer.include(inner, number=first.result)
    outer.add(tasks.double, sub.result)
    async with at_work(app):
        assert await (await outer.enqueue()).result(20) == 16


async def test_a_failed_sub_workflow_fails_its_node(app: Conveyor, tasks: Tasks) -> None:
    inner = app.workflow("inner")
    inner.add(tasks.fail)
    outer = app.workflow("outer")
    outer.include(inner)
    async with at_work(app):
        with pytest.raises(TaskFailed, match=r"workflow inner .* has failed"):
            await (await outer.enqueue()).result(20)


async def test_results_that_are_too_large_together_fail_the_node(
    app: Conveyor, tasks: Tasks
) -> None:
    @app.task(name="large")
    async def large() -> str:
        return "x" * 200_000

    flow = app.workflow("large")
    flow.add(tasks.note, "never", [flow.add(large).result, flow.add(large).result])
    async with at_work(app):
        with pytest.raises(TaskFailed, match="its arguments take 400,0"):
            await (await flow.enqueue()).result(20)
