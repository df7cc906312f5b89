"""What a lease meets before it starts: a cancellation, an unknown name, a strike."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from conveyor.brokers.strikes import held_by, list_strikes
from conveyor.core.codec import decode_call
from conveyor.core.outcome import Cancelled, Struck, Unroutable
from conveyor.core.strike import Strike

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock
    from conveyor.core.task import Lease, Task
    from conveyor.packing import Packing
    from conveyor.tasks import TaskDefinition

log = logging.getLogger("conveyor.worker")
LOOK_AGAIN = 60.0
"""Seconds after which a task that is held back looks for its strike again, should nobody have told
it of the end."""
ELSEWHERE = 30.0
"""Seconds that a task waits at most which only another worker can run."""


def pause_until_elsewhere(execution: int) -> float:
    """Return the seconds that an execution which only another worker can run is put off: in the
    middle of a deploy that worker is there already, so one second at first, each time twice as
    long."""
    return min(ELSEWHERE, 2.0 ** min(execution - 1, 5))


class Intake:
    """Decides of each lease whether it may start. `names` are the definitions known here."""

    def __init__(
        self,
        broker: Broker,
        names: Mapping[str, TaskDefinition[..., Any, Any]],
        clock: Clock,
        packing: Packing,
    ) -> None:
        self._packing = packing
        self._broker = broker
        self._names = names
        self._clock = clock
        self._strikes: Sequence[Strike] = ()
        self._held: list[tuple[str, str]] = []

    async def refresh(self) -> None:
        """Read the strikes. Raises `BrokerError`."""
        self._strikes = await list_strikes(self._broker)

    async def note_held(self) -> None:
        """Note what was held back, before it is settled: whoever lifts the strike must find it.
        Raises `BrokerError`.
        """
        if self._held:
            await self._broker.tallies.add(self._held)
            self._held = []

    def objection(self, lease: Lease) -> Cancelled | Unroutable | Struck | None:
        """Return the outcome of a lease that must not start, None for all others."""
        if lease.cancel_requested:
            return Cancelled()
        if lease.task.name not in self._names:
            log.warning("no definition is named %r here: task parked", lease.task.name)
            return Unroutable()
        why = self._packing.objection(lease.task, self._names[lease.task.name])
        if why is not None:
            log.warning("task %s is left to another worker: %s", lease.task.id, why)
            return Struck(pause_until_elsewhere(lease.execution), why)
        return self._struck(lease.task) if self._strikes else None

    def _struck(self, task: Task) -> Struck | None:
        now = self._clock.time()
        for strike in self._strikes:
            if strike.covers(task.name, task.queue, now) and self._fits(strike, task):
                self._held.append((held_by(strike.id), task.id))
                left = LOOK_AGAIN if strike.until is None else max(0.0, strike.until - now)
                return Struck(min(left, LOOK_AGAIN), strike.sentence())
        return None

    def _fits(self, strike: Strike, task: Task) -> bool:
        args, kwargs = decode_call(task.payload)
        try:
            bound = self._names[task.name].signature.text.bind(*args, **kwargs)
        except TypeError:
            return strike.fits(args, kwargs)
        bound.apply_defaults()
        return strike.fits(args, bound.arguments)
