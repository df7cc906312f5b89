"""Limits, turns and lines that go by arguments, in nodes whose arguments are results: told when the
node starts, by whoever has the task's code. On every broker."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest

from conveyor import Concurrency, Conveyor, TaskFailed
from conveyor.core.task import TaskInfo, Terms
from conveyor.tasks import TaskDefinition
from conveyor.workflows import Results, Workflow, WorkflowHandle
from tests.engine.flow_kit import kept
from tests.running import at_work
from tests.worker.harness import soon


class User(msgspec.Struct):
    tenant: str


def define(app: Conveyor) -> tuple[TaskDefinition[..., Any, Any], TaskDefinition[..., Any, Any]]:
    """Return what finds a user, and what may run once at a time for each tenant."""

    @app.task(name="find")
    async def find(tenant: str) -> User:
        return User(tenant)

    @app.task(
        name="call",
        concurrency=Concurrency(1, key=lambda user, n: user.tenant, name="api"),
        fair_by=lambda user, n: (user.tenant, 2),
    )
    async def call(user: User, n: int) -> str:
        return f"{user.tenant} {n}"

    return find, call


async def task_of(handle: WorkflowHandle[Any], node: str) -> TaskInfo:
    (found,) = [one for one in (await handle.info()).nodes if one.name == node]
    return await (await handle._home.client()).broker.inspector.get(found.task_id or "")


def keys_of(terms: Terms | None) -> tuple[Any, ...]:
    assert terms is not None
    assert terms.fair is not None
    return [gate.id for gate in terms.gates], terms.fair.key, terms.fair.weight


async def test_keys_are_told_from_results_when_the_node_starts(app: Conveyor) -> None:
    find, call = define(app)
    flow = app.workflow("w")
    user = flow.add(find, "acme")
    flow.add(call, user.result, 3)
    async with at_work(app):
        handle = await flow.enqueue()
        assert await handle.result(20) == "acme 3"
    info = await task_of(handle, "call")
    assert keys_of(info.terms) == (["api\nacme"], "acme", 2)
    alone = await call.enqueue(User("acme"), 3)
    plain = (await alone.info()).terms
    assert plain is not None
    assert info.terms is not None
    assert plain.lane == info.terms.lane, "nodes and other tasks wait in one lane"


async def test_children_of_a_map_share_the_slots_of_their_key(app: Conveyor) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    @app.task(name="tenants")
    async def tenants() -> list[str]:
        return ["a", "b", "a", "b", "a", "b"]

    @app.task(name="ask", concurrency=Concurrency(1, key=lambda tenant: tenant))
    async def ask(tenant: str) -> str:
        running[tenant] += 1
        most[tenant] = max(most[tenant], running[tenant])
        await asyncio.sleep(0.02)
        running[tenant] -= 1
        return tenant

    @app.task(name="join", partition_by=lambda parts, name: name)
    async def join(parts: Results[str], name: str) -> str:
        return "".join([part async for part in parts])

    flow = app.workflow("w")
    mapped = flow.map(ask, flow.add(tenants).result, window=4)
    flow.returns(mapped.reduce(join, kwargs={"name": "x"}))
    async with at_work(app, concurrency=8):
        assert await (await flow.enqueue()).result(20) == "ababab"
    assert most == {"a": 1, "b": 1}


async def test_a_definition_in_json_takes_tasks_with_keyed_limits(app: Conveyor) -> None:
    define(app)
    nodes = [
        {"name": "user", "task": "find", "args": ["acme"]},
        {"name": "call", "task": "call", "args": [{"$result": "user"}, 1]},
        {"name": "fixed", "task": "call", "args": [{"tenant": "fix"}, 2]},
    ]
    flow = app.workflow_from({"name": "w", "nodes": nodes, "result": "call"})
    async with at_work(app):
        handle = await flow.enqueue()
        assert await handle.result(20) == "acme 1"
    assert keys_of((await task_of(handle, "fixed")).terms)[1] == "fix"


async def test_a_foreign_worker_leaves_the_keys_to_one_that_knows_the_task(
    app: Conveyor, broker_url: str
) -> None:
    """The parent is done by a worker without the code of its child: that waits, says so, and is
    not lost."""
    find, call = define(app)
    flow = app.workflow("w")
    user = flow.add(find, "acme")
    flow.add(call, user.result, 3)
    flow.map(call, [{"tenant": "b"}, {"tenant": "c"}], kwargs={"n": 1}).after(user)
    async with Conveyor(broker_url) as foreign:

        @foreign.task(name="find")
        async def find_too(tenant: str) -> dict[str, str]:
            return {"tenant": tenant}

        async with kept(foreign):
            handle = await flow.enqueue()

            async def waits() -> bool:
                (why,) = await handle.why("call")
                return why.startswith(
                    "its limits go by its arguments, and are told by a worker that knows 'call'"
                )

            await soon(waits)
            assert "a worker that knows 'call'" in (await handle.why("call-2"))[0]
            (node,) = [n for n in (await handle.info()).nodes if n.name == "call"]
            assert str(node.state) == "blocked"
            async with at_work(app):
                assert (await handle.result(20))["call"] == "acme 3"
        assert await handle.status() == "succeeded"
    info = await task_of(handle, "call")
    assert keys_of(info.terms) == (["api\nacme"], "acme", 2)
    assert (len(info.executions), info.attempts, info.state) == (1, 0, "succeeded")


async def test_older_code_leaves_the_keys_to_newer(app: Conveyor, broker_url: str) -> None:
    def tell(app: Conveyor, version: int) -> Workflow:
        @app.task(name="one")
        async def one() -> str:
            return "acme"

        @app.task(
            name="call",
            version=version,
            concurrency=Concurrency(1, key=lambda tenant: f"{version} {tenant}", name="api"),
        )
        async def call(tenant: str) -> str:
            return tenant

        flow = app.workflow("w")
        flow.add(call, flow.add(one).result)
        return flow

    flow = tell(app, 2)
    async with Conveyor(broker_url) as older:
        tell(older, 1)
        async with at_work(older):
            handle = await flow.enqueue()

            async def waits() -> bool:
                return "told by a worker" in (await handle.why("call"))[0]

            await soon(waits)
        async with at_work(app):
            assert await handle.result(20) == "acme"
    terms = (await task_of(handle, "call")).terms
    assert terms is not None
    assert terms.gates[0].key == "2 acme"


async def test_a_key_that_cannot_be_told_fails_the_node(app: Conveyor) -> None:
    @app.task(name="none")
    async def none() -> None: ...

    @app.task(name="call", concurrency=Concurrency(1, key=lambda tenant: tenant.upper()))
    async def call(tenant: Any) -> Any:
        return tenant

    flow = app.workflow("w")
    flow.add(call, flow.add(none).result)
    some = app.workflow("some")
    some.map(call, ["a", 1, "b"], window=1).named("each")
    async with at_work(app):
        with pytest.raises(TaskFailed, match=r"its limits cannot be told: .* 'upper'"):
            await (await flow.enqueue()).result(20)
        handle = await some.enqueue()
        with pytest.raises(TaskFailed, match="node each: child 1: its limits cannot be told"):
            await handle.result(20)
    (each,) = (await handle.info()).nodes
    assert each.children_ended == 3


async def test_a_retry_tells_the_keys_again(app: Conveyor) -> None:
    tenant = "none"

    @app.task(name="find")
    async def find() -> str:
        return tenant

    @app.task(name="call", concurrency=Concurrency(1, key=lambda name: name, name="api"))
    async def call(name: str) -> str:
        return name

    flow = app.workflow("w")
    flow.add(call, flow.add(find).result)
    async with at_work(app):
        handle = await flow.enqueue()
        assert await handle.result(20) == "none"
        tenant = "acme"
        await handle.retry("find")
        assert await handle.result(20) == "acme"
    terms = (await task_of(handle, "call")).terms
    assert terms is not None
    assert terms.gates[0].key == "acme"
