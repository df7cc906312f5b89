"""Durable steps inside one task, on every broker."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import msgspec
import pytest

from conveyor import Conveyor, TaskFailed
from conveyor.core.errors import NotInTask
from conveyor.workflows import step, step_sync
from tests.running import at_work


class Receipt(msgspec.Struct):
    number: int


async def test_a_step_is_done_once_for_all_attempts(app: Conveyor) -> None:
    ran: Counter[str] = Counter()

    async def charge(amount: int) -> Receipt:
        ran["charge"] += 1
        return Receipt(amount)

    def ship() -> str:
        ran["ship"] += 1
        if ran["ship"] < 3:
            raise ConnectionError("no carrier")
        return "shipped"

    @app.task(name="order")
    async def order(amount: int) -> list[Any]:
        ran["order"] += 1
        receipt = await step("charge", charge, amount)
        assert isinstance(receipt, Receipt)
        return [receipt.number, await step("ship", ship)]

    async with at_work(app):
        assert await (await order.enqueue(7)).result(20) == [7, "shipped"]
    assert ran == {"order": 3, "charge": 1, "ship": 3}


async def test_a_name_is_used_once_in_an_execution(app: Conveyor) -> None:
    async def one() -> int:
        return 1

    @app.task(name="twice")
    async def twice() -> int:
        return await step("same", one) + await step("same", one)

    async with at_work(app):
        handle = await twice.with_options(max_attempts=1).enqueue()
        with pytest.raises(TaskFailed, match=r"step 'same' was used twice in task twice"):
            await handle.result(20)


async def test_a_step_of_an_older_execution_is_refused(app: Conveyor) -> None:
    """D8: whoever was overtaken learns it at the next step, and its value is not used."""
    values: list[int] = []

    @app.task(name="overtaken")
    async def overtaken() -> int:
        from conveyor import current_task
        from conveyor.flows.steps import STEP, Memo

        async def now() -> int:
            memo = msgspec.msgpack.encode(Memo(current_task().fencing_token + 1, b"\x07"))
            documents = (await app.client()).broker.documents
            await documents.put(STEP, f"{current_task().id}/x", memo, 0)
            return 1

        values.append(await step("x", now))
        return values[-1]

    async with at_work(app):
        handle = await overtaken.with_options(max_attempts=1).enqueue()
        with pytest.raises(TaskFailed, match="was done by execution 2, this is 1"):
            await handle.result(20)
    assert values == []


async def test_a_step_belongs_into_a_task() -> None:
    async def one() -> int:
        return 1

    with pytest.raises(NotInTask):
        await step("x", one)


async def test_a_step_of_a_task_in_a_thread_is_done_once(app: Conveyor) -> None:
    ran: Counter[str] = Counter()
    threads: set[int] = set()

    def charge(amount: int) -> Receipt:
        ran["charge"] += 1
        threads.add(threading.get_ident())
        return Receipt(amount)

    def ship() -> str:
        ran["ship"] += 1
        if ran["ship"] < 3:
            raise ConnectionError("no carrier")
        return "shipped"

    @app.task(name="order")
    def order(amount: int) -> list[Any]:
        threads.add(threading.get_ident())
        receipt = step_sync("charge", charge, amount)
        assert isinstance(receipt, Receipt)
        return [receipt.number, step_sync("ship", ship)]

    async with at_work(app, concurrency=1):
        assert await (await order.enqueue(7)).result(20) == [7, "shipped"]
    assert ran == {"charge": 1, "ship": 3}
    assert threading.get_ident() not in threads


async def test_a_step_in_a_thread_is_refused_as_any_other(app: Conveyor) -> None:
    async def one() -> int:
        return 1

    def two() -> int:
        return 2

    @app.task(name="twice")
    def twice() -> int:
        return step_sync("same", two) + step_sync("same", two)

    @app.task(name="wrong")
    def wrong() -> Any:
        return step_sync("one", one)

    async with at_work(app):
        handle = await twice.with_options(max_attempts=1).enqueue()
        with pytest.raises(TaskFailed, match=r"step 'same' was used twice in task twice"):
            await handle.result(20)
        handle = await wrong.with_options(max_attempts=1).enqueue()
        with pytest.raises(TaskFailed, match="is async, use it in an async task"):
            await handle.result(20)
    with pytest.raises(NotInTask):
        step_sync("x", two)
