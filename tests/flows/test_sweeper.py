"""What the keeper repairs and clears: a kill at every write, marks without runs, old runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from conveyor import Concurrency, Conveyor
from conveyor.core.condition import Operand
from conveyor.core.graph import Edge, Graph, Node, successor_id
from conveyor.core.outcome import Outcome
from conveyor.core.task import Lease
from conveyor.core.template import ITEM_OPERAND, make
from conveyor.flows.advancer import Advancer
from conveyor.flows.closing import KEPT_SECONDS
from conveyor.flows.runs import ACTIVE, GRAPH, NOTE, RUN, SIGNAL, Runs
from conveyor.flows.steps import STEP, prune_steps, step
from conveyor.flows.sweeper import STILLBORN, Sweeper
from conveyor.keeper.keeper import Keeper
from conveyor.system import new_id
from conveyor.testing import Harness, harness
from tests.flows.world import Cut, World, succeed

ITEM = make(([ITEM_OPERAND], {}), "item")
GRAPH_OF_ALL = Graph(
    "all",
    (
        Node("top", task="t"),
        Node("left", task="t", edges=(Edge(0),)),
        Node("right", task="t", edges=(Edge(0),)),
        Node("join", task="t", edges=(Edge(1), Edge(2))),
        Node(
            "never",
            task="t",
            edges=(Edge(3),),
            when=(Operand(("result", 3, "n")) > 100).expression,
        ),
        Node("after never", task="t", edges=(Edge(4),)),
        Node("map", "map", "t", payload=ITEM, items=make(4, ""), window=2, edges=(Edge(3),)),
        Node("last", task="t", edges=(Edge(5, "optional"), Edge(6))),
    ),
)


async def _run_with_a_cut(at: int, *, after: bool) -> bool:
    """Run the graph with one kill at the `at`-th write; False: there was none."""

    def behave(lease: Lease) -> Outcome:
        terms = lease.task.terms
        assert terms is not None
        return succeed({"n": terms.node})

    world = World(GRAPH_OF_ALL, behave, random.Random(1), careful=True)
    world.scissors.left, world.scissors.after = at, after
    try:
        try:
            await world.begin()
        except Cut:
            # The producer died: what it stored is completed or cleared, it had no answer.
            world.scissors.left = None
            world.sweeper = Sweeper(world.broker, world.clock)
            if not await world.broker.documents.get(RUN, [world.run.id]):
                world.clock.advance(STILLBORN + 1)
                await world.sweeper.round()
                assert await world.broker.documents.list(ACTIVE) == []
                return True
        known = await world.until_over()
        assert known.run.status == "succeeded"
        assert known.run.counts == {"succeeded": 6, "skipped": 2}
        assert set(world.started.values()) == {1}
        assert len(world.started) == 9
        return world.scissors.left is None
    finally:
        await world.broker.close()


@pytest.mark.parametrize("after", [False, True])
async def test_a_kill_at_every_write_of_the_advance(after: bool) -> None:
    """L3: k = 0, 1, … until no write is left to be cut."""
    for at in range(200):
        if not await _run_with_a_cut(at, after=after):
            assert at > 20
            return
    raise AssertionError("it never came to its end without a cut")


@pytest.fixture
async def kit() -> AsyncIterator[Harness]:
    app = Conveyor()
    async with harness(app) as made:
        yield made


async def test_the_keeper_goes_on_with_what_a_worker_left(kit: Harness) -> None:
    @kit.app.task(name="one")
    async def one() -> int:
        return 1

    flow = kit.app.workflow("w")
    flow.add(one).after(flow.sleep(3600))
    handle = await flow.enqueue()
    (sleep, _) = (await handle.info()).nodes
    await kit.app.handle(sleep.task_id or "").cancel()
    keeper = Keeper(kit.broker, kit.clock, lambda: 0.5, "k")
    for _ in range(4):
        await keeper.round()
        kit.clock.advance(2)
    assert await handle.status() == "cancelled"


async def test_the_keeper_makes_no_relay_for_what_waits(kit: Harness) -> None:
    """Nodes whose limits go by arguments may wait long; the keeper has no code to push them."""

    @kit.app.task(name="one")
    async def one() -> int:
        return 1

    @kit.app.task(name="call", concurrency=Concurrency(1, key=lambda n: n))
    async def call(n: int) -> int:
        return n

    flow = kit.app.workflow("w")
    first = flow.add(one)
    flow.add(call.with_options(delay=3600), first.result)
    flow.map(call.with_options(delay=3600), range(3)).after(first)
    handle = await flow.enqueue()
    sweeper = Sweeper(kit.broker, kit.clock)
    async with asyncio.timeout(20):
        while len(await kit.tasks()) < 5:
            await kit.drain()
    for _ in range(5):
        await sweeper.round()
        kit.clock.advance(11)
    assert {task.name for task in await kit.tasks()} == {"one", "call"}
    kit.clock.advance(3600)
    await kit.drain()
    assert await handle.status() == "succeeded"


async def test_a_run_is_forgotten_when_its_time_has_come(kit: Harness) -> None:
    @kit.app.task(name="one")
    async def one(value: Any = None) -> int:
        return 1

    flow = kit.app.workflow("w")
    flow.add(one, flow.wait_for("go").result)
    flow.map(one, range(3))
    handle = await flow.enqueue()
    await handle.signal("go")
    await kit.drain()
    assert await handle.status() == "succeeded"
    documents = kit.broker.documents
    assert await documents.list(ACTIVE) == []
    sweeper = Sweeper(kit.broker, kit.clock)
    await sweeper.round()
    assert await handle.status() == "succeeded"
    kit.clock.advance(KEPT_SECONDS + 61)
    await sweeper.round()
    for kind in (RUN, GRAPH, ACTIVE, NOTE, SIGNAL):
        assert await documents.list(kind) == []
    for part in ("", "/1.0*", "/2.0*"):
        assert await kit.broker.tallies.members(f"flow/{handle.id}{part}") == []


async def test_steps_are_forgotten_with_their_task(kit: Harness) -> None:
    async def two() -> int:
        return 2

    @kit.app.task(name="one")
    async def one() -> int:
        return await step("s", two)

    handle = await one.enqueue()
    await kit.drain()
    gone = new_id()
    await kit.broker.documents.put(STEP, f"{gone}/s", b"", 0)
    assert await prune_steps(kit.broker, "") == ""
    assert [memo.id for memo in await kit.broker.documents.list(STEP)] == [f"{handle.id}/s"]


async def test_advancing_a_run_that_is_over_or_gone_does_nothing(kit: Harness) -> None:
    from conveyor.core.task import State
    from conveyor.flows.trip import Ended

    @kit.app.task(name="one")
    async def one() -> int:
        return 1

    flow = kit.app.workflow("w")
    flow.add(one).after(flow.add(one))
    handle = await flow.enqueue()
    await kit.drain()
    advancer = Advancer(kit.broker, kit.clock, Runs(kit.broker, kit.clock))
    again = Ended(handle.id, 0, 0, State.SUCCEEDED)
    assert await advancer.advance([again, again._replace(flow=new_id())]) == 0
    assert await advancer.advance([again._replace(flow=f"{handle.id}/7")]) == 0
    assert successor_id(handle.id, 1) in {task.id for task in await kit.tasks()}
