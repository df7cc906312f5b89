"""A process of the pool: runs one task at a time on its main thread, and can be killed.

Started as `python -m conveyor.worker.process_main IN OUT`. SIGTERM interrupts the task (an async
one is cancelled, in another `Terminated` is raised) and ends the process; it also ends when the
child it belongs to dies.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from conveyor.keeper.process import log_to_stderr
from conveyor.worker.frames import read_frames, write_frame
from conveyor.worker.process_messages import (
    Ending,
    FromProcess,
    Job,
    News,
    Refused,
    Setup,
    Unusable,
    Waiting,
    decode_to_process,
    done,
)
from conveyor.worker.spawn import KILL, open_pipes

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.context import CurrentTask
    from conveyor.core.outcome import Outcome
    from conveyor.core.task import Lease
    from conveyor.tasks import TaskDefinition

log = logging.getLogger("conveyor.worker")
EXIT_TERMINATED = 128 + signal.SIGTERM
NEWS_EVERY = 0.25
_PR_SET_PDEATHSIG = 1


class Terminated(BaseException):
    """Raised in the running task when its process is told to end."""


def main(arguments: list[str]) -> int:
    """Run jobs until the pipe closes; returns the exit code."""
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, _terminate)
    read, write = open_pipes(arguments)
    frames = read_frames(read)
    setup = next(map(decode_to_process, frames), None)
    if not isinstance(setup, Setup):
        return EXIT_TERMINATED
    _die_with(setup.parent)
    jobs: SimpleQueue[Job] = SimpleQueue()
    threading.Thread(target=_listen, args=(frames, jobs), name="conveyor-line", daemon=True).start()
    try:
        with asyncio.Runner() as runner:
            Desk(setup, write, runner).serve(jobs)
    except Terminated:
        return EXIT_TERMINATED
    return 0


def _terminate(*_: object) -> None:
    raise Terminated


def _die_with(parent: int) -> None:
    """Let the kernel end this process with its parent, also while user code holds the GIL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, KILL)
    if os.name == "posix" and os.getppid() != parent:
        os._exit(EXIT_TERMINATED)


def _listen(frames: Iterator[bytes], jobs: SimpleQueue[Job]) -> None:
    for body in frames:
        message = decode_to_process(body)
        if isinstance(message, Job):
            jobs.put(message)
    os._exit(EXIT_TERMINATED)


