"""Documents and tallies: small facts of the namespace, under its own hash tag."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from conveyor.brokers.documents import Document
from conveyor.brokers.redis.records import encode, raw
from conveyor.brokers.redis.store import Store


class RedisDocuments:
    """Documents: each kind is one hash, with an index by id."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, kind: str, ids: Sequence[str]) -> dict[str, Document]:
        """See `Documents.get`."""
        if not ids:
            return {}
        store = self._store
        found = await store.ask_one(store.plain("HMGET", store.top, f":doc:{kind}", *ids))
        return {
            doc_id: _document(kind, doc_id, stored)
            for doc_id, stored in zip(ids, found, strict=True)
            if stored is not None
        }

    async def list(self, kind: str, after: str = "", limit: int = 1_000) -> builtins.list[Document]:
        """See `Documents.list`."""
        store = self._store
        found = await store.ask_one(store.on_top("documents", kind, after, max(0, limit)))
        return [
            _document(kind, doc_id.decode(), stored)
            for doc_id, stored in zip(found[::2], found[1::2], strict=True)
        ]

    async def put(self, kind: str, doc_id: str, body: bytes, version: int) -> int | None:
        """See `Documents.put`."""
        store = self._store
        command = store.on_top("document", kind, doc_id, version, body)
        return await store.ask_one(command) or None

    async def delete(self, kind: str, doc_id: str, version: int | None = None) -> bool:
        """See `Documents.delete`."""
        store = self._store
        asked = "" if version is None else version
        return bool(await store.ask_one(store.on_top("erase", kind, doc_id, asked)))


class RedisTallies:
    """Tallies: a set each."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, arrivals: Sequence[tuple[str, str]]) -> list[int]:
        """See `Tallies.add`."""
        if not arrivals:
            return []
        store = self._store
        members: dict[str, dict[str, None]] = {}
        for key, member in arrivals:
            members.setdefault(key, {})[member] = None
        packed = [
            (raw(key.encode()), [raw(member.encode()) for member in mine])
            for key, mine in members.items()
        ]
        sizes = await store.ask_one(store.on_top("tally", encode(packed)))
        size_of = dict(zip(members, sizes, strict=True))
        return [size_of[key] for key, _ in arrivals]

    async def members(self, key: str) -> list[str]:
        """See `Tallies.members`."""
        store = self._store
        found = await store.ask_one(store.plain("SMEMBERS", store.top, f":tally:{key}"))
        return sorted(member.decode() for member in found)

    async def drop(self, keys: Sequence[str]) -> None:
        """See `Tallies.drop`."""
        store = self._store
        if keys:
            # Freed in the background: a tally may have a million members.
            rest = [store.top + f":tally:{key}".encode() for key in keys[1:]]
            await store.ask_one(store.plain("UNLINK", store.top, f":tally:{keys[0]}", *rest))


def _document(kind: str, doc_id: str, stored: bytes) -> Document:
    version, _, body = stored.partition(b" ")
    return Document(kind, doc_id, int(version), body)
