"""The outbox: tasks kept in the application's database until a broker elsewhere has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import msgspec
from sqlalchemy import Connection, Engine, Table, delete, func, insert, inspect, select, update
from sqlalchemy.dialects import postgresql, sqlite

from conveyor.brokers.base import Pushed
from conveyor.core.errors import SchemaMismatch
from conveyor.core.task import NewTask
from conveyor.transactions.tables import outbox

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(NewTask).decode
_there: WeakKeyDictionary[Engine, set[str]] = WeakKeyDictionary()


class Parcel(NamedTuple):
    """A task in the outbox."""

    id: str
    at: float
    new: NewTask
    refused: str | None = None
    """Why the broker did not take it: it shall be a dead letter there."""


def must_be_there(connection: Connection, table: Table, purpose: str) -> None:
    """Raise `SchemaMismatch` when the table is missing. Asked once per engine: on PostgreSQL the
    failing insert itself would take the caller's transaction along.
    """
    known = _there.setdefault(connection.engine, set())
    if table.name in known:
        return
    if not inspect(connection).has_table(table.name):
        raise SchemaMismatch(
            f"the session's database has no table {table.name!r}, which {purpose}: make it with "
            "conveyor.transactions.create_tables(engine), or the SQL of `conveyor outbox ddl`"
        )
    known.add(table.name)


def put(connection: Connection, tasks: Sequence[NewTask], now: float) -> list[Pushed]:
    """Store tasks in the caller's transaction. A key that another row has answers with that one;
    whether the broker knows it is seen when the task is relayed.
    """
    must_be_there(connection, outbox, "tasks for a broker elsewhere wait in")
    rows = [_row(new, now) for new in tasks]
    if all(new.task.key is None for new in tasks):
        connection.execute(_insert(connection), rows)
        return [Pushed(new.task.id) for new in tasks]
    return [_put_one(connection, new, row) for new, row in zip(tasks, rows, strict=True)]


def _put_one(connection: Connection, new: NewTask, row: dict[str, Any]) -> Pushed:
    connection.execute(_insert(connection), row)
    task = new.task
    if task.key is None:
        return Pushed(task.id)
    holder = connection.execute(
        select(outbox.c.id, outbox.c.digest).where(
            outbox.c.queue == task.queue, outbox.c.name == task.name, outbox.c.key == task.key
        )
    ).one()
    if holder.id == task.id:
        return Pushed(task.id)
    return Pushed(holder.id, created=False, conflict=holder.digest != task.digest)


def _insert(connection: Connection) -> Any:
    """A repeat of an id or key changes nothing, where the database can say so."""
    name = connection.dialect.name
    if name == "postgresql":
        return postgresql.insert(outbox).on_conflict_do_nothing()
    if name == "sqlite":
        return sqlite.insert(outbox).on_conflict_do_nothing()
    return insert(outbox)


def _row(new: NewTask, now: float) -> dict[str, Any]:
    task = new.task
    return {
        "id": task.id,
        "at": now,
        "queue": task.queue,
        "name": task.name,
        "key": task.key,
        "digest": task.digest,
        "body": _encode(new),
    }


def take(connection: Connection, ids: Sequence[str] | None, limit: int) -> list[Parcel]:
    """Return what waits: these ids, or the oldest. Ids sort by time."""
    chosen = select(outbox.c.id, outbox.c.at, outbox.c.body, outbox.c.refused)
    if ids is not None:
        chosen = chosen.where(outbox.c.id.in_(ids))
    rows = connection.execute(chosen.order_by(outbox.c.id).limit(limit)).all()
    return [Parcel(row.id, row.at, _decode(row.body), row.refused) for row in rows]


def clear(connection: Connection, ids: Sequence[str], refused: Sequence[tuple[str, str]]) -> None:
    """Forget what the broker has, and note why it refused others."""
    if ids:
        connection.execute(delete(outbox).where(outbox.c.id.in_(ids)))
    for task_id, why in refused:
        connection.execute(update(outbox).where(outbox.c.id == task_id).values(refused=why))


def waiting(connection: Connection) -> int:
    """Return how many tasks wait."""
    count = select(func.count()).select_from(outbox)
    return int(connection.execute(count).scalar_one())
