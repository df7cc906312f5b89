"""Ends of transactional tasks whose broker is elsewhere, kept beside the rows they wrote."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, inspect, select

from conveyor.transactions.outbox import must_be_there
from conveyor.transactions.tables import done


def find(connection: Connection, task_id: str) -> bytes | None:
    """Return the result of a task that committed, None when it has not."""
    must_be_there(connection, done, "transactional tasks of a broker elsewhere need")
    found: bytes | None = connection.scalar(select(done.c.result).where(done.c.task_id == task_id))
    return found


def put(connection: Connection, task_id: str, execution: int, result: bytes, now: float) -> None:
    """Note the end. Its primary key is the fence: raises `IntegrityError` when another execution
    has committed."""
    must_be_there(connection, done, "transactional tasks of a broker elsewhere need")
    connection.execute(
        insert(done).values(task_id=task_id, execution=execution, result=result, at=now)
    )


def forget(connection: Connection, before: float) -> None:
    """Delete the ends noted before then."""
    if inspect(connection).has_table(done.name):
        connection.execute(delete(done).where(done.c.at < before))
