"""Watches a child that is alive: does its loop turn, does it consume, are threads stuck in it?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from conveyor.core.errors import BrokerError

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock
    from conveyor.worker.offspring import Offspring
    from conveyor.worker.settings import WorkerSettings

log = logging.getLogger("conveyor.worker")
EVERY = 1.0
_NAMED = 5


class Watchdog:
    """Watches one child. `reachable_since` tells since when the broker answers (monotonic), or
    None: a child cannot consume from a broker that is away.
    """

    def __init__(
        self,
        child: Offspring,
        broker: Broker,
        settings: WorkerSettings,
        clock: Clock,
        reachable_since: Callable[[], float | None],
    ) -> None:
        self._child = child
        self._broker = broker
        self._settings = settings
        self._clock = clock
        self._reachable_since = reachable_since
        self._warned = False
        self._stuck_since: float | None = None

    async def watch(self) -> None:
        """Look once a second until cancelled or the child is told to end."""
        while not self._child.stopping:
            await asyncio.sleep(EVERY)
            await self.look()

    async def look(self) -> None:
        """Look once: warn of a loop that stands still, restart a child that is deaf or that stuck
        threads have worn out.
        """
        child, now = self._child, self._clock.monotonic()
        if child.went_at is None or child.stopping or child.gone:
            return
        quiet = now - max(child.board.last_beat, child.went_at)
        if quiet > self._settings.stalled_after:
            await self._warn(quiet)
            return
        self._warned = False
        if self._is_deaf(child.went_at, now):
            log.error(
                "child %d has free slots but made no step for %g s: restarting it",
                child.pid,
                self._settings.deaf_after,
            )
            child.stop()
        elif self._is_worn(now):
            log.warning(
                "child %d is idle but for %d stuck thread(s): restarting it",
                child.pid,
                child.board.stuck,
            )
            child.stop()

    def _is_deaf(self, went_at: float, now: float) -> bool:
        reachable = self._reachable_since()
        board = self._child.board
        if reachable is None or board.running >= self._settings.concurrency:
            return False
        return now - max(board.last_step, went_at, reachable) > self._settings.deaf_after

    def _is_worn(self, now: float) -> bool:
        board = self._child.board
        if not board.stuck or board.running:
            self._stuck_since = None
            return False
        if self._stuck_since is None:
            self._stuck_since = now
        return now - self._stuck_since >= self._settings.stalled_after

    async def _warn(self, quiet: float) -> None:
        """Once per stall, and never a kill: the lease is kept by us, the task may be worth it."""
        if self._warned:
            return
        self._warned = True
        log.warning(
            "the event loop of child %d has stood still for %.0f s; what runs there blocks it or "
            "holds the GIL: %s. executor='process' would keep such work apart.",
            self._child.pid,
            quiet,
            await self._suspects(),
        )

    async def _suspects(self) -> str:
        ids = [task_id for task_id, _, _ in self._child.board.running_now()]
        try:
            held = await self._broker.held(self._child.token)
        except BrokerError:
            held = []
        names = {holding.lease.task.id: holding.lease.task.name for holding in held}
        shown = [f"{names[i]} ({i})" if i in names else i for i in ids[:_NAMED]]
        return (", ".join(shown) or "no task") + (" …" if len(ids) > _NAMED else "")
