"""A child process as the supervisor sees it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from conveyor.brokers.base import WorkerInfo
from conveyor.worker.board import EVERY, Board, slots_for
from conveyor.worker.memory import family_rss
from conveyor.worker.messages import (
    EXIT_OK,
    Abort,
    Cancel,
    Configure,
    Drain,
    Fault,
    Go,
    Pause,
    Ready,
    Refused,
    Stop,
    decode_up,
)
from conveyor.worker.reaping import Blame, Death
from conveyor.worker.spawn import Exit, Spawned

if TYPE_CHECKING:
    from conveyor.core.clock import Clock
    from conveyor.core.order import Mode
    from conveyor.worker.settings import WorkerSettings

log = logging.getLogger("conveyor.worker")
_IDS_PER_MESSAGE = 64
_KILL_AFTER_STOP = 2.0
_KILL_AFTER_ABORT = 1.0


class Offspring:
    """One child process with its own worker token and board, from its start to its end."""

    def __init__(self, settings: WorkerSettings, token: str, clock: Clock, host: str) -> None:
        self.token = token
        self.board = Board.create(slots_for(settings.concurrency))
        self._settings = settings
        self._clock = clock
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._started_at = clock.time()
        self._timer: asyncio.TimerHandle | None = None
        self._blameless = False
        self.ready: Ready | None = None
        self.refusal: str | None = None
        self.fault: str | None = None
        self.went_at: float | None = None
        """When it was let go (monotonic), None before."""
        self.disowned = False
        """Its lease was swept: whoever swept it settles its tasks."""
        self.stopping = False
        self.paused = False
        """It was told to take no tasks."""
        self.retired = False
        """It was told to end for good: nobody takes its place."""
        self._answered = asyncio.Event()
        try:
            self._process = Spawned("conveyor.worker.child", self._hear, share=self.board.fd)
        except OSError:
            self.board.close()
            raise
        self._process.exited.add_done_callback(lambda _: self._answered.set())
        self._process.send(Configure(settings, token, self.board.address))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def gone(self) -> bool:
        """Whether the process has ended."""
        return self._process.exited.done()

    async def answer(self) -> Ready | None:
        """Wait until it is ready (returns what it says) or cannot start or died (None)."""
        await self._answered.wait()
        return self.ready

    async def end(self) -> Exit:
        """Wait until the process is gone."""
        return await asyncio.shield(self._process.exited)

    def go(self, now: float) -> None:
        """Let it begin to lease tasks."""
        self.went_at = now
        self._process.send(Go())

    def cancel(self, ids: Iterable[str]) -> None:
        """Tell it to stop these tasks."""
        waiting = list(ids)
        for start in range(0, len(waiting), _IDS_PER_MESSAGE):
            self._process.send(Cancel(tuple(waiting[start : start + _IDS_PER_MESSAGE])))

    def pause(self, paused: bool) -> None:
        """Let it take no more tasks, or take them again."""
        self.paused = paused
        self._process.send(Pause(paused))

    def retire(self, *, at_leisure: bool) -> None:
        """Let it end for good: at leisure when what it runs has ended, else as `stop` does."""
        self.retired = True
        if at_leisure:
            self._process.send(Drain())
        else:
            self.stop()

    @property
    def mode(self) -> Mode:
        """What orders have made of it."""
        if self.stopping:
            return "stopping"
        if self.retired:
            return "draining"
        return "paused" if self.paused else "working"

    def stop(self) -> None:
        """Let it drain; whoever still runs 2 s after the grace is killed. Idempotent."""
        if self.stopping:
            return
        self.stopping = True
        if self.went_at is None:
            # It holds nothing, and may be deep in the import of a large app.
            self.kill()
            return
        self._process.send(Stop())
        self._kill_in(self._settings.shutdown_grace + _KILL_AFTER_STOP)

    def abort(self) -> None:
        """Make it leave now; after a second it is killed."""
        self.stopping = self._blameless = True
        self._process.send(Abort())
        self._kill_in(_KILL_AFTER_ABORT)

    def disown(self) -> None:
        """Its lease is gone: everything it runs belongs to others now."""
        self.disowned = True
        self.abort()

    def kill(self) -> None:
        """End it at once. Its tasks are not to blame."""
        if not self.gone:
            self._blameless = True
            self._process.kill()

    def close(self) -> None:
        """Let go of the board and timers; the process must be gone."""
        if self._timer is not None:
            self._timer.cancel()
        self.board.close()

    def death(self, exit_: Exit) -> Death:
        """Say how it died, for the settlement of what it held."""
        blameless = self._blameless or self.fault is not None or exit_.code == EXIT_OK
        return Death(
            self.token,
            exit_,
            Blame.US if blameless else Blame.TASKS,
            self.board.running_now(),
            self.ready.versions if self.ready is not None else {},
        )

    def info(self) -> WorkerInfo:
        """Say what there is to know of it, for the registry of workers."""
        board, ready = self.board, self.ready
        last_step = board.last_step
        now, mono = self._clock.time(), self._clock.monotonic()
        return WorkerInfo(
            id=self.token,
            host=self._host,
            pid=self.pid,
            started_at=self._started_at,
            queues=self._settings.queues,
            names=ready.names if ready is not None else (),
            concurrency=self._settings.concurrency,
            running=board.running,
            stuck=board.stuck,
            stale=board.stale,
            rss=family_rss(self.pid),
            code_version=ready.code_version if ready is not None else "",
            last_claim_at=now - (mono - last_step) if last_step else None,
            loop_lag=max(board.lag, mono - board.last_beat - EVERY) if board.last_beat else 0.0,
            mode=self.mode,
        )

    def _kill_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.kill)

    def _hear(self, body: bytes) -> None:
        message = decode_up(body)
        if isinstance(message, Ready):
            self.ready = message
        elif isinstance(message, Refused):
            self.refusal = message.message
        elif isinstance(message, Fault):
            self.fault = message.message
        self._answered.set()
