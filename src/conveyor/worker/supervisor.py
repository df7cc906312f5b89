"""The supervisor: the small process that keeps a worker's leases, and reaps its children.

It never imports user code, so nothing that a task does can stall it. Its children do the work; each
has a worker token of its own, which is renewed from here before the child may lease anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from conveyor.keeper.process import log_to_stderr, signals_to
from conveyor.system import SystemClock, new_id
from conveyor.system import dice as system_dice
from conveyor.worker import reload
from conveyor.worker.crew import Crew, cancelled
from conveyor.worker.link import Linker
from conveyor.worker.messages import EXIT_OK
from conveyor.worker.place import Place

if TYPE_CHECKING:
    from conveyor.core.clock import Clock
    from conveyor.worker.settings import WorkerSettings

log = logging.getLogger("conveyor.worker")


def run(settings: WorkerSettings) -> int:
    """Run a worker until it is told to stop (or, in burst mode, until nothing is left to do).

    Returns the exit code: 0 after SIGTERM or SIGINT and a finished burst, 1 when a second signal
    cut that short or the first children could not live, 2 when what was asked for cannot be done
    (no such module, a bad URL), 3 when the broker is not there.
    """
    log_to_stderr(settings.log_level)
    return asyncio.run(Supervisor(settings).run())


class Supervisor:
    """Runs the places of one worker, and hears the signals."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        clock: Clock | None = None,
        dice: Callable[[], float] = system_dice,
        new_token: Callable[[], str] = new_id,
    ) -> None:
        hands = clock or SystemClock()
        self._settings = settings = msgspec.structs.replace(settings, born=hands.time())
        self._crew = Crew(settings, hands, dice, new_token)

    async def run(self) -> int:
        """Do what `run` of this module says."""
        linker = Linker(self._crew)
        watching = None
        if self._settings.reload:
            watching = asyncio.create_task(self._reload(), name="conveyor-reload")
        with signals_to(self._signalled):
            try:
                async with asyncio.TaskGroup() as places:
                    for _ in range(self._settings.processes):
                        places.create_task(Place(self._crew, linker).tend())
            finally:
                if watching is not None:
                    await cancelled(watching)
                await linker.close()
        return self._crew.code

    def _signalled(self, name: str) -> None:
        """The first signal drains, the second ends it at once, more change nothing."""
        crew = self._crew
        if not crew.is_ending:
            log.info(
                "%s: stopping; %d running task(s) get up to %g s (again: stop at once)",
                name,
                sum(len(child.board.running_now()) for child in crew.children),
                self._settings.shutdown_grace,
            )
            crew.end()
        elif crew.code == EXIT_OK:
            log.warning("%s again: stopping at once", name)
            crew.abort()

    async def _reload(self) -> None:
        async for files in reload.changes(Path.cwd()):
            log.info("%s changed: restarting", ", ".join(Path(file).name for file in files[:3]))
            self._crew.restart()
