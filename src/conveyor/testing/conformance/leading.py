"""Leadership of a role: one holder at a time, told the broker's clock."""

from __future__ import annotations

import asyncio

import pytest

from conveyor.testing.conformance.rig import Rig


async def test_the_leader_is_told_the_brokers_clock(rig: Rig) -> None:
    assert await rig.broker.lead("sweep", "a", 10) == pytest.approx(rig.clock.time(), abs=0.01)
    rig.clock.advance(5)
    assert await rig.broker.lead("sweep", "a", 10) == pytest.approx(rig.clock.time(), abs=0.01)


async def test_nobody_else_leads_until_the_term_ends(rig: Rig) -> None:
    await rig.broker.lead("sweep", "a", 10)
    assert await rig.broker.lead("sweep", "b", 10) is None
    rig.clock.advance(9)
    assert await rig.broker.lead("sweep", "b", 10) is None
    rig.clock.advance(2)
    assert await rig.broker.lead("sweep", "b", 10) is not None
    assert await rig.broker.lead("sweep", "a", 10) is None


async def test_keeping_the_lead_lengthens_the_term(rig: Rig) -> None:
    await rig.broker.lead("sweep", "a", 10)
    for _ in range(4):
        rig.clock.advance(8)
        assert await rig.broker.lead("sweep", "b", 10) is None
        assert await rig.broker.lead("sweep", "a", 10) is not None


async def test_giving_up_makes_room_at_once(rig: Rig) -> None:
    await rig.broker.lead("sweep", "a", 10)
    await rig.broker.lead("sweep", "a", 0)
    assert await rig.broker.lead("sweep", "b", 10) is not None


async def test_only_the_leader_can_give_up(rig: Rig) -> None:
    await rig.broker.lead("sweep", "a", 10)
    assert await rig.broker.lead("sweep", "b", 0) is None
    assert await rig.broker.lead("sweep", "b", 10) is None


async def test_roles_are_led_apart(rig: Rig) -> None:
    assert await rig.broker.lead("sweep", "a", 10) is not None
    assert await rig.broker.lead("tidy", "b", 10) is not None
    assert await rig.broker.lead("tidy", "a", 10) is None


async def test_one_of_many_candidates_wins(rig: Rig) -> None:
    brokers = [rig.broker, await rig.another()]
    for _ in range(5):
        answers = await asyncio.gather(
            *(brokers[index % 2].lead("sweep", f"w{index}", 10) for index in range(10))
        )
        assert sum(answer is not None for answer in answers) == 1
        rig.clock.advance(11)
