"""Runs transactional tasks: their rows, what they enqueue and their end commit together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from conveyor.brokers.base import Settlement
from conveyor.core.lifecycle import decide
from conveyor.core.outcome import Committed, Outcome, Succeeded
from conveyor.core.task import Execution, Lease
from conveyor.worker.outcomes import outcome_of_value

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session

    from conveyor.app import Conveyor
    from conveyor.context import CurrentTask
    from conveyor.core.clock import Clock
    from conveyor.tasks import TaskDefinition
    from conveyor.transactions.homes import Homes
    from conveyor.transactions.locks import Later, LockWatch
    from conveyor.transactions.running import Ended, TaskTransaction


class Running(Protocol):
    """An execution under way."""

    context: CurrentTask
    started_at: float
    started_mono: float

    @property
    def lease(self) -> Lease:
        """What it runs under."""

    @property
    def definition(self) -> TaskDefinition[..., Any, Any]:
        """What it runs."""


class Transacting:
    """Opens a session for an execution, and ends both in one commit."""

    def __init__(self, app: Conveyor, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def run(self, run: Running, call: Callable[[], Awaitable[Any]]) -> Outcome:
        """Run an async function. Raises what it raises, `StaleExecution` and SQLAlchemy's errors:
        then nothing is stored."""
        from conveyor.transactions.running import TaskTransaction

        maker: Any = self._app.sessions
        async with maker() as session:
            plain: Session = session.sync_session
            homes = await self._homes(plain.get_bind().engine)
            transaction = TaskTransaction(plain, homes, run.lease)
            earlier = await session.run_sync(lambda _: transaction.earlier_result())
            if earlier is not None:
                return Succeeded(earlier)
            limit = asyncio.timeout(None)
            watch = _watch(plain, run.lease, asyncio.get_running_loop().call_later, _stop(limit))
            run.context.lend(session)
            try:
                async with limit:
                    outcome = outcome_of_value(run.definition, await call())
                    if not isinstance(outcome, Succeeded):
                        return outcome
                    ended = await session.run_sync(
                        lambda _: self._finish(run, transaction, outcome)
                    )
            except TimeoutError:
                watch.check()
                raise
            finally:
                run.context.lend(None)
                watch.close()
        return Committed(ended.result) if ended.known else Succeeded(ended.result)

    def run_sync(self, run: Running, call: Callable[[], Any]) -> Outcome:
        """Do what `run` does for other functions, in the thread that runs them."""
        from conveyor.transactions.running import TaskTransaction

        maker: Any = self._app.sessions
        with maker() as session:
            homes = self._app.run_sync(self._homes(session.get_bind().engine))
            transaction = TaskTransaction(session, homes, run.lease)
            earlier = transaction.earlier_result()
            if earlier is not None:
                return Succeeded(earlier)
            watch = _watch(session, run.lease, _in_thread, _undo)
            run.context.lend(session)
            try:
                outcome = outcome_of_value(run.definition, call())
                watch.check()
                if not isinstance(outcome, Succeeded):
                    return outcome
                ended = self._finish(run, transaction, outcome)
            finally:
                run.context.lend(None)
                watch.close()
        return Committed(ended.result) if ended.known else Succeeded(ended.result)

    def _finish(self, run: Running, transaction: TaskTransaction, outcome: Succeeded) -> Ended:
        settlement = partial(self._settlement, run, outcome)
        return transaction.finish(settlement, outcome.result, self._clock.time())

    async def _homes(self, engine: Engine) -> Homes:
        from conveyor.transactions.enqueue import homes_of
        from conveyor.transactions.savepoints import sound_savepoints

        sound_savepoints(engine)
        homes = homes_of(await self._app.client())
        await homes.prepare(engine, ())
        return homes

    def _settlement(self, run: Running, outcome: Succeeded) -> Settlement:
        lines = run.context.log_lines
        execution = Execution(
            run.lease.execution,
            run.lease.attempt,
            outcome.name,
            run.lease.worker,
            run.started_at,
            self._clock.monotonic() - run.started_mono,
            run.definition.code_version,
            logs=lines.lines() if lines is not None else (),
        )
        # A success throws no dice.
        return Settlement(run.lease, decide(run.lease, outcome, dice=0.0), execution)


def _watch(
    session: Session, lease: Lease, later: Later, abort: Callable[[Connection], None]
) -> LockWatch:
    from conveyor.transactions.locks import LockWatch

    return LockWatch(session, f"task {lease.task.id} ({lease.task.name})", later, abort)


def _stop(limit: asyncio.Timeout) -> Callable[[Connection], None]:
    return lambda _: limit.reschedule(asyncio.get_running_loop().time())


def _in_thread(seconds: float, call: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
    return timer


def _undo(connection: Connection) -> None:
    """Take the lock away while the task's own thread is busy elsewhere: SQLite serves both."""
    raw: Any = connection.connection.dbapi_connection
    with suppress(Exception):
        raw.rollback()
