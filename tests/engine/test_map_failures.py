"""Maps of which children fail: retried for those only, or stopped at the first. On every broker."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from conveyor import Conveyor, Reject, TaskFailed
from conveyor.workflows import Results
from tests.engine.flow_kit import Tasks, kept, states
from tests.running import at_work
from tests.worker.harness import soon


@pytest.fixture
def tasks(app: Conveyor) -> Tasks:
    return Tasks(app)


class Picky:
    """A task that fails for some numbers, and what ran."""

    def __init__(self, app: Conveyor, bad: set[int]) -> None:
        self.bad = bad
        self.ran: Counter[int] = Counter()

        @app.task(name="picky")
        async def picky(number: int) -> int:
            self.ran[number] += 1
            if number in self.bad:
                raise Reject("bad")
            return number

        self.task = picky


async def test_only_the_children_that_failed_run_again(app: Conveyor, tasks: Tasks) -> None:
    picky = Picky(app, {1, 3, 5})

    @app.task(name="stream")
    async def stream(numbers: Results[int]) -> list[int]:
        return [number async for number in numbers]

    flow = app.workflow("w")
    mapped = flow.map(picky.task, [0, 1, 2, 3, 4, 5, 6], window=2)
    total, listed = mapped.reduce(tasks.total), mapped.reduce(stream)
    flow.add(tasks.note, "done", [total.result, listed.result])
    async with at_work(app):
        handle = await flow.enqueue()
        with pytest.raises(TaskFailed, match="children of node picky failed"):
            await handle.result(20)
        picky.bad = {3}
        assert await handle.retry("picky") == ["picky", "total", "stream", "note"]
        with pytest.raises(TaskFailed, match="children of node picky failed"):
            await handle.result(20)
        assert picky.ran == {0: 1, 1: 2, 2: 1, 3: 2, 4: 1, 5: 2, 6: 1}
        picky.bad = set()
        await handle.retry()
        assert await handle.result(20) == "done"
        assert picky.ran == {0: 1, 1: 2, 2: 1, 3: 3, 4: 1, 5: 2, 6: 1}
        info = await handle.info()
        (node,) = [one for one in info.nodes if one.name == "picky"]
        assert node.children_ended == 7
        (note,) = [one for one in info.nodes if one.name == "note"]
        args = (await (await app.inspector()).get(note.task_id or "")).args
        assert args == ("done", [21, [0, 1, 2, 3, 4, 5, 6]])
        # A map that did well, or whose items are made anew, starts with all its children.
        await handle.retry("picky")
        assert await handle.result(20) == "done"
    assert picky.ran == {0: 2, 1: 3, 2: 2, 3: 4, 4: 2, 5: 3, 6: 2}


async def test_new_items_start_all_children_anew(app: Conveyor, tasks: Tasks) -> None:
    picky, items = Picky(app, {2}), [1, 2]

    @app.task(name="list")
    async def list_() -> list[int]:
        return items

    flow = app.workflow("w")
    flow.map(picky.task, flow.add(list_).result).reduce(tasks.total)
    async with at_work(app):
        handle = await flow.enqueue()
        with pytest.raises(TaskFailed, match="children of node picky failed"):
            await handle.result(20)
        items = [4, 5, 6]
        await handle.retry("list")
        assert await handle.result(20) == 15
    assert picky.ran == {1: 1, 2: 1, 4: 1, 5: 1, 6: 1}


async def test_a_cancelled_map_goes_on_where_it_was(app: Conveyor, tasks: Tasks) -> None:
    flow = app.workflow("w")
    flow.map(tasks.hang, range(8), window=2).reduce(tasks.total)
    async with kept(app):
        handle = await flow.enqueue()
        await soon(lambda: tasks.ran["hang"] == 2)
        await handle.cancel("later")
        await soon(lambda: handle_is(handle, "cancelled"), 20)
        tasks.let_go.set()
        await handle.retry()
        assert await handle.result(20) == sum(range(8))


async def handle_is(handle: Any, status: str) -> bool:
    return bool(await handle.status() == status)


async def test_the_first_failed_child_stops_the_others(app: Conveyor, tasks: Tasks) -> None:
    began: set[int] = set()
    stopped: set[int] = set()
    works = False

    @app.task(name="fragile")
    async def fragile(number: int) -> int:
        began.add(number)
        if works:
            return number
        if number == 2:
            await soon(lambda: len(began) == 5)
            raise Reject("broken")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            stopped.add(number)
            raise
        return number

    flow = app.workflow("w")
    mapped = flow.map(fragile, range(900), window=5, fail_fast=True)
    flow.add(tasks.note, "alarm").after(mapped, mode="failure")
    flow.returns(mapped.reduce(tasks.total))
    async with at_work(app, concurrency=5):
        handle = await flow.enqueue()
        await soon(lambda: handle_is(handle, "succeeded"), 20)
        found = await states(handle)
        assert found == {"fragile": "failed", "note": "succeeded", "total": "skipped"}
        assert began == {0, 1, 2, 3, 4}
        assert stopped == {0, 1, 3, 4}
        works = True
        await handle.retry("fragile")
        await soon(lambda: handle_is(handle, "succeeded"), 60)
    assert len(began) == 900


async def test_a_definition_says_fail_fast(app: Conveyor, tasks: Tasks) -> None:
    nodes = [{"name": "all", "map": "fail", "items": 4, "window": 1, "fail_fast": True}]
    flow = app.workflow_from({"name": "w", "nodes": nodes})
    assert app.workflow_from(flow.as_plain()).graph() == flow.graph()
    async with at_work(app):
        handle = await flow.enqueue()
        with pytest.raises(TaskFailed, match="children of node all failed"):
            await handle.result(20)
    assert tasks.ran == {"fail": 1}
