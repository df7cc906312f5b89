"""The executor that can really be stopped: one process per running task, reused when it ends well.

Processes are started when first needed, each in a process group of its own, so that what a task
started itself (ffmpeg, a shell) is killed with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from conveyor.core.errors import ConveyorError
from conveyor.core.outcome import Cancelled, Crashed, Outcome, TimedOut
from conveyor.worker.outcomes import timed_out
from conveyor.worker.process_messages import (
    Done,
    Ending,
    Job,
    News,
    Refused,
    Setup,
    Unusable,
    Waiting,
    decode_from_process,
    outcome_of,
)
from conveyor.worker.reaping import crash_error
from conveyor.worker.spawn import Spawned

if TYPE_CHECKING:
    from conveyor.core.task import Lease, Progress

log = logging.getLogger("conveyor.worker")
OnNote = Callable[["Progress | None", tuple[str, ...]], None]
IDLE_SECONDS = 60.0


def _nothing() -> None:
    """Not every limit adapts."""


class _Ears(NamedTuple):
    """Who hears of a running task."""

    on_note: OnNote
    on_refusal: Callable[[], object]


class ProcessUnusable(ConveyorError):
    """No process could be started for the task, or it could not import the app."""


class ProcessPool:
    """Runs tasks of the app `target` (`MODULE:APP`) in up to `size` processes.

    `grace` is the seconds between SIGTERM and SIGKILL; a process that had nothing to do for
    `idle` seconds is ended. Belongs to one event loop.
    """

    def __init__(
        self,
        target: str,
        size: int,
        *,
        url: str | None = None,
        grace: float = 5.0,
        idle: float = IDLE_SECONDS,
        log_level: str = "INFO",
    ) -> None:
        self._setup = Setup(target, url, os.getpid(), log_level)
        self._grace = grace
        self._idle_seconds = idle
        self._room = asyncio.Semaphore(size)
        self._all: set[PoolProcess] = set()
        self._idle: list[PoolProcess] = []
        self._cancels: dict[str, asyncio.Event] = {}
        self._closed = False

    async def run(
        self,
        lease: Lease,
        *,
        timeout: float | None,
        fresh: bool = False,
        on_note: OnNote,
        on_refusal: Callable[[], object] = _nothing,
    ) -> Outcome:
        """Run one task and say what it ended in; `timeout` (seconds) counts from when its process
        is ready. With `fresh` the process runs nothing before and nothing after. `on_refusal` is
        called when the task failed because the other side asked for less.

        Cancelling this coroutine kills the process. Raises `ProcessUnusable`.
        """
        cancel = self._cancels[lease.task.id] = asyncio.Event()
        try:
            async with self._room:
                return await self._run(lease, timeout, fresh, _Ears(on_note, on_refusal), cancel)
        finally:
            del self._cancels[lease.task.id]

    def cancel(self, task_id: str) -> None:
        """Stop this task if it runs here: SIGTERM, after the grace SIGKILL."""
        if task_id in self._cancels:
            self._cancels[task_id].set()

    async def close(self) -> None:
        """End every process and wait for that."""
        self._closed = True
        while self._idle:
            self._idle.pop().stay()
        if self._all:
            await asyncio.wait([asyncio.create_task(p.terminate(self._grace)) for p in self._all])

    async def _run(
        self,
        lease: Lease,
        timeout: float | None,
        fresh: bool,
        ears: _Ears,
        cancel: asyncio.Event,
    ) -> Outcome:
        process = self._take(fresh)
        try:
            stopped = asyncio.create_task(cancel.wait())
            try:
                await process.usable(stopped)
                outcome = await process.execute(lease, timeout, ears, stopped)
            finally:
                stopped.cancel()
        except BaseException:
            process.kill()
            raise
        if outcome is not None:
            self._put_back(process, fresh)
            return outcome
        was_alive = not process.gone
        await process.terminate(self._grace)
        if cancel.is_set():
            return Cancelled()
        if was_alive:
            return TimedOut(timed_out(timeout or 0.0, process.place))
        return Crashed(crash_error(process.exited.result()), alone=fresh)

    def _take(self, fresh: bool) -> PoolProcess:
        if self._closed:
            raise ProcessUnusable("the worker is shutting down")
        if self._idle and not fresh:
            process = self._idle.pop()
            process.stay()
            return process
        try:
            process = PoolProcess(self._setup)
        except OSError as exc:
            raise ProcessUnusable(f"no process could be started: {exc}") from exc
        self._all.add(process)
        process.exited.add_done_callback(lambda _: self._forget(process))
        return process

    def _put_back(self, process: PoolProcess, fresh: bool) -> None:
        if fresh or process.gone or self._closed:
            process.leave()
        else:
            self._idle.append(process)
            process.leave_in(self._idle_seconds, lambda: self._dismiss(process))

    def _dismiss(self, process: PoolProcess) -> None:
        # Out of the list first: between the signal and its end it would be handed a task to kill.
        self._idle.remove(process)
        process.leave()

    def _forget(self, process: PoolProcess) -> None:
        process.stay()
        self._all.discard(process)
        if process in self._idle:
            self._idle.remove(process)


class PoolProcess:
    """One process of the pool, running at most one task at a time."""

    def __init__(self, setup: Setup) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._done: asyncio.Future[Outcome] | None = None
        self._ears: _Ears | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.place = ""
        """Where the task's code was when the process was told to end."""
        self._spawned = Spawned("conveyor.worker.process_main", self._hear, own_group=True)
        self._spawned.send(setup)
        self.exited = self._spawned.exited

    @property
    def gone(self) -> bool:
        """Whether the process has ended."""
        return self.exited.done()

    async def usable(self, stopped: asyncio.Task[Any]) -> None:
        """Wait until it takes jobs, or `stopped` is done. Raises `ProcessUnusable`."""
        either: list[asyncio.Future[Any]] = [self._ready, self.exited, stopped]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._ready.done():
            self._ready.result()
        elif self.gone:
            raise ProcessUnusable(f"while it was starting, a process {self.exited.result()}")

    async def execute(
        self, lease: Lease, timeout: float | None, ears: _Ears, stopped: asyncio.Task[Any]
    ) -> Outcome | None:
        """Run one task. None when it was stopped, ran out of time or its process died."""
        done = self._done = self._loop.create_future()
        self._ears = ears
        if stopped.done():
            return None
        try:
            await self._spawned.send_all(Job(lease))
        except OSError:
            # It died while idle and nobody knew yet.
            await asyncio.wait([self.exited])
        any_of: list[asyncio.Future[Any]] = [done, self.exited, stopped]
        await asyncio.wait(any_of, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return done.result() if done.done() else None

    async def terminate(self, grace: float) -> None:
        """SIGTERM, after `grace` seconds SIGKILL; returns when the process is gone."""
        if not self.gone:
            self._spawned.signal(signal.SIGTERM)
        await asyncio.wait([self.exited], timeout=grace)
        if not self.gone:
            self.kill()
            await asyncio.wait([self.exited])

    def kill(self) -> None:
        """End it at once."""
        if not self.gone:
            self._spawned.kill()

    def leave(self) -> None:
        """Tell it to end; it runs nothing."""
        if not self.gone:
            self._spawned.signal(signal.SIGTERM)

    def leave_in(self, seconds: float, dismiss: Callable[[], None]) -> None:
        """After so many seconds of idleness, `dismiss` it."""
        self._timer = self._loop.call_later(seconds, dismiss)

    def stay(self) -> None:
        """Its idleness is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hear(self, body: bytes) -> None:
        message = decode_from_process(body)
        if isinstance(message, Waiting):
            self._settle_ready(None)
        elif isinstance(message, Unusable):
            self._settle_ready(ProcessUnusable(message.message))
        elif isinstance(message, News):
            self._tell(message.progress, message.lines)
        elif isinstance(message, Ending):
            self.place = message.place
        elif isinstance(message, Refused):
            if self._ears is not None:
                self._ears.on_refusal()
        elif isinstance(message, Done):
            self._tell(message.progress, message.lines)
            if self._done is not None and not self._done.done():
                self._done.set_result(outcome_of(message))

    def _settle_ready(self, failure: ProcessUnusable | None) -> None:
        if self._ready.done():
            return
        if failure is None:
            self._ready.set_result(None)
        else:
            self._ready.set_exception(failure)
            self._ready.exception()  # asyncio complains of one that nobody asks for

    def _tell(self, progress: Progress | None, lines: tuple[str, ...]) -> None:
        if self._ears is not None and (progress is not None or lines):
            self._ears.on_note(progress, lines)
