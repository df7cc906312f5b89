"""The heart of a worker process: one loop that settles, leases and starts, one step at a time.

        ┌────────── settlements ◀── decide ◀── outcome ◀──────────┐
        ▼                                                         │
      step ──▶ leases ──▶ waiting (bounded by Prefetch) ──▶ Executor
        ▲
        └── bell (tasks available, cancellation), ended runs, or the one-second poll

Exactly one step is in flight, so its batch sizes itself to the load. The engine never decides what
becomes of a task (`core.lifecycle` does) and never writes but through the broker's verbs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from conveyor.brokers.base import Settlement, Step, StepReply
from conveyor.core.errors import BrokerError
from conveyor.core.outcome import Cancelled, Outcome
from conveyor.core.task import Lease
from conveyor.flows import builtin
from conveyor.flows.keying import Code
from conveyor.keeper.pauses import Pauses
from conveyor.middleware.base import run_layers
from conveyor.system import dice as system_dice
from conveyor.worker import logs
from conveyor.worker.adoption import Adoption
from conveyor.worker.chores import chores
from conveyor.worker.completer import Completer
from conveyor.worker.deadlines import Deadlines
from conveyor.worker.executor import Executor, Run, Stop, where_to_run
from conveyor.worker.follower import Follower
from conveyor.worker.gathering import gather
from conveyor.worker.intake import Intake
from conveyor.worker.notes import EVERY, Notes
from conveyor.worker.pools import LazyPool
from conveyor.worker.prefetch import Prefetch
from conveyor.worker.registry import known_names
from conveyor.worker.served import Served
from conveyor.worker.threads import ThreadPool
from conveyor.worker.waiting import Waiting

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock
    from conveyor.worker.board import Board, LocalBoard
    from conveyor.worker.settings import WorkerSettings

log = logging.getLogger("conveyor.worker")
POLL = 1.0
"""Seconds between steps of an idle worker, whatever the bell says."""
BUSY_BATCH = 50
SAFETY = 3.0
"""Running code is stopped this long before an unrenewed lease ends (contract D8)."""
HOARD = 1.0
"""Seconds a leased task may wait for a slot before it goes back."""
ALL_HELD = 1_000_000
"""More leases than a worker ever has."""


class Engine:
    """Runs an app's tasks in this process, on this event loop.

    `token` names the worker's lease, which someone else keeps alive (the supervisor, through
    `board.lease_until`). `run()` returns when `stop()` has drained it or, in burst mode, when
    nothing is left to do.
    """

    def __init__(
        self,
        app: Conveyor,
        broker: Broker,
        *,
        settings: WorkerSettings,
        token: str,
        board: Board | LocalBoard,
        clock: Clock,
        dice: Callable[[], float] = system_dice,
        module: str = "",
    ) -> None:
        self.app = app
        self.broker = broker
        self.settings = settings
        self.token = token
        self.board = board
        self.steps = self.leased = 0
        self.completer = Completer(token, dice)
        code = Code(known_names(app.definitions, module), app.packing)
        self.names = {**code.definitions, **builtin.definitions(app, code)}
        self._clock = clock
        self._dice = dice
        self._waiting = Waiting()
        self._intake = Intake(broker, self.names, clock, app.packing)
        self._running: dict[str, Run] = {}
        self._prefetch = Prefetch(settings.concurrency)
        self._notes = Notes(broker)
        self._follower = Follower(broker, clock, dice, self._ring_bell, code)
        self._served = Served(broker, settings, self._intake, clock)
        self._signal = asyncio.Event()
        self._rung = self._more = True
        self._adoption = Adoption(broker, clock, token, self.names)
        self._draining = self._stopping = self._paused = self._aborted = self._fenced = False
        self._executor: Executor
        self._pool = LazyPool(app, settings)

    # -- from outside

    def stop(self) -> None:
        """Drain: lease nothing more, give back what was not started, let the rest end within
        `shutdown_grace` seconds, then interrupt it."""
        if self._stopping:
            return
        self._stopping = True
        self.drain()
        later = asyncio.get_running_loop().call_later
        later(self.settings.shutdown_grace, self._stop_all, Stop.SHUTDOWN)

    def drain(self) -> None:
        """Do what `stop` does, without an end to the grace."""
        self._draining = True
        self.completer.release(self._waiting.clear())
        self._signal.set()

    def pause(self, paused: bool) -> None:
        """Lease nothing more and give back what was not started, or go on."""
        self._paused = paused
        if paused:
            self.completer.release(self._waiting.clear())
        self._ring_bell()

    def abort(self) -> None:
        """Stop everything now, settling nothing more."""
        self._aborted = self._draining = True
        self._stop_all(Stop.SHUTDOWN)
        self._signal.set()

    def cancel(self, ids: Iterable[str]) -> None:
        """Stop these tasks if they run here; they end as cancelled."""
        asked = set(ids)
        for task_id in asked & self._running.keys():
            self._executor.stop(self._running[task_id], Stop.CANCEL)
        for lease in self._waiting.take(asked):
            self.completer.unstarted(lease, Cancelled())

    # -- the loop

    async def run(self) -> None:
        """Work until drained (or, in burst mode, until nothing is left)."""
        capture = logs.install()
        deadlines = Deadlines()
        threads = ThreadPool(self.settings.concurrency)
        # Notes wait for the broker, the pulse must not: it watches the lease.
        beside = [
            asyncio.create_task(self._pulse(), name="conveyor-pulse"),
            asyncio.create_task(self._notes.keep(), name="conveyor-notes"),
            asyncio.create_task(self._follower.keep(), name="conveyor-follower"),
            *chores(self.app, self.broker, self._clock, self._dice),
        ]
        try:
            async with (
                self.app.resources() as state,
                self.broker.listen(self.token, self._served.queues, self._ring_bell),
            ):
                self._executor = Executor(
                    layers=run_layers(self.app.middleware),
                    state=state,
                    clock=self._clock,
                    dice=self._dice,
                    deadlines=deadlines,
                    threads=threads,
                    processes=self._pool.get,
                    grace=self.settings.kill_grace,
                    on_end=self._ended,
                    on_note=self._notes.touch,
                    app=self.app,
                )
                await self._work()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            deadlines.close()
            threads.close()
            await self._pool.close()
            threads.join(1.0)
            logs.remove(capture)

    async def _work(self) -> None:
        while not self._done():
            if self._should_step():
                await self._beat()
            else:
                await self._wait()

    def _done(self) -> bool:
        return self._aborted or (self._draining and not self._busy())

    def _busy(self) -> bool:
        here = self._running or self._waiting or self.completer.pending
        return bool(here) or self._follower.busy

    def _should_step(self) -> bool:
        return bool(self.completer.pending) or self._rung or (self._more and self._want() > 0)

    def _takes_none(self) -> bool:
        return self._draining or self._fenced or self._paused

    def _want(self) -> int:
        if self._takes_none():
            return 0
        return self._prefetch.want(len(self._running), len(self._waiting))

    def _is_half_through(self) -> bool:
        return self._prefetch.is_half_through(len(self._running), self._waiting)

    async def _wait(self) -> None:
        self._signal.clear()
        try:
            async with asyncio.timeout(POLL):
                await self._signal.wait()
        except TimeoutError:
            self._rung = True

    async def _beat(self) -> None:
        """One step, and everything it brings."""
        self._signal.clear()
        self._rung = False
        batch: list[Settlement] = []
        try:
            # Behind a backlog that leaves no slot free, parked tasks would wait for its end.
            await self._adopt(self._want() if self._more else 0)
            await self._served.refresh()
            await self._intake.note_held()
            want = self._want()
            batch = self.completer.take()
            slots = self._prefetch.want_gated(len(self._running), self._waiting)
            step = Step(self.token, self._served.queues, want, batch, slots)
            running = (run.lease for run in self._running.values())
            held = (lease.task.queue for lease in chain(running, self._waiting))
            reply = await self._served.step(step, held)
        except BrokerError as exc:
            self.completer.put_back(batch)
            await self._after_failure(exc)
            return
        self.board.stepped(self._clock.monotonic())
        self.steps += 1
        self.leased += len(reply.leases)
        self.completer.answered(batch, reply)
        self._follower.settled(batch, reply.refused)
        self._accept(reply.leases)
        self.cancel(reply.cancels)
        self._more = want > 0 and len(reply.leases) >= want
        await self._look_further(want, reply)
        if len(reply.leases) >= BUSY_BATCH or len(batch) >= BUSY_BATCH:
            gated = self._waiting.gated > 0
            await gather(self._signal, self._is_half_through if gated else None)

    async def _look_further(self, want: int, reply: StepReply) -> None:
        """After a step that left slots free: parked tasks, due times, the end of a burst."""
        if want == 0 or len(reply.leases) >= want:
            return
        await asyncio.sleep(0)  # what was just started begins first
        await self._adopt(want - len(reply.leases))
        due = min(POLL if reply.next_due is None else reply.next_due, self._adoption.next_look())
        if due < POLL:
            asyncio.get_running_loop().call_later(max(0.0, due), self._ring_bell)
        if self.settings.burst and not (self._busy() or self._rung or reply.leases):
            self._draining = not await self._found_new_queues()

    async def _adopt(self, most: int) -> None:
        """Take parked tasks: like gated ones, which they may be, only those that start soon."""
        most = min(most, self._prefetch.want_gated(len(self._running), self._waiting))
        try:
            self._accept(await self._adoption.look(self._served.queues, most))
        except BrokerError as exc:
            await self._after_failure(exc)

    async def _after_failure(self, exc: BrokerError) -> None:
        """The step's fate is unknown: wait, then ask which leases are ours."""
        log.warning("the broker failed a step: %s", exc)
        pauses = Pauses(self._dice)
        while not self._aborted:
            await asyncio.sleep(pauses.next())
            try:
                held = await self.broker.held(self.token, ALL_HELD)
            except BrokerError as again:
                log.debug("still no broker: %s", again)
                continue
            self._reconcile([holding.lease for holding in held])
            self._rung = True
            return

    def _reconcile(self, held: Sequence[Lease]) -> None:
        """Take up leases whose step reply was lost; forget settlements that were stored."""
        self.completer.reconcile(held)
        settling = {entry.lease.task.id for entry in self.completer.pending}
        here = {lease.task.id for lease in self._waiting} | self._running.keys() | settling
        self._accept([lease for lease in held if lease.task.id not in here])

    async def _found_new_queues(self) -> bool:
        try:
            more = await self._served.found_more()
        except BrokerError as exc:
            await self._after_failure(exc)
            return True
        self._rung = self._rung or more
        return more

    # -- starting and ending

    def _accept(self, leases: Iterable[Lease]) -> None:
        now = self._clock.monotonic()
        for lease in leases:
            if self._takes_none():
                self.completer.release([lease])
            elif (objection := self._intake.objection(lease)) is not None:
                self.completer.unstarted(lease, objection)
            else:
                self._waiting.add(lease, now)
        self._start_waiting()

    def _start_waiting(self) -> None:
        self.completer.release(self._waiting.late(self._clock.monotonic()))
        while self._waiting and len(self._running) < self.settings.concurrency:
            lease = self._waiting.next()
            definition = self.names[lease.task.name]
            where = where_to_run(lease, definition)
            slot = self.board.started(lease.task.id, lease.execution, alone=where == "process")
            run = Run(lease, definition, where, slot)
            self._running[lease.task.id] = run
            self._executor.start(run)

    def _ended(self, run: Run, outcome: Outcome) -> None:
        self._running.pop(run.lease.task.id, None)
        self.board.ended(run.slot)
        self._notes.forget(run.context)
        duration = self._clock.monotonic() - run.started_mono
        self._prefetch.ended(duration)
        if self._aborted:
            return
        self.completer.ended(run, outcome, duration)
        if self._waiting:
            self._start_waiting()
        self._signal.set()

    def _stop_all(self, reason: Stop) -> None:
        for run in list(self._running.values()):
            self._executor.stop(run, reason)

    # -- keeping time

    async def _pulse(self) -> None:
        """Twice a second: show life, give back hoarded work, watch the lease."""
        while True:
            await asyncio.sleep(EVERY)
            now = self._clock.monotonic()
            stuck = self._executor.stuck if hasattr(self, "_executor") else 0
            self.board.beat(now)
            self.board.publish(len(self._running), stuck, self.completer.stale)
            self._watch_lease(now)
            self._give_back_hoarded(now)

    def _give_back_hoarded(self, now: float) -> None:
        for lease, since in self._waiting.overdue(now - HOARD):
            self.completer.release([lease])
            # What runs is slower than what ran before: else the same step would lease it again.
            self._prefetch.ended(now - since)
            self._signal.set()

    def _watch_lease(self, now: float) -> None:
        fenced = now > self.board.lease_until - SAFETY
        if fenced and not self._fenced:
            log.error("the lease was not renewed in time: stopping what runs here")
            self.completer.release(self._waiting.clear())
            for run in list(self._running.values()):
                if run.definition.on_uncertain == "stop":
                    self._executor.stop(run, Stop.SHUTDOWN)
        self._fenced = fenced

    def _ring_bell(self) -> None:
        self._rung = True
        self._signal.set()
