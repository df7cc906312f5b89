"""Runs one leased task on the loop, in a thread or in a process, and stops it when asked.

A run ends once: the first outcome reported wins, everything later is ignored. How a run is
stopped depends on where it runs: code on the loop is cancelled and, if it ignores that for the
grace period, fenced; a process is terminated, then killed; code in a thread sees
`current_task().cancelled` and is fenced after the grace period, its thread replaced and counted
as stuck.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from conveyor.context import CurrentTask, activate
from conveyor.core.aimd import is_refusal
from conveyor.core.envelope import is_wrapped
from conveyor.core.errors import InvalidOption
from conveyor.core.outcome import Cancelled, Committed, Failed, Interrupted, Outcome, TimedOut
from conveyor.middleware.base import Middleware, RunNext, run_chain
from conveyor.worker.adapting import slower
from conveyor.worker.outcomes import (
    describe,
    outcome_of_exception,
    outcome_of_value,
    place_now,
    place_of,
    prepare,
    timed_out,
)

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.core.clock import Clock
    from conveyor.core.rules import Rules
    from conveyor.core.task import Lease, Progress
    from conveyor.tasks import TaskDefinition
    from conveyor.worker.deadlines import Deadline, Deadlines
    from conveyor.worker.processes import ProcessPool
    from conveyor.worker.threads import ThreadPool
    from conveyor.worker.transacting import Transacting


def _call_into(
    call: Callable[[], Any], ended: asyncio.Future[Any], loop: asyncio.AbstractEventLoop
) -> None:
    end: tuple[Any, BaseException | None]
    try:
        end = call(), None
    except BaseException as exc:  # noqa: BLE001 - handed through the middleware
        end = None, exc
    loop.call_soon_threadsafe(ended.set_result, end)


def where_to_run(lease: Lease, definition: TaskDefinition[..., Any, Any]) -> str:
    """Say where a task runs."""
    if definition.executor == "process" or lease.must_run_alone:
        return "process"
    return "loop" if definition.is_async else "thread"


class Stop(StrEnum):
    """Why a run is being stopped."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    SHUTDOWN = "shutdown"


class Run:
    """One execution in flight."""

    __slots__ = (
        "context",
        "deadline",
        "definition",
        "ended",
        "lease",
        "place",
        "slot",
        "started_at",
        "started_mono",
        "stop",
        "stuck",
        "task",
        "thread",
        "where",
    )

    def __init__(
        self, lease: Lease, definition: TaskDefinition[..., Any, Any], where: str, slot: int
    ) -> None:
        self.lease = lease
        self.definition = definition
        self.where = where
        self.slot = slot
        self.context: CurrentTask
        self.started_at = 0.0
        self.started_mono = 0.0
        self.deadline: Deadline | None = None
        self.task: asyncio.Task[None] | None = None
        self.thread: int | None = None
        self.place = ""
        """Where the code was when its time was up."""
        self.stop: Stop | None = None
        self.ended = False
        self.stuck = False


