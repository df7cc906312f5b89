"""Limits on PostgreSQL: closed without end, and a task that nobody knew."""

from collections.abc import AsyncIterator
from math import inf

import pytest

from conveyor.brokers.url import connect
from conveyor.core.outcome import Unroutable
from conveyor.core.task import Pause
from conveyor.testing.conformance.gates_rig import per_second, pushed, slots, take
from conveyor.testing.conformance.rig import Capabilities, Rig, ok


@pytest.fixture
async def rig(postgres_url: str) -> AsyncIterator[Rig]:
    made = Rig(lambda clock: connect(postgres_url, clock=clock), Capabilities())
    await made.start()
    yield made
    await made.stop()


async def test_a_limit_closed_without_end_can_be_opened_after_a_reservation(rig: Rig) -> None:
    await rig.broker.gates.close("rate", "", None, Pause("why", "me", 0.0))
    assert await rig.broker.gates.reserve(per_second(10)) == inf
    await rig.broker.gates.open("rate", "")
    assert await rig.broker.gates.reserve(per_second(10)) == 0.0


async def test_a_parked_task_is_not_adopted_past_its_gates(rig: Rig) -> None:
    first, second = await pushed(rig, 2, slots())
    (lease,) = await take(rig)
    await rig.settle(lease, Unroutable())
    assert (await rig.info(first)).flags == ("unroutable",)
    (other,) = await take(rig)
    assert other.task == second
    assert await rig.broker.adopt("w", ["work"], ["q"], 10) == []
    assert await take(rig) == []
    await rig.settle(other, ok())
    (again,) = await take(rig)
    assert (again.task, again.execution) == (first, 2)
    assert await rig.is_healthy()
