"""Writing inside somebody else's transaction: what the SQL stores offer beside `Broker`.

A caller who has a transaction open on the very database of the store lends its connection; what is
written through it is there when that transaction commits, and never when it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from conveyor.brokers.base import Pushed, Settlement
from conveyor.core.task import NewTask

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")
Bell = Callable[[], None]
"""Wakes whom a write concerns; to be rung after the commit. From any thread."""


class Borrowed(Protocol):
    """A connection of the caller's, inside its transaction. In the caller's thread only."""

    def fetch(self, statement: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Run one statement with `:named` parameters and return its rows."""

    def with_sqlite(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the SQLite connection itself, in the thread that owns it."""


class Joining(Protocol):
    """A store that can be written in the transaction of a borrowed connection.

    Such a transaction may stay open for long, so it must hold no lock that a plain push or a step
    of a worker would wait for, but those of keys, which are the caller's wish.
    """

    dialect: str
    """What SQLAlchemy calls this kind of database."""

    async def identify(self) -> None:
        """Learn which database this store is in. Raises `BrokerError`."""

    async def prepare(self, tasks: Sequence[NewTask]) -> None:
        """Store what these tasks share with those of others, in a transaction of its own: nobody
        may have to wait for the caller's commit. Raises `BrokerError`.
        """

    def is_home(self, connection: Borrowed) -> bool:
        """Whether the connection leads to the very database of this store."""

    def push(
        self, connection: Borrowed, tasks: Sequence[NewTask]
    ) -> tuple[list[Pushed], Bell | None]:
        """Do what `Broker.push` does, in the caller's transaction, and return the bell to ring when
        it has committed (None: the commit rings by itself). Raises `BrokerError`.
        """

    def settle(self, connection: Borrowed, settlement: Settlement) -> tuple[bool, Bell | None]:
        """Store the end of one execution, and say whether it was still the one that counts."""