class Executor:
    """Starts and stops runs; reports each end exactly once through `on_end(run, outcome)`."""

    def __init__(
        self,
        *,
        layers: Sequence[Middleware],
        state: Mapping[str, Any],
        clock: Clock,
        dice: Callable[[], float],
        deadlines: Deadlines,
        threads: ThreadPool,
        processes: Callable[[], ProcessPool],
        grace: float,
        on_end: Callable[[Run, Outcome], None],
        on_note: Callable[[CurrentTask], None],
        app: Conveyor | None = None,
    ) -> None:
        self._app = app
        self._packing = None if app is None else app.packing
        self._layers = layers
        self._state = state
        self._clock = clock
        self._dice = dice
        self._deadlines = deadlines
        self._threads = threads
        self._processes = processes
        self._grace = grace
        self._on_end = on_end
        self._on_note = on_note
        self._loop = asyncio.get_running_loop()
        self._slowing: set[asyncio.Task[None]] = set()
        self.stuck = 0

    def start(self, run: Run) -> None:
        """Begin a run; returns at once."""
        timeout = run.lease.task.timeout
        now = run.started_at = self._clock.time()
        run.started_mono = self._clock.monotonic()
        deadline_at = None if timeout is None else now + timeout
        run.context = CurrentTask(run.lease, self._state, deadline_at, self._on_note, self._app)
        if run.where == "thread":
            job = partial(contextvars.Context().run, self._in_thread, run)
            self._threads.submit(job, partial(self._thread_ended, run))
        else:
            body = self._on_loop if run.where == "loop" else self._in_process
            run.task = self._loop.create_task(body(run))
        if timeout is not None and run.where != "process":
            run.deadline = self._deadlines.after(timeout, partial(self.stop, run, Stop.TIMEOUT))

    def stop(self, run: Run, reason: Stop) -> None:
        """Ask a run to end; after the grace period it ends in the books whatever it does."""
        if run.ended or run.stop is not None:
            return
        run.stop = reason
        if reason is Stop.TIMEOUT and run.where == "thread":
            run.place = place_now(run.thread)
        run.context.cancelled = True
        if run.where == "process":
            self._processes().cancel(run.lease.task.id)
        elif run.task is not None:
            run.task.cancel()
        if run.where != "process":
            self._rearm(run)

    def _rearm(self, run: Run) -> None:
        if run.deadline is not None:
            run.deadline.cancel()
        run.deadline = self._deadlines.after(self._grace, partial(self._give_up, run))

    def _give_up(self, run: Run) -> None:
        if run.ended:
            return
        run.stuck = True
        self.stuck += 1
        if run.where == "thread":
            self._threads.abandon()
        self._end(run, self._stopped(run))

    def _stopped(self, run: Run) -> Outcome:
        if run.stop is Stop.TIMEOUT:
            return TimedOut(timed_out(run.lease.task.timeout or 0.0, run.place))
        return Cancelled() if run.stop is Stop.CANCEL else Interrupted()

    def _end(self, run: Run, outcome: Outcome) -> None:
        if run.ended:
            return
        run.ended = run.context.over = True
        if run.deadline is not None:
            run.deadline.cancel()
        self._on_end(run, outcome)

    # -- on the loop

    async def _on_loop(self, run: Run) -> None:
        activate(run.context)
        try:
            args, kwargs = await self._arguments(run)
            call: RunNext = partial(run.definition.fn, *args, **kwargs)
            if self._layers:
                call = run_chain(self._layers, run.context, call)
            if run.definition.transactional:
                outcome = await self._transacting().run(run, call)
            else:
                outcome = outcome_of_value(run.definition, await call())
            if run.stop is Stop.TIMEOUT and not isinstance(outcome, Committed):
                outcome = self._stopped(run)
        except BaseException as exc:  # noqa: BLE001 - SystemExit in user code fails the task only
            outcome = self._of_exception(run, exc)
        if run.stuck:
            self.stuck -= 1
        self._end(run, outcome)

    async def _arguments(self, run: Run) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if is_wrapped(run.lease.task.payload):
            return await asyncio.to_thread(prepare, run.definition, run.lease, self._packing)
        return prepare(run.definition, run.lease, self._packing)

    def _transacting(self) -> Transacting:
        from conveyor.worker.transacting import Transacting

        if self._app is None:
            raise InvalidOption("a transactional task needs an app: it has the sessions")
        return Transacting(self._app, self._clock)

    def _of_exception(self, run: Run, exc: BaseException) -> Outcome:
        if run.stop is not None:
            run.place = run.place or place_of(exc)
            return self._stopped(run)
        if run.definition.rules is not None and is_refusal(exc, self._clock.time()):
            self._loop.call_soon_threadsafe(self._slow_down, run.definition.rules)
        return outcome_of_exception(exc, run.lease, run.definition, self._clock, self._dice)

    def _slow_down(self, rules: Rules) -> None:
        if (app := self._app) is None:
            return
        for rate in rules.adapting:
            task = self._loop.create_task(slower(app, rate), name="conveyor-slow-down")
            self._slowing.add(task)
            task.add_done_callback(self._slowing.discard)

    # -- in a thread

    def _in_thread(self, run: Run) -> Outcome:
        run.thread = threading.get_ident()
        activate(run.context)
        try:
            args, kwargs = prepare(run.definition, run.lease, self._packing)
            call = partial(run.definition.fn, *args, **kwargs)
            if self._layers:
                call = partial(self._layered_in_thread, run, call)
            if run.definition.transactional:
                outcome = self._transacting().run_sync(run, call)
            else:
                outcome = outcome_of_value(run.definition, call())
        except BaseException as exc:  # noqa: BLE001 - SystemExit in user code fails the task only
            return self._of_exception(run, exc)
        stopped = run.stop is Stop.TIMEOUT and not isinstance(outcome, Committed)
        return self._stopped(run) if stopped else outcome

    def _layered_in_thread(self, run: Run, call: Callable[[], Any]) -> Any:
        """Run the middleware on the loop and, innermost, the function in a thread of this pool:
        this thread waits, so that the function keeps the slot it was given."""
        turn: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

        async def innermost() -> Any:
            ended: asyncio.Future[Any] = self._loop.create_future()
            # Context variables that the middleware set (a trace) hold in the function too.
            within = partial(contextvars.copy_context().run, call)
            turn.put(partial(_call_into, within, ended, self._loop))
            value, error = await ended
            if error is not None:
                raise error
            return value

        async def onion() -> tuple[Any, BaseException | None]:
            activate(run.context)
            try:
                return await run_chain(self._layers, run.context, innermost)(), None
            except BaseException as exc:  # noqa: BLE001 - a SystemExit would end the loop
                return None, exc
            finally:
                turn.put(None)

        whole = asyncio.run_coroutine_threadsafe(onion(), self._loop)
        while (job := turn.get()) is not None:
            job()
        value, error = whole.result()
        if error is not None:
            raise error
        return value

    def _thread_ended(self, run: Run, outcome: Outcome) -> None:
        if run.stuck:
            self.stuck -= 1
            self._threads.recovered()
        self._end(run, outcome)

    # -- in a process

    async def _in_process(self, run: Run) -> None:
        def on_note(progress: Progress | None, lines: tuple[str, ...]) -> None:
            run.context.note = progress or run.context.note
            if lines:
                run.context.keep_lines(lines)
            self._on_note(run.context)

        def on_refusal() -> None:
            if run.definition.rules is not None:
                self._slow_down(run.definition.rules)

        try:
            outcome = await self._processes().run(
                run.lease,
                timeout=run.lease.task.timeout,
                fresh=run.lease.must_run_alone,
                on_note=on_note,
                on_refusal=on_refusal,
            )
        except Exception as exc:  # noqa: BLE001 - the pool failed, not the task
            outcome = Failed(describe(exc))
        except asyncio.CancelledError:
            outcome = Interrupted()
        if run.stop is Stop.SHUTDOWN and isinstance(outcome, Cancelled):
            outcome = Interrupted()
        self._end(run, outcome)
