"""The transaction of a running task: what the worker does with its session, step by step.

All of it works on the synchronous `Session`; an async one is entered by `run_sync`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from conveyor.core.errors import InvalidOption, StaleExecution
from conveyor.transactions import done
from conveyor.transactions.enqueue import ring
from conveyor.transactions.hooks import after_commit
from conveyor.transactions.lending import Lent

if TYPE_CHECKING:
    from conveyor.brokers.base import Settlement
    from conveyor.core.task import Lease
    from conveyor.transactions.homes import Homes


class Ended(NamedTuple):
    """How an execution ended."""

    known: bool
    """Whether the broker knows."""
    result: bytes


class TaskTransaction:
    """One execution's transaction. `homes` must be prepared for the session's engine."""

    def __init__(self, session: Session, homes: Homes, lease: Lease) -> None:
        self._session = session
        self._homes = homes
        self._lease = lease
        self._ours = False
        event.listen(session, "before_commit", self._only_ours)

    def earlier_result(self) -> bytes | None:
        """Return the result of an execution before this one that committed, and could not tell the
        broker. The first execution has none before it, and asks for nothing."""
        if self._lease.execution <= 1:
            return None
        connection = self._session.connection()
        if self._homes.find(connection) is not None:
            return None
        return done.find(connection, self._lease.task.id)

    def finish(self, settlement: Callable[[], Settlement], result: bytes, now: float) -> Ended:
        """Write the end of the task beside its rows and commit. Without a word from the broker, an
        execution that was faster has the last one. Raises `StaleExecution` when another execution
        has taken over: nothing is stored then.
        """
        session = self._session
        session.flush()
        connection, task = session.connection(), self._lease.task
        joining = self._homes.find(connection)
        if joining is None:
            try:
                done.put(connection, task.id, self._lease.execution, result, now)
            except IntegrityError as exc:
                session.rollback()
                faster = done.find(session.connection(), task.id)
                if faster is None:
                    raise self._stale() from exc
                return Ended(False, faster)
        else:
            counts, bell = joining.settle(Lent(connection), settlement())
            if not counts:
                raise self._stale()
            if bell is not None:
                after_commit(session, ring, bell)
        self._ours = True
        session.commit()
        return Ended(joining is not None, result)

    def _stale(self) -> StaleExecution:
        return StaleExecution(
            f"execution {self._lease.execution} of task {self._lease.task.id} was superseded: "
            "its transaction was rolled back"
        )

    def _only_ours(self, session: Session) -> None:
        if not self._ours and not session.in_nested_transaction():
            raise InvalidOption(
                "commit() in a transactional task: its worker commits the session, together with "
                "the task's end"
            )
