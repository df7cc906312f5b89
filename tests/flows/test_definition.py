"""Workflows as JSON, and building them in Python: what is refused, and how it is said."""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
import pytest

from conveyor import Conveyor
from conveyor.core.graph import Edge
from conveyor.errors import InvalidArguments, InvalidWorkflow
from conveyor.flows.definition import load
from conveyor.flows.export import to_mermaid, to_plain
from conveyor.testing import harness

app = Conveyor()


class Person(msgspec.Struct):
    name: str


@app.task(name="number")
async def number(n: int = 1) -> int:
    return n


@app.task(name="person")
async def person(name: str) -> Person:
    return Person(name)


@app.task(name="greet", queue="mail", priority="high")
async def greet(who: Person) -> str:
    return f"hello {who.name}"


@app.task(name="join")
async def join(parts: list[str]) -> str:
    return " ".join(parts)


def node(**fields: Any) -> dict[str, Any]:
    return {"name": "a", "task": "number", **fields}


@pytest.mark.parametrize(
    ("definition", "complaint"),
    [
        ("{", "no JSON"),
        ("[]", "an object with"),
        ({"name": "", "nodes": []}, "from 1 to 100 characters"),
        ({"name": "w", "nodes": []}, "has no nodes"),
        ({"name": "w", "nodes": [], "x": 1}, "has no 'x'"),
        ({"name": "w", "nodes": [1]}, "node number 0"),
        ({"name": "w", "nodes": [node(), node()]}, "two nodes"),
        ({"name": "w", "nodes": [node(map="x")]}, "exactly one of"),
        ({"name": "w", "nodes": [node(colour="red")]}, "it has no colour"),
        ({"name": "w", "nodes": [node(task="")]}, "'task' is a text"),
        ({"name": "w", "nodes": [node(args={})]}, '"args" is a list'),
        ({"name": "w", "nodes": [node(args=[{"$result": "b"}])]}, "no node is named 'b'"),
        ({"name": "w", "nodes": [node(args=[{"$result": "a"}])]}, "has a cycle: a → a"),
        ({"name": "w", "nodes": [node(when="a >")]}, "node 'a' .* invalid syntax at column"),
        ({"name": "w", "nodes": [node(after={"a": "x"})]}, "cycle"),
        ({"name": "w", "nodes": [node(after=3)]}, '"after" is a list'),
        ({"name": "w", "nodes": [node(timeout=-1)]}, "timeout=-1"),
        ({"name": "w", "nodes": [node(priority=12)]}, "priority=12"),
        ({"name": "w", "nodes": [node(queue="!")]}, "queue='!'"),
        ({"name": "w", "nodes": [{"name": "a", "sleep": "x"}]}, "sleep='x'"),
        ({"name": "w", "nodes": [{"name": "a", "map": "number", "window": "x"}]}, "window"),
        ({"name": "w", "nodes": [node()], "result": "b"}, "no node is named 'b'"),
        ({"name": "w", "nodes": [node(args=[1, 2, 3])]}, "node 'a' of 'w': number"),
        ({"name": "w", "nodes": [{"name": "a", "workflow": 1}]}, "node 'a' of .* an object with"),
        (
            {
                "name": "w",
                "nodes": [{"name": "a", "workflow": {"name": "i", "nodes": [node(x=1)]}}],
            },
            "node 'a' of workflow 'w': node 'a' of workflow 'i': it has no x",
        ),
        (
            {"name": "w", "nodes": [{"name": "a", "map": "number", "items": 1, "fail_fast": 1}]},
            "fail_fast",
        ),
        (" " * 5_000_000, "at most"),
    ],
)
def test_a_bad_definition_is_refused_in_a_sentence(definition: Any, complaint: str) -> None:
    text = definition if isinstance(definition, str) else json.dumps(definition)
    with pytest.raises(InvalidWorkflow, match=complaint) as refused:
        app.workflow_from(text)
    assert len(str(refused.value)) < 500


def test_deeply_nested_arguments_are_refused() -> None:
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    with pytest.raises(InvalidWorkflow, match="nested deeper"):
        load(json.dumps({"name": "w", "nodes": [node(args=[deep])]}))


async def test_a_definition_runs_and_is_written_down_again() -> None:
    definition = {
        "name": "greetings",
        "nodes": [
            {"name": "all", "reduce": "join", "of": "each"},
            {"name": "each", "map": "greet", "items": {"$input": "people"}, "window": 2},
            {
                "name": "more",
                "task": "greet",
                "args": [{"name": {"$result": ["first", "name"]}}],
                "when": "len(first.result.name) > 2 and input.loud == True",
                "after": {"each": "end"},
            },
            {"name": "first", "task": "person", "args": [{"$input": "first"}]},
        ],
        "result": "all",
    }
    loaded = app.workflow_from(definition)
    again = app.workflow_from(json.dumps(loaded.as_plain()))
    assert again.as_plain() == loaded.as_plain()
    by_name = {n.name: n for n in loaded.graph().nodes}
    lot = loaded.graph().lots[by_name["each"].lot]
    assert (lot.queue, lot.priority) == ("mail", 7)
    async with harness(app) as kit:
        with pytest.raises(InvalidArguments, match="needs the inputs first, loud, people"):
            await loaded.enqueue()
        people = [{"name": "ada"}, {"name": "bob"}]
        handle = await again.enqueue(people=people, first="cleo", loud=True)
        await kit.drain()
        assert await handle.result(1) == "hello ada hello bob"
        assert {n.name: str(n.state) for n in (await handle.info()).nodes} == {
            "first": "succeeded",
            "each": "succeeded",
            "all": "succeeded",
            "more": "succeeded",
        }