class Desk:
    """Imports the app, opens its resources on a private loop, and runs one job after the other."""

    def __init__(self, setup: Setup, write: int, runner: asyncio.Runner) -> None:
        self._setup = setup
        self._runner = runner
        self._mouth = Mouth(write)
        self._state: Any = {}
        self._names: dict[str, TaskDefinition[..., Any, Any]] = {}
        self._app: Conveyor

    def serve(self, jobs: SimpleQueue[Job]) -> None:
        """Run jobs until terminated."""
        from conveyor.worker import logs

        resources = AsyncExitStack()
        try:
            self._load()
            self._state = self._runner.run(resources.enter_async_context(self._app.resources()))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the pool must hear of it
            self._mouth.say(Unusable(f"{type(exc).__name__}: {exc}"))
            return
        capture = logs.install()
        self._mouth.say(Waiting())
        try:
            while True:
                self._run(jobs.get().lease)
        finally:
            logs.remove(capture)
            self._runner.run(self._leave(resources))

    async def _leave(self, resources: AsyncExitStack) -> None:
        with suppress(Exception):
            await resources.aclose()
        with suppress(Exception):
            await self._app.close()

    def _load(self) -> None:
        from conveyor.loading import load
        from conveyor.worker.registry import known_names

        self._app, module = load(self._setup.target)
        self._app.url = self._app.url if self._setup.url is None else self._setup.url
        log_to_stderr(self._setup.log_level)
        self._names = known_names(self._app.definitions, module)

    def _run(self, lease: Lease) -> None:
        from conveyor.context import CurrentTask

        timeout = lease.task.timeout
        deadline = None if timeout is None else self._app.clock.time() + timeout
        task = CurrentTask(lease, self._state, deadline, self._mouth.touch, self._app)
        self._mouth.open_for(task)
        outcome = contextvars.Context().run(self._outcome, task)
        self._mouth.close_with(outcome)

    def _outcome(self, task: CurrentTask) -> Outcome:
        from conveyor.context import activate
        from conveyor.core.aimd import is_refusal
        from conveyor.core.outcome import Failed
        from conveyor.core.task import ErrorInfo
        from conveyor.system import dice
        from conveyor.worker.outcomes import (
            outcome_of_exception,
            outcome_of_value,
            place_of,
            prepare,
        )

        definition = self._names.get(task.name)
        if definition is None:
            # The files have changed since the child imported them.
            return Failed(ErrorInfo("conveyor.errors.UnknownTask", f"no {task.name!r} here"))
        activate(task)
        try:
            args, kwargs = prepare(definition, task.lease, self._app.packing)
            if definition.transactional:
                return self._transact(task, definition, args, kwargs)
            value = self._call(task, definition, args, kwargs)
            return outcome_of_value(definition, value)
        except Terminated as exc:
            # What a coroutine was cancelled with knows where it was.
            self._mouth.say(Ending(place_of(exc.__context__ or exc)))
            raise
        except BaseException as exc:  # noqa: BLE001 - SystemExit in user code fails the task only
            if definition.rules is not None and is_refusal(exc, self._app.clock.time()):
                self._mouth.say(Refused())
            return outcome_of_exception(exc, task.lease, definition, self._app.clock, dice)

    def _call(
        self,
        task: CurrentTask,
        definition: TaskDefinition[..., Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        from conveyor.middleware.base import run_chain, run_layers

        layers = run_layers(self._app.middleware)
        is_async = definition.is_async
        if not layers and not is_async:
            return definition.fn(*args, **kwargs)

        async def innermost() -> Any:
            value = definition.fn(*args, **kwargs)
            return await value if is_async else value

        async def whole() -> Any:
            return await run_chain(layers, task, innermost)()

        return self._on_loop(whole())

    def _transact(
        self,
        task: CurrentTask,
        definition: TaskDefinition[..., Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Outcome:
        from conveyor.middleware.base import run_chain, run_layers
        from conveyor.worker.executor import Run
        from conveyor.worker.transacting import Transacting

        clock = self._app.clock
        run = Run(task.lease, definition, "process", 0)
        run.context, run.started_at, run.started_mono = task, clock.time(), clock.monotonic()
        transacting = Transacting(self._app, clock)
        if not definition.is_async:
            call = partial(self._call, task, definition, args, kwargs)
            return transacting.run_sync(run, call)
        innermost = partial(definition.fn, *args, **kwargs)
        chain = run_chain(run_layers(self._app.middleware), task, innermost)
        outcome: Outcome = self._on_loop(transacting.run(run, chain))
        return outcome

    def _on_loop(self, coroutine: Any) -> Any:
        """Run it; SIGTERM cancels it, so that it can clean up, and ends the process after."""
        loop = self._runner.get_loop()
        main = loop.create_task(coroutine)
        told = False

        def terminate(*_: object) -> None:
            nonlocal told
            told = True
            loop.call_soon_threadsafe(main.cancel)

        previous = signal.signal(signal.SIGTERM, terminate)
        try:
            return loop.run_until_complete(main)
        finally:
            signal.signal(signal.SIGTERM, previous)
            if told:
                raise Terminated


class Mouth:
    """Tells the child what there is to tell: news at most four times a second, then the end."""

    def __init__(self, write: int) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._task: CurrentTask | None = None
        self._fresh = threading.Event()
        threading.Thread(target=self._tell, name="conveyor-news", daemon=True).start()

    def say(self, message: FromProcess) -> None:
        """Send one message."""
        with self._lock, suppress(OSError):  # nobody listens: `_listen` ends this process
            write_frame(self._write, message)

    def touch(self, task: CurrentTask) -> None:
        """There is news of the task. Cheap, from any thread."""
        self._fresh.set()

    def open_for(self, task: CurrentTask) -> None:
        """A job begins."""
        self._task = task

    def close_with(self, outcome: Outcome) -> None:
        """The job has ended: send its outcome with the last news."""
        task, self._task = self._task, None
        progress, lines = _news(task)
        self.say(done(outcome, progress, lines))

    def _tell(self) -> None:
        pause = threading.Event()
        while self._fresh.wait():
            self._fresh.clear()
            task = self._task
            if task is not None:
                with self._lock, suppress(OSError):
                    # Under the lock, so that no news follow the end.
                    if self._task is task:
                        write_frame(self._write, News(*_news(task)))
            pause.wait(NEWS_EVERY)


def _news(task: CurrentTask | None) -> tuple[Any, tuple[str, ...]]:
    if task is None:
        return None, ()
    return task.note, task.log_lines.lines() if task.log_lines is not None else ()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
