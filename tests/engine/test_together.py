"""Features side by side: what a definition asks for holds in workflows and schedules, too."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

import pytest

from conveyor import Concurrency, Conveyor, Debounce
from conveyor.errors import InvalidWorkflow
from conveyor.sealing import Keyring
from tests.running import at_work


async def test_a_node_keeps_the_limits_of_its_task(app: Conveyor) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    @app.task(concurrency=Concurrency(2, name="printer"))
    async def page(n: int) -> int:
        running["now"] += 1
        most["now"] = max(most["now"], running["now"])
        await asyncio.sleep(0.03)
        running["now"] -= 1
        return n

    @app.task
    async def total(pages: list[int]) -> int:
        return sum(pages)

    flow = app.workflow("book")
    flow.returns(flow.map(page, list(range(8))).reduce(total))
    async with at_work(app, concurrency=8):
        assert await (await flow.enqueue()).result(20) == 28
    assert most["now"] == 2


async def test_a_node_is_for_the_version_that_built_it(app: Conveyor) -> None:
    @app.task(version=2, migrate={1: lambda args, kwargs: (("migrated",), {})})
    async def greet(name: str) -> str:
        return name

    flow = app.workflow("hello")
    flow.returns(flow.add(greet, "ada"))
    async with at_work(app):
        assert await (await flow.enqueue()).result(10) == "ada"


def test_what_may_not_run_is_no_node(sqlite_url: str) -> None:
    app = Conveyor(sqlite_url)

    @app.task(unique="until_done")
    async def reindex(shop: int) -> None: ...

    @app.task(debounce=Debounce(5))
    async def publish(shop: int) -> None: ...

    flow = app.workflow("shop")
    for task in (reindex, publish):
        with pytest.raises(InvalidWorkflow, match="a node runs exactly once in its run: declare"):
            flow.add(task, 7)
    flow.add(app.task(name="reindex-node")(reindex.fn), 7)


async def test_secrets_do_not_go_into_what_is_stored_in_the_clear(broker_url: str) -> None:
    async with Conveyor(broker_url, keys=Keyring({"a": os.urandom(32)})) as app:

        @app.task(encrypt=("card",))
        async def charge(card: str) -> None: ...

        inner, outer = app.workflow("inner"), app.workflow("outer")
        inner.add(charge, "4111")
        outer.include(inner)
        with pytest.raises(InvalidWorkflow, match="in the outermost workflow only"):
            await outer.enqueue()
        flow = app.workflow("pay")
        flow.add(charge, flow.input("card"))
        with pytest.raises(InvalidWorkflow, match="'card' is sealed, and what it gets here"):
            await flow.enqueue(card="4111")
        mapped = app.workflow("many")
        mapped.map(charge, ["4111"])
        with pytest.raises(InvalidWorkflow, match="an item of a map"):
            await mapped.enqueue()
        assert await app.schedules.list() == []
