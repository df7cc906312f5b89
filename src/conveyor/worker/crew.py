"""What the parts of a supervisor share: the children, and whether it is time to end."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from conveyor.worker.messages import EXIT_OK

if TYPE_CHECKING:
    from conveyor.core.clock import Clock
    from conveyor.worker.offspring import Offspring
    from conveyor.worker.settings import WorkerSettings

log = logging.getLogger("conveyor.worker")
EXIT_FAILURE = 1
"""Stopped at once by a second signal, or the first children could not live."""


class Crew:
    """The children of one worker, and the one switch that ends them all."""

    def __init__(
        self,
        settings: WorkerSettings,
        clock: Clock,
        dice: Callable[[], float],
        new_token: Callable[[], str],
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.dice = dice
        self.new_token = new_token
        self.host = socket.gethostname()
        self.children: set[Offspring] = set()
        self._proven = False
        self.ending = asyncio.Event()
        self.changed = asyncio.Event()
        """Files have changed since a child last failed to start (`--reload`)."""
        self.code = EXIT_OK

    def is_proven(self) -> bool:
        """Whether a child of ours ever made a step, as far as this was asked while it lived: then
        one that cannot start is no mistake of the user's in starting this worker."""
        self._proven = self._proven or any(child.board.last_step > 0 for child in self.children)
        return self._proven

    @property
    def is_ending(self) -> bool:
        """Whether no child is to be replaced any more."""
        return self.ending.is_set()

    def end(self) -> None:
        """Let every child drain, and start no other."""
        self.ending.set()
        self.restart()

    def restart(self) -> None:
        """Let every child drain; unless all is ending, each is replaced."""
        self.changed.set()
        for child in self.children:
            child.stop()

    def abort(self) -> None:
        """End every child at once."""
        self.code = EXIT_FAILURE
        for child in self.children:
            child.abort()

    def give_up(self, why: str, code: int) -> None:
        """End everything for a reason that trying again cannot help."""
        if not self.is_ending:
            log.critical("%s", why)
            self.code = code
            self.end()

    async def pause(self, seconds: float) -> None:
        """Wait, but not when all is ending."""
        await wait(self.ending, seconds)


async def wait(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for the event, at most so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end; one that had failed is logged."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (failure := task.exception()) is not None:
        log.error("%s failed", task.get_name(), exc_info=failure)
