"""Documents and tallies: small tables beside the tasks, written by the same thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from conveyor.brokers.documents import Document
from conveyor.brokers.sqlite.statements import statements

if TYPE_CHECKING:
    import asyncio

    from conveyor.brokers.sqlite.inspector import Read
    from conveyor.brokers.sqlite.transaction import Transaction

T = TypeVar("T")
SQL = statements("documents")
_PER_QUERY = 500


class Write(Protocol):
    """Runs a verb in a write transaction, all of it or nothing."""

    def __call__(self, work: Callable[[Transaction], T], rows: int = 1, /) -> asyncio.Future[T]:
        """Return what `work` returns."""


class SQLiteDocuments:
    """`conveyor.brokers.documents.Documents` on one database."""

    def __init__(self, read: Read, write: Write) -> None:
        self._read = read
        self._write = write

    async def get(self, kind: str, ids: Sequence[str]) -> dict[str, Document]:
        """Return those that exist, by id."""
        return await self._read(partial(_get, kind=kind, ids=ids))

    async def list(self, kind: str, after: str = "", limit: int = 1_000) -> list[Document]:
        """Return documents of a kind after an id, in the order of their ids."""
        parameters = (kind, after, limit)
        rows = await self._read(lambda connection: _rows(connection, "list", parameters))
        return [Document(*row) for row in rows]

    async def put(self, kind: str, doc_id: str, body: bytes, version: int) -> int | None:
        """Store `body` as the version after `version`, or None when that is not the current."""
        return await self._write(partial(_put, kind=kind, doc_id=doc_id, body=body, seen=version))

    async def delete(self, kind: str, doc_id: str, version: int | None = None) -> bool:
        """Delete it if its version is `version`; says whether it did."""
        parameters = (kind, doc_id, version)
        return await self._write(lambda tx: tx.execute(SQL["delete"], parameters).rowcount == 1)


class SQLiteTallies:
    """`conveyor.brokers.documents.Tallies` on one database."""

    def __init__(self, read: Read, write: Write) -> None:
        self._read = read
        self._write = write

    async def add(self, arrivals: Sequence[tuple[str, str]]) -> list[int]:
        """Add pairs of key and member; return the size that each pair's key has afterwards."""
        return await self._write(partial(_add, arrivals=arrivals), len(arrivals))

    async def members(self, key: str) -> list[str]:
        """Return the members under `key`, sorted."""
        rows = await self._read(lambda connection: _rows(connection, "members", (key,)))
        return [member for (member,) in rows]

    async def drop(self, keys: Sequence[str]) -> None:
        """Forget whole tallies."""
        await self._write(partial(_drop, keys=keys))


def _rows(
    connection: sqlite3.Connection, statement: str, parameters: Sequence[object]
) -> list[Any]:
    return connection.execute(SQL[statement], parameters).fetchall()


def _get(connection: sqlite3.Connection, kind: str, ids: Sequence[str]) -> dict[str, Document]:
    found = {}
    for start in range(0, len(ids), _PER_QUERY):
        chunk = ids[start : start + _PER_QUERY]
        statement = SQL["get"].format(ids=",".join("?" * len(chunk)))
        for row in connection.execute(statement, (kind, *chunk)):
            found[row[1]] = Document(*row)
    return found


def _put(tx: Transaction, kind: str, doc_id: str, body: bytes, seen: int) -> int | None:
    if seen == 0:
        changed = tx.execute(SQL["create"], (kind, doc_id, body)).rowcount
    else:
        changed = tx.execute(SQL["replace"], (body, kind, doc_id, seen)).rowcount
    return seen + 1 if changed == 1 else None


def _add(tx: Transaction, arrivals: Sequence[tuple[str, str]]) -> list[int]:
    by_key: dict[str, list[tuple[str, str]]] = {}
    for key, member in arrivals:
        by_key.setdefault(key, []).append((key, member))
    sizes = {}
    for key, rows in by_key.items():
        fresh = tx.executemany(SQL["arrive"], rows).rowcount
        # Read to the end, or the statement that returns the size stays open over the commit.
        ((sizes[key],),) = tx.execute(SQL["grow"], (key, fresh)).fetchall()
    return [sizes[key] for key, _ in arrivals]


def _drop(tx: Transaction, keys: Sequence[str]) -> None:
    for statement in ("drop_members", "drop_tally"):
        tx.executemany(SQL[statement], [(key,) for key in keys])
