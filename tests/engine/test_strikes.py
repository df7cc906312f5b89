"""Strikes hold tasks back by name, queue and argument, and give them back whole."""

from __future__ import annotations

import asyncio

import pytest

from conveyor import Conveyor
from conveyor.brokers.strikes import put_strike
from conveyor.core.strike import Strike
from conveyor.core.task import State
from conveyor.errors import InvalidOption
from conveyor.strikes import lift, strike, strikes
from tests.running import at_work, ended, reached


async def test_a_strike_holds_back_what_it_fits_and_nothing_else(app: Conveyor) -> None:
    @app.task
    async def charge(customer: int, amount: int = 1) -> int:
        return customer

    one = await strike(
        app, name="*.charge", where=["customer == 7", "amount<10"], reason="asked", by="ada"
    )
    seven, eight, large = [await charge.enqueue(*call) for call in ((7,), (8,), (7, 10))]
    named = await charge.enqueue(customer=7, amount=2)
    async with at_work(app):
        await asyncio.gather(eight.result(10), large.result(10))
        info = await reached(named, State.SCHEDULED)
        assert info.attempts == 0
        assert info.executions == ()
        (reason, *_) = await named.why()
        assert reason.code == "struck"
        assert "by ada: asked" in reason.text
        assert (await strikes(app))[0].id == one.id
        await reached(seven, State.SCHEDULED)
        assert await lift(app, one.id) >= 1
        assert await named.result(10) == 7
        assert await strikes(app) == []


async def test_a_strike_ends_by_itself(app: Conveyor) -> None:
    @app.task
    async def work() -> int:
        return 1

    await strike(app, queue="default", until=0.5)
    handle = await work.enqueue()
    async with at_work(app):
        assert await handle.result(10) == 1


async def test_lifting_revives_nothing_that_has_ended(app: Conveyor) -> None:
    @app.task
    async def work() -> int:
        return 1

    one = await strike(app, name="*work")
    handle = await work.enqueue()
    async with at_work(app):
        await reached(handle, State.SCHEDULED)
        await handle.cancel()
        await lift(app, one.id)
        assert (await ended(handle)).state is State.CANCELLED


async def test_strikes_that_make_no_sense(app: Conveyor) -> None:
    with pytest.raises(InvalidOption, match="needs a task name"):
        await strike(app)
    with pytest.raises(InvalidOption, match="an argument, one of"):
        await strike(app, where=["customer"])
    with pytest.raises(InvalidOption, match="no strike has the id"):
        await lift(app, "nothing")
    with pytest.raises(InvalidOption, match="a list of comparisons"):
        await strike(app, where="customer == 7")
    with pytest.raises(InvalidOption, match="wild"):
        await strike(app, name="")
    with pytest.raises(InvalidOption, match="an argument, one of"):
        await strike(app, where=["9999999999 == 7"])


async def test_every_strike_counts_however_many_there_are(app: Conveyor) -> None:
    broker = (await app.client()).broker
    for number in range(1_001):
        await put_strike(broker, Strike(id=f"{number:05}", queue="other", until=1.0))
    assert len(await strikes(app)) == 1_001
    # Making one forgets those that were over long ago.
    one = await strike(app, name="*work")
    assert [found.id for found in await strikes(app)] == [one.id]
