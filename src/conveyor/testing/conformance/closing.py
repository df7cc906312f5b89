"""Closing a limit for longer, never for less."""

from __future__ import annotations

import asyncio
from math import inf

import pytest

from conveyor.core.task import Pause
from conveyor.testing.conformance.gates_rig import ME, pushed, slots, take, taken
from conveyor.testing.conformance.rig import Rig, ids

OTHER = Pause("429", "task", 1.0)


async def _closed(rig: Rig, key: str | None) -> tuple[float, Pause | None]:
    (info,) = [info for info in await rig.broker.gates.look("slots") if info.key == (key or "")]
    return info.state.closed_until, info.pause


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_closure_that_extends_is_never_shorter(rig: Rig, key: str | None) -> None:
    tasks = await pushed(rig, 1, slots(5, key="k"))
    gates, now = rig.broker.gates, rig.clock.time()
    await gates.close("slots", key, now + 10, OTHER, extend=True)
    assert await _closed(rig, key) == (now + 10, OTHER)
    await gates.close("slots", key, now + 30, ME, extend=True)
    await gates.close("slots", key, now + 20, OTHER, extend=True)
    assert await _closed(rig, key) == (now + 30, ME)
    rig.clock.advance(25)
    assert await take(rig) == []
    rig.clock.advance(6)
    assert taken(await take(rig)) == ids(tasks)


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_closure_without_end_is_not_replaced_by_one_that_extends(
    rig: Rig, key: str | None
) -> None:
    gates, now = rig.broker.gates, rig.clock.time()
    await gates.close("slots", key, now + 10, OTHER)
    await gates.close("slots", key, None, ME, extend=True)
    await gates.close("slots", key, now + 60, OTHER, extend=True)
    await gates.close("slots", key, None, OTHER, extend=True)
    assert await _closed(rig, key) == (inf, ME)
    await gates.close("slots", key, now + 5, OTHER)
    assert await _closed(rig, key) == (now + 5, OTHER)


async def test_a_closure_that_is_over_is_no_bar_to_one_that_extends(rig: Rig) -> None:
    gates = rig.broker.gates
    await gates.close("slots", None, rig.clock.time() + 10, ME)
    rig.clock.advance(20)
    until = rig.clock.time() + 5
    await gates.close("slots", None, until, OTHER, extend=True)
    assert await _closed(rig, None) == (until, OTHER)


async def test_of_many_that_extend_at_once_the_longest_stays(rig: Rig) -> None:
    gates, now = rig.broker.gates, rig.clock.time()
    await asyncio.gather(
        *(gates.close("slots", "k", now + n, OTHER, extend=True) for n in (3, 9, 1, 12, 7, 5))
    )
    assert (await _closed(rig, "k"))[0] == now + 12
