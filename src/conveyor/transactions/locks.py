"""SQLite's one write lock, held by a task: from its first write on, and not for long.

Nobody else can write meanwhile, the queue included, when it lives in the same file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session, SessionTransaction

WARN, ABORT = 1.0, 5.0
"""Seconds of the lock after which a warning names the task, and after which it is undone."""
log = logging.getLogger("conveyor.worker")
_PLACE = "conveyor_lock"
_WRITES = ("INSERT", "UPDATE", "DELETE", "REPLAC", "WITH", "CREATE", "DROP", "ALTER")


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> Any:
        """It shall not."""


Later = Callable[[float, Callable[[], None]], Timer]


class LockWatch:
    """Watches one session. `later(seconds, call)` sets a timer; `abort` ends the task's code."""

    def __init__(
        self, session: Session, who: str, later: Later, abort: Callable[[Connection], None]
    ) -> None:
        self._who = who
        self._later = later
        self._abort = abort
        self._timers: list[Timer] = []
        self._connection: Connection
        self.aborted = False
        session.info[_PLACE] = self
        if session.get_bind().dialect.name == "sqlite":
            event.listen(session, "after_begin", self._begun)

    def close(self) -> None:
        """Watch no more."""
        timers, self._timers = self._timers, []
        for timer in timers:
            timer.cancel()

    def began(self) -> None:
        """Something is about to be written."""
        self.check()
        if not self._timers and hasattr(self, "_connection"):
            self._timers = [
                self._later(WARN, self._warn),
                self._later(ABORT, self._end),
            ]

    def check(self) -> None:
        """Raise `TimeoutError` when the lock was taken away."""
        if self.aborted:
            raise TimeoutError(too_long(self._who))

    def _begun(self, _s: Session, _t: SessionTransaction, connection: Connection) -> None:
        self._connection = connection
        event.listen(connection, "before_cursor_execute", self._executing)

    def _executing(self, _c: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip()[:6].upper().startswith(_WRITES):
            self.began()
        else:
            self.check()

    def _warn(self) -> None:
        log.warning(
            "%s has held the write lock of SQLite for %g s: nobody else can write", self._who, WARN
        )

    def _end(self) -> None:
        self.aborted = True
        self._abort(self._connection)


def too_long(who: str) -> str:
    """Say why a task was undone."""
    return f"{who} held the write lock of SQLite for {ABORT:g} s: what it wrote was undone"


def writing(session: Session) -> None:
    """Tell the watch of a session, if it has one, that something is written beside SQLAlchemy."""
    watch = session.info.get(_PLACE)
    if isinstance(watch, LockWatch):
        watch.began()
