"""A map is retried until all its children have succeeded: each does so once, whatever is killed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from conveyor.core.graph import Edge, Graph, Node, successor_id
from conveyor.core.outcome import Outcome
from conveyor.core.task import Lease
from conveyor.core.template import ITEM_OPERAND, make
from conveyor.flows.control import retry
from tests.flows.world import World, fail, succeed


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 4), st.booleans(), st.integers(0, 2**32), st.floats(0, 0.7)
)
def test_every_child_succeeds_exactly_once(
    size: int, window: int, fail_fast: bool, seed: int, failing: float
) -> None:
    dice = random.Random(seed)
    good: Counter[int] = Counter()

    def behave(lease: Lease) -> Outcome:
        terms = lease.task.terms
        assert terms is not None
        if terms.node == 0:
            if dice.random() < failing:
                return fail()
            good[terms.index] += 1
        return succeed(terms.index)

    graph = Graph(
        "g",
        (
            Node(
                "map",
                "map",
                "t",
                payload=make(([ITEM_OPERAND], {}), "item"),
                items=make(size, "items"),
                window=window,
                fail_fast=fail_fast,
            ),
            Node("after", task="t", edges=(Edge(0),)),
        ),
    )

    async def live() -> None:
        world = World(graph, behave, random.Random(seed))
        try:
            await world.begin()
            for _ in range(200):
                known = await world.until_over()
                if known.run.status == "succeeded":
                    break
                world.scissors.left = None
                await retry(world.runs(), world.run.id, None)
            assert (await world.known()).run.status == "succeeded"
            known = await world.known()
            ids = [successor_id(known.run.id, 0, n, known.generation(0, n)) for n in range(size)]
            ended = await world.broker.finals(ids)
            assert {str(one.state) for one in ended.values()} == {"succeeded"}
        finally:
            await world.broker.close()
        assert set(good) == set(range(size))
        if not fail_fast:
            assert set(good.values()) == {1}

    asyncio.run(live())
