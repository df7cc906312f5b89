"""What a worker does for workflows: after a step, go on with the runs whose nodes just ended.

Beside the engine's loop, one batch at a time: while one is under way the next gathers. What cannot
be done (no broker, a kill) the keeper finds and does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from conveyor.core.errors import BrokerError
from conveyor.flows.advancer import Advancer
from conveyor.flows.keying import Code
from conveyor.flows.runs import Runs
from conveyor.flows.trip import Ended
from conveyor.keeper.pauses import Pauses

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker, Settlement
    from conveyor.core.clock import Clock

log = logging.getLogger("conveyor.worker")
BATCH = 1_000


class Follower:
    """Advances runs. `on_done()` is called after each batch: tasks may have been pushed; `code` is
    what the worker knows of their tasks."""

    def __init__(
        self,
        broker: Broker,
        clock: Clock,
        dice: Callable[[], float],
        on_done: Callable[[], None],
        code: Code,
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._pauses = Pauses(dice)
        self._on_done = on_done
        self._code = code
        self._waiting: list[Ended] = []
        self._at_work = False
        self._wake = asyncio.Event()
        self._advancer: Advancer | None = None

    @property
    def busy(self) -> bool:
        """Whether something is still to be done."""
        return self._at_work or bool(self._waiting)

    def settled(self, batch: Sequence[Settlement], refused: Collection[str]) -> None:
        """Take note of what a step has stored."""
        for entry in batch:
            task, transition = entry.lease.task, entry.transition
            terms = task.terms
            if terms is None or terms.flow is None or not transition.to.is_final:
                continue
            if task.id not in refused:
                self._waiting.append(
                    Ended(terms.flow, terms.node, terms.index, transition.to, transition.result)
                )
                self._wake.set()

    async def keep(self) -> None:
        """Follow until cancelled."""
        while True:
            self._at_work = False
            if not self._waiting:
                self._wake.clear()
                self._on_done()
                await self._wake.wait()
            self._at_work = True
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            await self._follow(batch)

    async def _follow(self, batch: list[Ended]) -> None:
        if self._advancer is None:
            runs = Runs(self._broker, self._clock, self._code)
            self._advancer = Advancer(self._broker, self._clock, runs)
        try:
            await self._advancer.advance(batch)
        except BrokerError as exc:
            log.warning("no workflow can go on: %s", exc)
            self._waiting = [*batch, *self._waiting]
            await asyncio.sleep(self._pauses.next())
        except Exception:
            # A bug of ours in one run must not stop all the others; the keeper tries it again.
            log.exception("%d end(s) of workflow nodes could not be followed", len(batch))
        else:
            self._pauses.reset()
