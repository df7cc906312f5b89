"""A child process: imports the user's app and runs the engine under a supervisor.

Started as `python -m conveyor.worker.child IN OUT` with two pipe descriptors. It does not choose
when to begin (the supervisor holds the lease), and it does not outlive its supervisor.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from conveyor.keeper.process import log_to_stderr
from conveyor.worker.board import Board
from conveyor.worker.frames import read_frames, write_frame
from conveyor.worker.memory import give_back
from conveyor.worker.messages import (
    EXIT_ABORTED,
    EXIT_FAULT,
    EXIT_OK,
    EXIT_UNAVAILABLE,
    EXIT_USER_ERROR,
    Abort,
    Cancel,
    Configure,
    Down,
    Fault,
    Go,
    Ready,
    Refused,
    Stop,
    Up,
    decode_down,
)
from conveyor.worker.spawn import open_pipes

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.brokers.base import Broker
    from conveyor.schedules.publisher import Publisher
    from conveyor.worker.engine import Engine

log = logging.getLogger("conveyor.worker")
_ORPHAN_GRACE = 2.0
"""Seconds an orphan gets to cancel what it runs before it is ended."""


def main(arguments: list[str]) -> int:
    """Run the child; returns its exit code."""
    # Ctrl+C reaches the whole terminal group: the supervisor decides what it means. A handler, not
    # SIG_IGN, because programs that tasks start would inherit that.
    signal.signal(signal.SIGINT, lambda *_: None)
    read, write = open_pipes(arguments)
    line = Line(read, write)
    configure = line.first()
    if configure is None:
        return EXIT_ABORTED
    try:
        code = _work(configure, line)
    except StartError as exc:
        line.say(Refused(str(exc)))
        code = exc.code
    except Exception as exc:
        log.exception("the engine failed")
        line.say(Fault(f"{type(exc).__name__}: {exc}"))
        code = EXIT_FAULT
    _leave_within(configure.settings.kill_grace, code)
    return code


class StartError(Exception):
    """The child cannot start, in one sentence."""

    def __init__(self, sentence: str, code: int = EXIT_USER_ERROR) -> None:
        super().__init__(sentence)
        self.code = code


def _work(configure: Configure, line: Line) -> int:
    from conveyor.core.errors import ConveyorError
    from conveyor.loading import load

    settings = configure.settings
    try:
        app, module = load(settings.target)
    except ConveyorError as exc:
        raise StartError(str(exc)) from exc
    log_to_stderr(settings.log_level)
    app.url = app.url if settings.url is None else settings.url
    board = Board.attach(configure.board)
    shift = Shift(app, module, configure, line, board)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(shift.run())


class Shift:
    """From the first connection to the last: what happens on the child's event loop."""

    def __init__(
        self, app: Conveyor, module: str, configure: Configure, line: Line, board: Board
    ) -> None:
        self._app = app
        self._module = module
        self._configure = configure
        self._line = line
        self._board = board
        self._go = asyncio.Event()
        self._engine: Engine | None = None
        self._aborted = False
        self._stopped = False

    async def run(self) -> int:
        """Get ready, wait for the lease, work until drained; returns the exit code."""
        loop = asyncio.get_running_loop()
        if sys.platform != "win32":
            loop.add_signal_handler(signal.SIGTERM, self._stop)
        broker = await self._connect()
        try:
            self._engine = engine = self._make_engine(broker)
            give_back()
            self._line.say(self._ready(engine))
            self._line.attach(loop, self._hear)
            await self._go.wait()
            if not self._stopped:
                async with self._publisher(broker).at_work():
                    await engine.run()
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_ORPHAN_GRACE):
                    await self._app.close()
        return EXIT_ABORTED if self._aborted else EXIT_OK

    async def _connect(self) -> Broker:
        from conveyor.brokers.url import opened
        from conveyor.core.errors import BrokerError, ConveyorError
        from conveyor.core.urls import redact
        from conveyor.worker.registry import warn_of_limits_that_multiply

        url = self._app.url
        if ":memory:" in url or url.partition("?")[0] in {"sqlite:", "sqlite://", "sqlite:///"}:
            raise StartError(
                f"{redact(url)} lives within one process and a worker has several; "
                "use a file, e.g. sqlite:///conveyor.db"
            )
        try:
            broker = await opened(url)
        except ConveyorError as exc:
            code = EXIT_UNAVAILABLE if isinstance(exc, BrokerError) else EXIT_USER_ERROR
            raise StartError(str(exc), code) from exc
        # Tasks that enqueue tasks share this connection; closing the app closes it.
        self._app.attach(broker)
        warn_of_limits_that_multiply(self._app.definitions, broker)
        return broker

    def _make_engine(self, broker: Broker) -> Engine:
        from conveyor.system import SystemClock
        from conveyor.worker.engine import Engine

        return Engine(
            self._app,
            broker,
            settings=self._configure.settings,
            token=self._configure.token,
            board=self._board,
            clock=SystemClock(),
            module=self._module,
        )

    def _publisher(self, broker: Broker) -> Publisher:
        from conveyor.schedules.publisher import Publisher
        from conveyor.system import SystemClock, dice

        settings = self._configure.settings
        # While files change, the newest code is what counts, not the newest worker.
        born = SystemClock().time() if settings.reload else settings.born
        return Publisher(self._app, broker, scope=settings.target, born=born, dice=dice)

    def _ready(self, engine: Engine) -> Ready:
        versions = {
            name: definition.code_version for name, definition in self._app.definitions.items()
        }
        whole = hashlib.sha256(repr(sorted(versions.items())).encode()).hexdigest()[:8]
        return Ready(self._app.url, tuple(sorted(engine.names)), versions, whole)

    def _stop(self) -> None:
        self._stopped = True
        if self._engine is not None and self._go.is_set():
            self._engine.stop()
        self._go.set()

    def _abort(self) -> None:
        self._aborted = True
        if self._engine is not None and self._go.is_set():
            self._engine.abort()
        self._stopped = True
        self._go.set()

    def _hear(self, message: Down | None) -> None:
        match message:
            case Go():
                self._go.set()
            case Stop():
                self._stop()
            case Cancel(ids) if self._engine is not None:
                self._engine.cancel(ids)
            case Abort() | None:
                self._abort()