async def test_a_workflow_within_a_definition() -> None:
    inner = {
        "name": "inner",
        "nodes": [{"name": "greet", "task": "greet", "args": [{"name": {"$input": "name"}}]}],
    }
    definition = {
        "name": "outer",
        "nodes": [
            {"name": "last", "task": "join", "args": [[{"$result": "sub"}, "!"]]},
            {"name": "sub", "workflow": inner, "inputs": {"name": {"$result": "first.name"}}},
            {"name": "first", "task": "person", "args": [{"$input": "first"}]},
        ],
        "result": "last",
    }
    loaded = app.workflow_from(definition)
    again = app.workflow_from(json.dumps(loaded.as_plain()))
    assert again.graph() == loaded.graph()
    async with harness(app) as kit:
        handle = await again.enqueue(first="ada")
        await kit.drain()
        assert await handle.result(1) == "hello ada !"


def test_workflows_within_each_other_have_a_bound() -> None:
    deep: Any = {"name": "w", "nodes": [node()]}
    for _ in range(20):
        deep = {"name": "w", "nodes": [{"name": "a", "workflow": deep}]}
    with pytest.raises(InvalidWorkflow, match="10 deep: that is the limit"):
        load(json.dumps(deep))


def test_what_python_builds_json_can_say() -> None:
    flow = app.workflow("both")
    one = flow.add(person, flow.input("name"))
    with flow.when(cast("Any", one.result.name) != "x"):
        flow.add(greet, one.result)
    flow.map(number, range(5), window=2).reduce(join.with_options(queue="q"), mode="end")
    flow.wait_for("go", timeout=5).after(flow.sleep(3))
    inner = app.workflow("within")
    inner.add(number, inner.input("n"))
    flow.include(inner, n=1)
    loaded = load(json.dumps(to_plain(flow.graph())))
    assert [n.edges for n in loaded.nodes] == [n.edges for n in flow.graph().nodes]
    assert [n.payload for n in loaded.nodes] == [n.payload for n in flow.graph().nodes]
    chart = to_mermaid(loaded, {"person": "succeeded"})
    assert "n0 -->|&quot;" not in chart
    assert "classDef succeeded" in chart
    assert "n0 -->|\"person.result['name'] != 'x'\"| n1" in chart


def test_types_that_can_never_meet_are_refused() -> None:
    flow = app.workflow("types")
    with pytest.raises(InvalidWorkflow, match="takes who: Person, but the result it gets is int"):
        flow.add(greet, cast("Any", flow.add(number).result))
    with pytest.raises(InvalidWorkflow, match="maps over a result that is Person, not a list"):
        flow.map(number, flow.add(person, "x").result)
    with pytest.raises(InvalidWorkflow, match="takes n: int, but the items it gets are str"):
        flow.map(number, flow.map(join, [["a"]]).result)


def test_what_makes_no_sense_is_refused_while_building() -> None:
    flow, other = app.workflow("one"), app.workflow("two")
    one = flow.add(number)
    with pytest.raises(InvalidWorkflow, match="include the other one"):
        other.add(number).after(one)
    with pytest.raises(InvalidWorkflow, match="another workflow"):
        other.add(number, flow.add(number, flow.add(number).result).result)
    with pytest.raises(InvalidWorkflow, match="neither key= nor at="):
        flow.add(number.with_options(key="k"))
    with pytest.raises(InvalidWorkflow, match="named 'number' already"):
        flow.add(number).named("number")
    with pytest.raises(InvalidWorkflow, match="compare results"), flow.when(True):
        pass
    with (
        pytest.raises(InvalidWorkflow, match=r"otherwise\(\) follows"),
        app.workflow("x").otherwise(),
    ):
        pass
    with pytest.raises(InvalidWorkflow, match="mode='x'"):
        one.after(one, mode=cast("Any", "x"))
    with pytest.raises(InvalidWorkflow, match="map over str"):
        flow.map(number, "abc")
    with pytest.raises(InvalidArguments, match="nothing was enqueued"):
        flow.add(number, 1, 2)  # type: ignore[call-arg]
    a, b = other.add(number).named("a"), other.add(number).named("b")
    a.after(b)
    b.after(a)
    with pytest.raises(InvalidWorkflow, match="has a cycle: "):
        other.graph()


def test_a_node_may_wait_for_one_that_was_added_later() -> None:
    flow = app.workflow("order")
    first = flow.add(number).named("first")
    second = flow.add(number).named("second")
    first.after(second)
    graph = flow.graph()
    assert [n.name for n in graph.nodes] == ["second", "first"]
    assert graph.nodes[1].edges == (Edge(0),)
