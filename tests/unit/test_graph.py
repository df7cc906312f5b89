"""Graphs: what is valid, in which order nodes stand, and the ids of their tasks."""

import uuid
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyor.core import fit, graph
from conveyor.core.condition import Operand
from conveyor.core.errors import InvalidWorkflow
from conveyor.core.graph import Edge, Graph, Node, arranged, check, successor_id
from conveyor.core.template import fill, make, references
from conveyor.system import new_id


def nodes(*parents: tuple[int, ...], **fields: Any) -> tuple[Node, ...]:
    """Make nodes that wait for the nodes of these numbers."""
    return tuple(
        Node(f"n{number}", task="t", edges=tuple(map(Edge, above)), **fields)
        for number, above in enumerate(parents)
    )


def test_a_graph_survives_storing() -> None:
    whole = Graph("g", nodes((), (0,), (0, 1), when=None))
    assert graph.decode(graph.encode(whole)) == whole


def test_nodes_are_put_behind_their_parents() -> None:
    payload = make(([Operand(("result", 2, "x"))], {}), "arguments")
    first = Node("a", task="t", payload=payload, edges=(Edge(2),), when=["state", 2])
    mixed = Graph("g", (first, *nodes((), ())), result=0)
    sorted_ = arranged(mixed)
    assert [node.name for node in sorted_.nodes] == ["n0", "n1", "a"]
    moved = sorted_.nodes[2]
    assert (moved.edges, sorted_.result) == ((Edge(1),), 2)
    assert references(moved.payload) == [(1, ("x",))]
    assert list(moved.when) == ["state", 1]
    check(sorted_)


def test_a_cycle_is_named() -> None:
    with pytest.raises(InvalidWorkflow, match=r"has a cycle: n(\d) → .*n\1$"):
        arranged(Graph("g", nodes((), (0, 3), (1,), (2,))))


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (Graph("g", ()), "has no nodes"),
        (Graph("g", (*nodes(()), *nodes(()))), "two nodes .* 'n0'"),
        (Graph("g", nodes((), (0, 0))), "same node twice"),
        (Graph("g", nodes((1,), ())), "does not come before it"),
        (Graph("g", (Node("a", task="t", edges=()), Node("b", "x"))), "kind 'x'"),
        (Graph("g", (Node("a"),)), "names no task"),
        (Graph("g", (Node("a", "map", "t", items=make(3, "x")),)), "window=0"),
        (Graph("g", (Node("", task="t"),)), "from 1 to 100 characters"),
        (Graph("g", (Node("a\0", task="t"),)), "not one line"),
        (Graph("g", (Node("a", "signal", signal="a\nb"),)), "not one line"),
        (Graph("g\udfff", nodes(())), "one line"),
        (Graph("g", (Node("a", task="t", lot=3),)), "options number 3"),
        (Graph("g", (Node("a", "flow"),)), "no graph"),
        (Graph("g", (*nodes(()), Node("b", task="t", edges=(Edge(0, "x"),)))), "edge mode 'x'"),
        (Graph("g", (*nodes(()), Node("b", task="t", when=("state", 0)))), "does not wait for"),
        (Graph("g", nodes(()), result=4), "none of its nodes"),
        (Graph("g", nodes(*[()] * (graph.MAX_NODES + 1))), "limit is 50,000"),
        (
            Graph("g", nodes((), *[(n,) for n in range(graph.MAX_DEPTH)])),
            "10,001 nodes deep",
        ),
    ],
)
def test_what_cannot_run_is_refused_by_name(broken: Graph, complaint: str) -> None:
    with pytest.raises(InvalidWorkflow, match=complaint):
        check(broken)


def test_ids_of_successors_are_uuids_of_the_runs_millisecond() -> None:
    run = new_id()
    made = uuid.UUID(successor_id(run, 3, 1, 2))
    assert (made.version, made.variant) == (8, uuid.RFC_4122)
    assert str(made)[:13] == run[:13]
    others = {successor_id(run, n, i, g) for n in range(9) for i in range(9) for g in range(9)}
    assert len(others) == 9 * 9 * 9
    assert successor_id(run, 3, 1, 2) in others


@given(st.recursive(st.none() | st.integers(0, 2**60) | st.text(), st.lists, max_leaves=10))
def test_filling_puts_results_where_the_references_are(value: Any) -> None:
    template = make(([Operand(("result", 0)), value, Operand(("result", 1, "a", 0))], {}), "x")
    results = [msgspec.msgpack.encode(value), msgspec.msgpack.encode({"a": [7]})]
    assert msgspec.msgpack.decode(fill(template, results.__getitem__)) == [[value, value, 7], {}]


def test_a_computed_value_is_no_argument() -> None:
    with pytest.raises(InvalidWorkflow, match="computed"):
        make(Operand(("result", 0)) + 1, "arguments")


@pytest.mark.parametrize(
    ("given_", "wanted", "bad"),
    [
        (int, str, True),
        (int, float, False),
        (str, bytes, False),
        (list[int], list[str], True),
        (list[int], tuple[float, ...], False),
        (dict[str, int], list[int], True),
        (None, str, True),
        (None, str | None, False),
        (Any, str, False),
        (Literal["a"], str, False),
        (Literal["a"], int, True),
        (uuid.UUID, str, False),
        (dict[str, int], Node, True),
        (dict[str, int], Graph | dict, False),
        (str, int | list[int], True),
        (bool, int, True),
    ],
)
def test_annotations_that_can_never_meet(given_: Any, wanted: Any, bad: bool) -> None:
    assert fit.mismatch(given_, wanted) is bad
