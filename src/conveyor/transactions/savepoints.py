"""Savepoints of SQLite that hold.

Python's driver begins a transaction at the first write, not at a savepoint: a savepoint that comes
first is then the transaction, and its release commits. So before a savepoint we begin one.
"""

from __future__ import annotations

import sqlite3
from weakref import WeakSet

from sqlalchemy import Connection, Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session

from conveyor.core.errors import InvalidOption
from conveyor.transactions.lending import Lent

_sound: WeakSet[Engine] = WeakSet()


def sound_savepoints(engine: Engine | AsyncEngine) -> None:
    """Make the savepoints of an SQLite engine real ones; call it once, where the engine is made.
    Does nothing for other databases."""
    plain = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    if plain.dialect.name != "sqlite" or plain in _sound:
        return
    event.listen(plain, "savepoint", _begin)
    _sound.add(plain)


def _begin(connection: Connection, _name: str) -> None:
    Lent(connection).with_sqlite(_begin_in)


def _begin_in(raw: sqlite3.Connection) -> None:
    if not raw.in_transaction:
        raw.execute("BEGIN IMMEDIATE")


def must_be_sound(session: Session, connection: Connection) -> None:
    """Raise `InvalidOption` inside a savepoint that may be none."""
    engine = connection.engine
    if not session.in_nested_transaction() or engine in _sound:
        return
    if Lent(connection).with_sqlite(lambda raw: raw.isolation_level) is not None:
        raise InvalidOption(
            "enqueue inside begin_nested() on SQLite, whose savepoints may commit by themselves: "
            "call conveyor.transactions.sound_savepoints(engine) where the engine is made"
        )
