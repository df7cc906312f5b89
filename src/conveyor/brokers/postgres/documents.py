"""Documents and tallies, in tables of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from conveyor.brokers.documents import Document
from conveyor.brokers.postgres.connection import Connection
from conveyor.brokers.postgres.statements import statements

Run = Callable[[Callable[[Connection], Awaitable[Any]]], Awaitable[Any]]
"""Runs a job on a connection."""
_SQL = statements("documents")


class PostgresDocuments:
    """A `conveyor.brokers.documents.Documents` whose every call is one statement."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def get(self, kind: str, ids: Sequence[str]) -> dict[str, Document]:
        """Return those that exist, by id."""
        rows = await self._run(lambda c: c.fetch(_SQL["get"], kind, list(ids)))
        return {row[0]: Document(kind, *row) for row in rows}

    async def list(self, kind: str, after: str = "", limit: int = 1_000) -> list[Document]:
        """Return documents of a kind after an id, in the order of their ids."""
        rows = await self._run(lambda c: c.fetch(_SQL["list"], kind, after, limit))
        return [Document(kind, *row) for row in rows]

    async def put(self, kind: str, doc_id: str, body: bytes, version: int) -> int | None:
        """Store `body` if nobody was faster; return the new version."""
        statement, seen = (_SQL["create"], ()) if version == 0 else (_SQL["replace"], (version,))
        stored: int | None = await self._run(
            lambda c: c.fetchval(statement, kind, doc_id, body, *seen)
        )
        return stored

    async def delete(self, kind: str, doc_id: str, version: int | None = None) -> bool:
        """Delete it, if its version is that one; says whether it did."""
        gone = await self._run(lambda c: c.fetchval(_SQL["delete"], kind, doc_id, version))
        return gone is not None


class PostgresTallies:
    """A `conveyor.brokers.documents.Tallies`: a row per member, and one that counts them."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def add(self, arrivals: Sequence[tuple[str, str]]) -> list[int]:
        """Add members; return for each pair how many its key has after the call."""
        keys, members = [key for key, _ in arrivals], [member for _, member in arrivals]
        found = await self._run(lambda c: c.fetchval("SELECT arrive($1, $2)", keys, members))
        return list(found)

    async def members(self, key: str) -> list[str]:
        """Return the members under `key`, sorted."""
        return [row[0] for row in await self._run(lambda c: c.fetch(_SQL["members"], key))]

    async def drop(self, keys: Sequence[str]) -> None:
        """Forget whole tallies."""
        await self._run(lambda c: c.execute("SELECT drop_tallies($1)", list(keys)))
