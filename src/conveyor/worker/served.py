"""Which queues a worker serves, and which of them the next step looks at first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from conveyor.worker.lineup import Lineup

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker, Step, StepReply
    from conveyor.core.clock import Clock
    from conveyor.worker.intake import Intake
    from conveyor.worker.settings import WorkerSettings

SELDOM = 1.0
"""Seconds between looks for new queues and strikes."""


class Served:
    """The queues of one worker: those of its settings, or all that there are. `intake` looks for
    strikes whenever this looks for queues."""

    def __init__(
        self, broker: Broker, settings: WorkerSettings, intake: Intake, clock: Clock
    ) -> None:
        self.queues: list[str] = list(settings.queues)
        """In the order of the next step. Always the same list: who listens holds it."""
        self._are_fixed = bool(settings.queues)
        self._broker = broker
        self._intake = intake
        self._clock = clock
        self._lineup = Lineup(settings.weights, settings.reserved)
        self._refreshed_at = float("-inf")

    async def refresh(self) -> None:
        """Before a step: look for new queues when it is time, and put another one first, so that
        none waits behind a busy one. Raises `BrokerError`."""
        now = self._clock.monotonic()
        if now - self._refreshed_at >= SELDOM:
            await self._intake.refresh()
            if not self._are_fixed:
                names = await self._broker.inspector.queue_names()
                if set(names) != set(self.queues):
                    self.queues[:] = names
            self._refreshed_at = now
        self._lineup.turn(self.queues)

    async def found_more(self) -> bool:
        """Look now; returns whether there are other queues than before, where a task may wait.
        Raises `BrokerError`."""
        known = set(self.queues)
        self._refreshed_at = float("-inf")
        await self.refresh()
        return set(self.queues) != known

    async def step(self, step: Step, held: Iterable[str]) -> StepReply:
        """Do a step with respect to reserved slots; `held` names the queue of each task that this
        worker has. Raises `BrokerError`."""
        return await self._lineup.step(self._broker, step, held)
