"""Group commit: many verbs in one transaction, each of them still all or nothing by itself."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from conveyor.brokers.sqlite.connection import explain, is_busy
from conveyor.brokers.sqlite.doorbell import Doorbell
from conveyor.brokers.sqlite.naps import sharpen
from conveyor.brokers.sqlite.options import Location
from conveyor.brokers.sqlite.room import Room
from conveyor.brokers.sqlite.rows import micros
from conveyor.brokers.sqlite.statements import SQL
from conveyor.brokers.sqlite.transaction import Known, NeedsCare, Transaction
from conveyor.brokers.sqlite.turns import Turns

if TYPE_CHECKING:
    from conveyor.core.clock import Clock

Work = Callable[[Transaction], Any]
_FIRST_NAP, _SHORT_NAP, _LONG_NAP = 0.000_03, 0.000_5, 0.002
"""Seconds between tries for the write lock: nearly at once, soon, and after long waiting."""
_LONG_WAIT = 0.05
_BACK_TO_BACK = 0.001
_WAY = 0.003
"""Seconds in which everybody who waits tries at least once."""


class Outcome(NamedTuple):
    """What became of one verb."""

    value: Any = None
    error: BaseException | None = None
    transaction: Transaction | None = None
    """Set when it was committed."""


class Commits:
    """Runs verbs on one connection. In the writer's thread only. `bell` wakes whom it concerns
    what is committed.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        where: Location,
        clock: Clock,
        bell: Doorbell | None = None,
    ) -> None:
        self._bell = bell
        self._connection = connection
        self._where = where
        self._clock = clock
        self._known = Known(connection)
        self._turns = Turns(where.path)
        self._room = Room(connection, where)
        self._ended = 0.0
        self._is_sharp = False

    def close(self) -> None:
        """Let go of what is not the connection."""
        self._turns.close()

    def run(self, group: Sequence[Work]) -> list[Outcome]:
        """Run verbs in one transaction. One that fails takes nobody along, unless the whole
        transaction fails: then all of them do, and nothing is stored.
        """
        try:
            self._give_way()
            self._begin()
            outcomes = self._work(group)
            self._room.make()
            self._ring(outcomes)
            self._connection.execute("COMMIT")
            self._ended = time.monotonic()
        except BaseException as exc:  # noqa: BLE001 - every caller of the group gets it
            self._undo()
            return [Outcome(error=self._explained(exc)) for _ in group]
        finally:
            if self._bell is not None:
                self._bell.ring_owed()
        return outcomes

    def _work(self, group: Sequence[Work]) -> list[Outcome]:
        # Read under the write lock, so that times and numbers never run against the commits.
        now = micros(self._clock.time())
        event = (self._connection.execute(SQL["last_event"]).fetchone()[0] or 0) + 1
        outcomes = []
        for work in group:
            outcome = self._one(work, now, event, alone=len(group) == 1)
            outcomes.append(outcome)
            if outcome.transaction is not None and outcome.transaction.has_event:
                event += 1
        return outcomes

    def _ring(self, outcomes: Sequence[Outcome]) -> None:
        """Wake workers while the disk still writes: their look at the store begins with the write
        lock, so it waits for this commit and never misses what is in it.
        """
        if self._bell is None:
            return
        for outcome in outcomes:
            if outcome.transaction is not None:
                self._bell.rung(outcome.transaction)

    def _one(self, work: Work, now: int, event: int, *, alone: bool) -> Outcome:
        """Run one verb; the second time, if the first asks for it, with care."""
        for careful in (False, True):
            transaction = Transaction(self._connection, self._known, now, event, careful=careful)
            self._mark(alone)
            try:
                value = work(transaction)
                transaction.finish()
            except NeedsCare:
                self._back_to_mark(alone)
            except Exception as exc:
                if not self._connection.in_transaction:
                    # Out of room or the like: SQLite has undone the work of the whole group.
                    raise
                self._back_to_mark(alone)
                return Outcome(error=self._explained(exc))
            else:
                self._forget_mark(alone)
                return Outcome(value, None, transaction)
        raise AssertionError("a verb never asks for care twice")

    def _mark(self, alone: bool) -> None:
        if not alone:
            self._connection.execute("SAVEPOINT verb")

    def _back_to_mark(self, alone: bool) -> None:
        if alone:
            self._undo()
            self._begin()
        else:
            self._known.forget()
            self._connection.execute("ROLLBACK TO verb")
            self._connection.execute("RELEASE verb")

    def _forget_mark(self, alone: bool) -> None:
        if not alone:
            self._connection.execute("RELEASE verb")

    def _give_way(self) -> None:
        if time.monotonic() - self._ended < _BACK_TO_BACK and self._turns.somebody_waits():
            time.sleep(_WAY)

    def _begin(self) -> None:
        """Begin a write transaction."""
        if self._try_to_begin():
            return
        # SQLite's own waiting backs off to 100 ms and starves whoever waits; short naps with
        # jitter find the gap between two transactions of another process.
        begun, nap = time.monotonic(), _FIRST_NAP
        if not self._is_sharp:
            self._is_sharp = True
            sharpen()
        with self._turns.waiting():
            while True:
                time.sleep(nap * (0.5 + random.random()))  # noqa: S311 - guards nothing
                waited = time.monotonic() - begun
                if self._try_to_begin(last=waited >= self._where.busy_timeout):
                    return
                nap = min(nap * 1.2, _SHORT_NAP if waited < _LONG_WAIT else _LONG_NAP)

    def _try_to_begin(self, *, last: bool = False) -> bool:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as exc:
            if not is_busy(exc) or last:
                raise
            return False
        return True

    def _undo(self) -> None:
        self._known.forget()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _explained(self, exc: BaseException) -> BaseException:
        return explain(exc, self._where) if isinstance(exc, sqlite3.Error) else exc
