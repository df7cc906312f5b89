"""What is to happen after a session's transaction has committed, and only then.

Work noted inside a savepoint belongs to it: a rollback of the savepoint drops the work, its release
hands it to the transaction around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

_PLACE = "conveyor_after_commit"


class _Entry(NamedTuple):
    within: SessionTransaction
    work: Callable[[list[Any]], None]
    item: Any


class AfterCommit:
    """The work that waits for the commit of one session."""

    def __init__(self, session: Session) -> None:
        self._waiting: list[_Entry] = []
        event.listen(session, "after_commit", self._committed)
        event.listen(session, "after_transaction_end", self._ended)

    def add(self, entry: _Entry) -> None:
        """Remember an entry until the outermost commit, or a rollback of where it belongs."""
        self._waiting.append(entry)

    def _committed(self, session: Session) -> None:
        # This event comes for savepoints too, while they are still the current transaction.
        ended = current(session)
        if ended.parent is not None:
            outer = ended.parent
            self._waiting = [
                entry._replace(within=outer) if entry.within is ended else entry
                for entry in self._waiting
            ]
            return
        done, self._waiting = self._waiting, []
        together: dict[Callable[[list[Any]], None], list[Any]] = {}
        for _, work, item in done:
            together.setdefault(work, []).append(item)
        for work, items in together.items():
            work(items)

    def _ended(self, _session: Session, ended: SessionTransaction) -> None:
        self._waiting = [entry for entry in self._waiting if entry.within is not ended]


def after_commit(session: Session, work: Callable[[list[Any]], None], item: Any) -> None:
    """Call `work` right after the session's transaction has committed, once with all its items. It
    must not raise, and must not use the session."""
    place: dict[Any, Any] = session.info
    if _PLACE not in place:
        place[_PLACE] = AfterCommit(session)
    cast("AfterCommit", place[_PLACE]).add(_Entry(current(session), work, item))


def current(session: Session) -> SessionTransaction:
    """Return the innermost transaction that can commit or roll back by itself."""
    found = session.get_nested_transaction() or session.get_transaction()
    if found is None:
        raise RuntimeError("the session has no transaction")
    return found