class Line:
    """The pipes to the supervisor. A thread of its own listens, so that the supervisor's death is
    noticed even while the event loop stands still.
    """

    def __init__(self, read: int, write: int) -> None:
        self._write = write
        self._frames = read_frames(read)
        self._lock = threading.Lock()
        self._early: list[Down | None] = []
        self._deliver: Callable[[Down | None], Any] | None = None

    def first(self) -> Configure | None:
        """Wait for the first message, then listen on in the background. None: there is nobody."""
        message = next(map(decode_down, self._frames), None)
        if not isinstance(message, Configure):
            return None
        threading.Thread(target=self._listen, name="conveyor-line", daemon=True).start()
        return message

    def say(self, message: Up) -> None:
        """Tell the supervisor."""
        with suppress(OSError):  # it is dead, and `_listen` ends this process
            write_frame(self._write, message)

    def attach(self, loop: asyncio.AbstractEventLoop, hear: Callable[[Down | None], Any]) -> None:
        """From now on call `hear` on the loop for each message; None means the supervisor died."""

        def deliver(message: Down | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: this process is ending anyway
                loop.call_soon_threadsafe(hear, message)

        with self._lock:
            self._deliver = deliver
            for message in self._early:
                deliver(message)
            self._early.clear()

    def _listen(self) -> None:
        for body in self._frames:
            self._pass_on(decode_down(body))
        self._pass_on(None)
        _leave_within(_ORPHAN_GRACE, EXIT_ABORTED)

    def _pass_on(self, message: Down | None) -> None:
        with self._lock:
            if self._deliver is None:
                self._early.append(message)
            else:
                self._deliver(message)


def _leave_within(seconds: float, code: int) -> None:
    """End this process by then, whatever threads or exit handlers of user code still do."""

    def leave() -> None:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.name = "conveyor-exit"
    timer.start()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
