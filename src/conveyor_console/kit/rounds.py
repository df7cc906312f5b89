"""Something that a console process does again and again beside its requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger("conveyor.console")
_PATIENCE = 5.0
"""Seconds that stopping waits for a round under way."""


class Rounds:
    """Calls `act` every so many seconds (as `every` says anew each time), and at once when woken,
    but not within `rest` seconds after a round. A round that fails is logged once and tried again;
    it never ends the rounds."""

    def __init__(
        self,
        name: str,
        every: Callable[[], float],
        act: Callable[[], Awaitable[None]],
        *,
        rest: float = 0.0,
    ) -> None:
        self._name = name
        self._every = every
        self._act = act
        self._rest = rest
        self._awake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = ""

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name=f"conveyor-console-{self._name}")

    def wake(self) -> None:
        """Begin the next round at once."""
        self._awake.set()

    async def close(self) -> None:
        """End; a round under way may end first."""
        self._stopping.set()
        self._awake.set()
        if self._task is None:
            return
        task, self._task = self._task, None
        _, unfinished = await asyncio.wait([task], timeout=_PATIENCE)
        if unfinished:
            task.cancel()
            await asyncio.wait([task], timeout=1)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            await self._round()
            await _wait(self._stopping, self._rest)
            await _wait(self._awake, self._every())
            self._awake.clear()

    async def _round(self) -> None:
        try:
            await self._act()
        except Exception as exc:
            if self._failing != type(exc).__name__:
                log.warning("%s does not get on: %s", self._name, exc, exc_info=exc)
            self._failing = type(exc).__name__
        else:
            if self._failing:
                log.info("%s gets on again", self._name)
            self._failing = ""


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, at most so long."""
    if seconds > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
