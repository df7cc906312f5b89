"""One of a worker's places: a child process lives there, and when it ends another takes over.

start ─▶ ready ─▶ lease made ─▶ go ─▶ … ─▶ gone ─▶ what it held is settled ─▶ start
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from conveyor.core.errors import BrokerError
from conveyor.keeper.pauses import Pauses
from conveyor.worker.crew import EXIT_FAILURE, Crew, cancelled, wait
from conveyor.worker.link import Link, Linker
from conveyor.worker.messages import EXIT_OK
from conveyor.worker.offspring import Offspring
from conveyor.worker.reaping import settle_death
from conveyor.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from conveyor.worker.messages import Ready
    from conveyor.worker.spawn import Exit

log = logging.getLogger("conveyor.worker")
QUICK = 1.0
"""A child that lived for less than so many seconds is not replaced at once."""
LAST_WORDS = 2.0
"""Seconds to settle what a killed child held, when everything is to end."""


class Place:
    """Keeps one child alive until the crew ends or, in burst mode, the work is done."""

    def __init__(self, crew: Crew, linker: Linker) -> None:
        self._crew = crew
        self._linker = linker
        self._paused = False
        """It was told to take no tasks; whoever lives here next takes none either."""

    async def tend(self) -> None:
        """Fill the place with one child after the other."""
        crew = self._crew
        pauses = Pauses(crew.dice)
        while not crew.is_ending:
            born = crew.clock.monotonic()
            if await self._one_life():
                return
            if crew.clock.monotonic() - born < QUICK:
                await crew.pause(pauses.next())
            else:
                pauses.reset()

    async def _one_life(self) -> bool:
        """Start a child and see it to its end; returns whether the place is done."""
        crew = self._crew
        try:
            child = Offspring(crew.settings, crew.new_token(), crew.clock, crew.host)
        except OSError as exc:
            log.error("no child process could be started: %s", exc)
            return False
        crew.children.add(child)
        try:
            ready = await child.answer()
            if ready is None:
                return await self._stillborn(child)
            return await self._live(child, ready)
        finally:
            child.kill()
            await child.end()
            crew.children.discard(child)
            self._paused = child.paused
            child.close()

    async def _stillborn(self, child: Offspring) -> bool:
        crew = self._crew
        exit_ = await child.end()
        if crew.is_ending or child.stopping:
            return crew.is_ending
        why = child.refusal or child.fault or f"while it was starting, child {child.pid} {exit_}"
        if not (crew.is_proven() or exit_.was_asked_for):
            crew.give_up(why, exit_.code if child.refusal and exit_.code else EXIT_FAILURE)
            return True
        log.error("%s", why)
        if crew.settings.reload:
            crew.changed.clear()
            await wait(crew.changed, None)
        return False

    async def _live(self, child: Offspring, ready: Ready) -> bool:
        link = await self._linker.link(ready.url)
        if link is None:
            return True
        async with AsyncExitStack() as company:
            if await self._is_leased(child, link):
                self._accompany(child, link, company)
                child.pause(self._paused)
                child.go(self._crew.clock.monotonic())
                self._report_start(child, ready, link)
            else:
                child.kill()
            exit_ = await child.end()
        return await self._after(child, exit_, link)

    async def _is_leased(self, child: Offspring, link: Link) -> bool:
        """Make the child's lease; False when it died or all is ending before there was one."""
        waits = [
            asyncio.create_task(link.renewals.first(child), name="first renewal"),
            asyncio.create_task(child.end(), name="end of the child"),
            asyncio.create_task(self._crew.ending.wait(), name="end of all"),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                await cancelled(task)
        return not self._crew.is_ending and not child.gone and child.board.lease_until > 0

    def _accompany(self, child: Offspring, link: Link, company: AsyncExitStack) -> None:
        """Renew its lease and watch it, until the company is dismissed."""
        dog = Watchdog(
            child,
            link.broker,
            self._crew.settings,
            self._crew.clock,
            lambda: link.renewals.reachable_since,
        )
        for coroutine, name in ((link.renewals.keep(child), "renewal"), (dog.watch(), "watchdog")):
            company.push_async_callback(cancelled, asyncio.create_task(coroutine, name=name))

    async def _after(self, child: Offspring, exit_: Exit, link: Link) -> bool:
        crew = self._crew
        proven = crew.is_proven()
        if not child.disowned:
            await self._bury(child, exit_, link)
        if child.fault is not None and not proven:
            crew.give_up(child.fault, EXIT_FAILURE)
        is_done = child.retired or (crew.settings.burst and exit_.code == EXIT_OK)
        return crew.is_ending or is_done

    async def _bury(self, child: Offspring, exit_: Exit, link: Link) -> None:
        """Settle what a dead child held, for as long as its lease makes that ours to do."""
        crew, clock = self._crew, self._crew.clock
        death = child.death(exit_)
        began = clock.monotonic()
        pauses = Pauses(crew.dice)
        while True:
            try:
                settled = await settle_death(link.broker, death, clock=clock, dice=crew.dice)
            except BrokerError as exc:
                now = clock.monotonic()
                in_haste = crew.is_ending and now - began > LAST_WORDS
                if in_haste or now >= child.board.lease_until:
                    log.warning("what child %d held is left to the keeper: %s", child.pid, exc)
                    return
                await asyncio.sleep(pauses.next())
            else:
                self._report_end(child, exit_, settled)
                return

    def _report_start(self, child: Offspring, ready: Ready, link: Link) -> None:
        settings = self._crew.settings
        log.info(
            "child %d ready: %d task definition(s), %d at a time, %s on %s",
            child.pid,
            len(ready.versions),
            settings.concurrency,
            ", ".join(settings.queues) or "every queue",
            link.broker.url,
        )

    def _report_end(self, child: Offspring, exit_: Exit, settled: int) -> None:
        if exit_.code == EXIT_OK:
            log.info("child %d ended", child.pid)
        elif child.fault is not None:
            log.error("child %d failed: %s", child.pid, child.fault)
        else:
            log.error("child %d %s; %d task(s) put back", child.pid, exit_, settled)
