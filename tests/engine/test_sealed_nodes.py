"""Sealed arguments of nodes and schedules: they run, and no plain text is in any store."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest

from conveyor import Concurrency, Conveyor, Reject, TaskFailed
from conveyor.brokers.base import Broker, Filter
from conveyor.core.errors import InvalidWorkflow
from conveyor.flows.runs import GRAPH, RUN
from conveyor.schedules.publisher import Publisher
from conveyor.sealing import Keyring
from tests.running import at_work

SECRET = "4111 1111 1111 1111"
KEY = os.urandom(32)


class Taps:
    """A broker, and all that was written through it."""

    def __init__(self, inner: Any, written: list[str]) -> None:
        self._inner, self._written = inner, written

    def __getattribute__(self, name: str) -> Any:
        inner, written = (object.__getattribute__(self, one) for one in ("_inner", "_written"))
        found = getattr(inner, name)
        if name in {"documents", "tallies"}:
            return Taps(found, written)
        if name not in {"push", "put", "add", "step"}:
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            written.append(repr((args, kwargs)))
            return await found(*args, **kwargs)

        return call


async def tapped(url: str) -> tuple[Conveyor, list[str]]:
    """Return an app whose writes are kept."""
    written: list[str] = []
    app = Conveyor(url, keys=Keyring({"a": KEY}))
    app.attach(cast("Broker", Taps((await app._open()).broker, written)))
    return app, written


async def test_no_plain_text_of_a_workflow_is_stored(broker_url: str) -> None:
    app, written = await tapped(broker_url)
    got: list[Any] = []
    works = False

    @app.task(name="find")
    async def find() -> int:
        return 7

    @app.task(name="charge", encrypt=("card",), version=2)
    async def charge(customer: int, card: str, note: str = "") -> int:
        got.append((customer, card))
        if customer == 7 and not works:
            raise Reject("not yet")
        return len(card)

    @app.task(
        name="keyed",
        encrypt=("card",),
        concurrency=Concurrency(1, key=lambda customer, card: card[-4:] and customer, name="c"),
    )
    async def keyed(customer: int, card: str) -> int:
        got.append((customer, card))
        return customer

    async with app:
        flow = app.workflow("pay")
        customer = flow.add(find)
        flow.add(charge, customer.result, SECRET)
        flow.add(charge, 8, card=SECRET)
        flow.add(keyed, customer.result, SECRET)
        flow.map(charge, [1, 2], kwargs={"card": SECRET}).named("each")
        async with at_work(app):
            handle = await flow.enqueue()
            with pytest.raises(TaskFailed, match="not yet"):
                await handle.result(20)
            works = True
            assert await handle.retry() == ["charge"]
            await handle.result(20)
        broker = (await app.client()).broker
        bodies = [one.body for kind in (RUN, GRAPH) for one in await broker.documents.list(kind)]
        tasks = await broker.inspector.tasks(Filter())
        with pytest.raises(InvalidWorkflow, match="has sealed arguments"):
            app_plain(await (await handle._runs()).get(handle.id))
    assert sorted(got) == [(n, SECRET) for n in (1, 2, 7, 7, 7, 8)]
    assert SECRET not in "".join(written), "it was written in the clear"
    assert not any(SECRET.encode() in body for body in bodies)
    assert SECRET not in repr(tasks)
    assert "<sealed with key a>" in repr(tasks)


def app_plain(known: Any) -> Any:
    """Write the graph of a run down."""
    from conveyor.flows.export import to_plain

    return to_plain(known.plan.graph)


async def test_no_plain_text_of_a_schedule_is_stored(broker_url: str) -> None:
    app, written = await tapped(broker_url)
    got: list[str] = []

    @app.every(3600, name="declared", args=(SECRET,))
    @app.task(name="charge", encrypt=("card",))
    async def charge(card: str) -> str:
        got.append(card)
        return card[-4:]

    async with app:
        broker = (await app.client()).broker
        for _ in range(2):
            publisher = Publisher(app, broker, scope="s", born=1.0, dice=lambda: 0.5)
            assert await publisher.once()
        await app.schedules.create("made", charge.bind(card=SECRET), every=3600)
        async with at_work(app):
            ids = [await app.schedules.run_now(name) for name in ("declared", "made")]
            assert [await app.handle(one).result(20) for one in ids] == ["1111", "1111"]
        shown = repr(await app.schedules.list())
    assert got == [SECRET, SECRET]
    assert SECRET not in "".join(written)
    assert SECRET not in shown


def test_a_declared_schedule_is_the_same_at_every_start() -> None:
    def declared(key: bytes) -> Any:
        app = Conveyor(keys=Keyring({"a": key}))

        @app.every(60, name="s", args=(SECRET,))
        @app.task(name="charge", encrypt=("card",))
        async def charge(card: str) -> None: ...

        return app.declared["s"]

    assert declared(KEY) == declared(KEY)
    assert declared(KEY) != declared(os.urandom(32))
