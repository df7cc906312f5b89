"""Runs of workflows over HTTP, against a worker that works."""

from __future__ import annotations

from typing import Any

import pytest

from conveyor import Conveyor
from conveyor.workflows import runs
from conveyor_console.console import Console
from tests.console.conftest import Api
from tests.running import at_work
from tests.worker.harness import soon

DEFINITION: dict[str, Any] = {
    "name": "onboard",
    "nodes": [
        {"name": "hello", "task": "shop.greet", "args": [{"$input": "who"}]},
        {"name": "loud", "task": "shop.greet", "args": ["x"], "when": 'hello.result == "nobody"'},
        {"name": "ask", "wait_for": "go", "after": ["hello"]},
        {"name": "broken", "task": "shop.fail", "args": ["no"], "after": {"ask": "end"}},
    ],
    "result": "hello",
}
START = {"definition": DEFINITION, "inputs": {"who": "Ada"}}
NOBODY = "0190aaaa-0000-7000-8000-000000000000"


async def shown(api: Api, run: str, **states: str) -> Any:
    """Wait until nodes of a run are in these states."""

    async def there() -> Any:
        detail = await api.call("GET", f"/workflows/{run}")
        found = {node["name"]: node["state"] for node in detail["nodes"]}
        return detail if states.items() <= found.items() else None

    return await soon(there)


async def test_a_run_from_its_definition_to_its_retry(
    operator: Api, viewer: Api, queue: Conveyor
) -> None:
    run = (await operator.call("POST", "/workflows", 201, json=START))["id"]
    async with at_work(queue):
        detail = await shown(viewer, run, ask="scheduled", loud="skipped")
        assert detail["status"] == "running"
        assert {"parent": "ask", "child": "broken", "mode": "end"} in detail["edges"]
        (loud,) = [node for node in detail["nodes"] if node["name"] == "loud"]
        assert loud["condition"] == "hello.result == 'nobody'"
        why = await viewer.call("GET", f"/workflows/{run}/why?node=ask")
        assert why == {"reasons": ["it waits for the signal 'go'"]}
        problem = await operator.call("POST", f"/workflows/{run}/retry", 409)
        assert "retry a node when it is over" in problem["detail"]

        signal = {"name": "go", "value": {"by": "Ada"}}
        await operator.call("POST", f"/workflows/{run}/signals", 204, json=signal)
        detail = await shown(viewer, run, broken="failed")

        async def over() -> bool:
            return bool((await viewer.call("GET", f"/workflows/{run}"))["status"] == "failed")

        await soon(over)
        problem = await operator.call("POST", f"/workflows/{run}/signals", 409, json=signal)
        assert problem["detail"] == "signal 'go' comes too late: the run has failed"
        again = await operator.call("POST", f"/workflows/{run}/retry", json={"node": "broken"})
        assert again == {"nodes": ["broken"]}
        await soon(over)
    drawn = await viewer.call("GET", f"/workflows/{run}/mermaid")
    assert drawn["mermaid"].startswith("flowchart TD\n")
    definition = await viewer.call("GET", f"/workflows/{run}/definition")
    assert [node["name"] for node in definition["nodes"]] == ["hello", "loud", "ask", "broken"]


async def test_a_run_is_cancelled(operator: Api, viewer: Api, queue: Conveyor) -> None:
    run = (await operator.call("POST", "/workflows", 201, json=START))["id"]
    await viewer.call("POST", f"/workflows/{run}/cancel", 403)
    ended = await operator.call("POST", f"/workflows/{run}/cancel", json={"reason": "enough"})
    assert ended == {"status": "cancelled"}
    detail = await viewer.call("GET", f"/workflows/{run}")
    assert (detail["reason"], detail["cancelled_by"]) == ("enough", "operator@example.com")
    assert {node["state"] for node in detail["nodes"]} == {"cancelled"}


async def test_runs_are_listed_newest_first(operator: Api, viewer: Api) -> None:
    made = [(await operator.call("POST", "/workflows", 201, json=START))["id"] for _ in range(5)]
    await operator.call("POST", f"/workflows/{made[1]}/cancel")
    listed: list[str] = []
    more = "limit=2"
    while more:
        page = await viewer.call("GET", f"/workflows?{more}")
        listed += [run["id"] for run in page["items"]]
        more = page["next_cursor"] and f"limit=2&cursor={page['next_cursor']}"
    assert listed == made[::-1]
    (only,) = (await viewer.call("GET", "/workflows?status=cancelled"))["items"]
    assert (only["id"], only["name"]) == (made[1], "onboard")


async def test_old_runs_are_found_behind_new_ones(queue: Conveyor, console: Console) -> None:
    """Pages widen their look back, and miss nothing at the seams."""
    from conveyor.core.run import Run, encode

    documents = (await queue.client()).broker.documents
    now = queue.clock.time()
    ages = [0, 1, 59.999, 60, 60.001, 299, 300.5, 1_300, 90_000, 3e7, 2e8]
    made = []
    for number, age in enumerate(ages):
        digits = f"{int((now - age) * 1_000):012x}"
        run_id = f"{digits[:8]}-{digits[8:]}-7000-8000-{number:012}"
        await documents.put("workflow", run_id, encode(Run(id=run_id, name="x", created_at=0.0)), 0)
        made.append(run_id)
    assert [run.id for run in await runs(queue, limit=20)] == made
    for number in range(1, len(made)):
        page = await runs(queue, limit=2, before=made[number - 1])
        assert [run.id for run in page] == made[number : number + 2]
    assert await runs(queue, before=made[-1]) == []


async def test_what_cannot_start_gets_a_sentence(operator: Api, subtests: pytest.Subtests) -> None:
    for body, words in [
        ({"definition": {"name": "x", "nodes": []}}, "no nodes"),
        ({"definition": {}}, "name"),
        ({"definition": {"name": "x", "nodes": [{"name": "a"}]}}, "'a'"),
        ({"definition": DEFINITION}, "needs the inputs who"),
        ({**START, "inputs": {"who": "Ada", "self": 1}}, "'self'"),
        (
            {"definition": {**DEFINITION, "nodes": [{"task": "shop.greet", "name": "g"}]}},
            "no node is named 'hello'",
        ),
        ({}, "/definition"),
        ({**START, "more": 1}, "/more"),
    ]:
        with subtests.test(body=body, words=words):
            problem = await operator.call("POST", "/workflows", 422, json=body)
            assert words in problem["detail"]
            assert (await operator.call("GET", "/workflows"))["items"] == []


async def test_what_is_not_there(operator: Api, viewer: Api) -> None:
    for method, path, more in (
        ("GET", "", {}),
        ("GET", "/mermaid", {}),
        ("GET", "/definition", {}),
        ("GET", "/why?node=x", {}),
        ("POST", "/cancel", {}),
        ("POST", "/retry", {}),
        ("POST", "/signals", {"json": {"name": "go"}}),
    ):
        await operator.call(method, f"/workflows/{NOBODY}{path}", 404, **more)
    run = (await operator.call("POST", "/workflows", 201, json=START))["id"]
    problem = await viewer.call("GET", f"/workflows/{run}/why?node=hullo", 404)
    assert problem["detail"] == "no node of workflow 'onboard' is named 'hullo'"
    await operator.call("POST", f"/workflows/{run}/retry", 404, json={"node": "hullo"})
    await viewer.call("GET", "/workflows/not-an-id", 422)
