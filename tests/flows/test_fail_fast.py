"""A map that stops at its first failure, while another worker lets children of it begin."""

from __future__ import annotations

from typing import Any

from conveyor import Conveyor
from conveyor.core.graph import successor_id
from conveyor.core.task import State
from conveyor.flows.advancer import Advancer
from conveyor.flows.runs import Runs
from conveyor.flows.trip import Ended
from conveyor.testing import Harness, harness


class Tallies:
    """Those of a store; something else happens just after the ends of children were read."""

    def __init__(self, tallies: Any, then: Any) -> None:
        self._tallies, self._then = tallies, then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tallies, name)

    async def members(self, key: str) -> Any:
        found = await self._tallies.members(key)
        if key.endswith("*") and self._then is not None:
            then, self._then = self._then, None
            await then()
        return found


class Between:
    """A broker with such tallies."""

    def __init__(self, broker: Any, then: Any) -> None:
        self._broker = broker
        self.tallies = Tallies(broker.tallies, then)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)


async def test_nobody_lets_a_child_begin_whose_sibling_failed_meanwhile() -> None:
    app = Conveyor()
    async with harness(app) as kit:
        await _race(kit)


async def _race(kit: Harness) -> None:
    @kit.app.task(name="one")
    async def one(number: int) -> int:
        return number

    flow = kit.app.workflow("w")
    flow.map(one, range(9), window=2, fail_fast=True)
    handle = await flow.enqueue()
    other = Advancer(kit.broker, kit.clock, Runs(kit.broker, kit.clock))

    async def meanwhile() -> None:
        await other.advance([Ended(handle.id, 0, 0, State.SUCCEEDED)])

    between: Any = Between(kit.broker, meanwhile)
    seer = Advancer(between, kit.clock, Runs(between, kit.clock))
    await seer.advance([Ended(handle.id, 0, 1, State.FAILED)])
    alive = {task.id for task in await kit.tasks() if not task.state.is_final}
    # The two that began first are still to be settled: what ended was told, not run.
    assert alive <= {successor_id(handle.id, 0, child) for child in (0, 1)}
    assert await handle.status() == "failed"
