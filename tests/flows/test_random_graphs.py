"""I8 on random graphs: every node whose condition holds runs exactly once, others never, whatever
the order of the ends, with ends told twice or never, and with advances killed at any write."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from conveyor.core.condition import Operand
from conveyor.core.graph import MODES, Edge, Graph, Node, check
from conveyor.core.outcome import Outcome
from conveyor.core.task import Lease, State
from conveyor.core.template import ITEM_OPERAND, make
from tests.flows.world import World, fail, succeed

GOOD, BAD = State.SUCCEEDED, State.FAILED


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a graph of up to ten nodes."""
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, 10))):
        above = draw(st.sets(st.integers(0, number - 1), max_size=4)) if number else set()
        edges = tuple(Edge(n, draw(st.sampled_from(MODES))) for n in sorted(above))
        fields: dict[str, Any] = {"edges": edges}
        plain = [e.parent for e in edges if e.mode == "success" and nodes[e.parent].kind == "task"]
        if plain and draw(st.integers(0, 1)) == 1:
            limit = draw(st.integers(0, 9))
            fields["when"] = (Operand(("result", plain[0], "n")) > limit).expression
        elif edges and draw(st.integers(0, 1)) == 1:
            fields["when"] = (Operand(("state", edges[0].parent)) != "skipped").expression
        if draw(st.integers(0, 4)) == 0:
            fields |= {
                "kind": "map",
                "items": make(draw(st.integers(0, 5)), "items"),
                "window": draw(st.integers(1, 3)),
                "payload": make(([ITEM_OPERAND], {}), "item"),
                "fail_fast": draw(st.booleans()),
            }
        elif plain:
            fields["payload"] = make(([Operand(("result", plain[-1]))], {}), "arguments")
        if edges and {e.mode for e in edges} == {"failure"}:
            fields["first"] = "when" not in fields and draw(st.integers(0, 1)) == 1
        nodes.append(Node(f"n{number}", task="t", **fields))
    graph = Graph("g", tuple(nodes))
    check(graph)
    return graph


def expected(graph: Graph, failing: set[tuple[int, int]]) -> dict[int, State]:
    """Say how each node must end: a model that knows nothing of arrivals."""
    states: dict[int, State] = {}
    for number, node in enumerate(graph.nodes):
        modes = [(edge.mode, states[edge.parent]) for edge in node.edges]
        failures = [state for mode, state in modes if mode == "failure"]
        wanted = {"success": {GOOD}, "optional": {GOOD, State.SKIPPED}}
        runs = all(state in wanted.get(mode, set(State)) for mode, state in modes)
        if failures:
            runs = BAD in failures and (runs or node.first)
        if runs and node.when is not None:
            runs = _holds(node.when, states)
        size = 1
        if node.kind == "map":
            size = int.from_bytes(node.items, "big")
        if not runs:
            states[number] = State.SKIPPED
        elif any((number, index) in failing for index in range(size)):
            states[number] = BAD
        else:
            states[number] = GOOD
    return states


def _holds(when: Any, states: dict[int, State]) -> bool:
    name, left, right = when
    if name == "gt":
        return bool(left[1] > right[1])
    return states[left[1]] is not State.SKIPPED


@settings(max_examples=150, deadline=None)
@given(graphs(), st.sets(st.tuples(st.integers(0, 9), st.integers(0, 4))), st.integers(0, 2**32))
def test_every_successor_runs_exactly_once(
    graph: Graph, failing: set[tuple[int, int]], seed: int
) -> None:
    def behave(lease: Lease) -> Outcome:
        terms = lease.task.terms
        assert terms is not None
        if (terms.node, terms.index) in failing:
            return fail()
        return succeed({"n": terms.node})

    async def live() -> None:
        world = World(graph, behave, random.Random(seed))
        try:
            await world.begin()
            known = await world.until_over()
            states = await world.states()
        finally:
            await world.broker.close()
        wanted = expected(graph, failing)
        assert states == wanted
        assert set(world.started.values()) <= {1}, world.started
        ran = {node for node, _ in world.started}
        empty = {n for n, node in enumerate(graph.nodes) if node.items == b"\x00"}
        assert ran | empty >= {n for n, state in wanted.items() if state is not State.SKIPPED}
        assert not ran & {n for n, state in wanted.items() if state is State.SKIPPED}
        assert sum(known.run.counts.values()) == len(graph.nodes)

    asyncio.run(live())
