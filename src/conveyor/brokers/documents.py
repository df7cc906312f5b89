"""Small shared facts beside the tasks: documents with versions, and tallies.

Schedules, strikes, limits and workflow graphs are *documents*: whoever changes one says which
version it saw, so that of two who race one is refused. A *tally* counts the distinct members that
arrived under a key; a fan-in of a workflow is one. Both are store-wide, not per queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Document(msgspec.Struct, frozen=True):
    """A document as stored; `version` grows by one at every change, from 1."""

    kind: str
    id: str
    version: int
    body: bytes


class Documents(Protocol):
    """Documents by kind and id. Each call is one atomic write; errors as of the broker's verbs."""

    async def get(self, kind: str, ids: Sequence[str]) -> dict[str, Document]:
        """Return those that exist, by id."""

    async def list(self, kind: str, after: str = "", limit: int = 1_000) -> list[Document]:
        """Return documents of a kind in the order of their ids, those after `after`."""

    async def put(self, kind: str, doc_id: str, body: bytes, version: int) -> int | None:
        """Store `body` if the current version is `version` (0: there is none) and return the new
        version; None when somebody was faster, and nothing is changed.
        """

    async def delete(self, kind: str, doc_id: str, version: int | None = None) -> bool:
        """Delete it if its version is `version` (None: any); says whether it did."""


class Tallies(Protocol):
    """Sets that only grow, and know their size."""

    async def add(self, arrivals: Sequence[tuple[str, str]]) -> list[int]:
        """Add members, as pairs of key and member, all or none of one call; return for each pair
        how many members its key has after the call. A member that is there already changes nothing.
        """

    async def members(self, key: str) -> list[str]:
        """Return the members under `key`, sorted."""

    async def drop(self, keys: Sequence[str]) -> None:
        """Forget whole tallies."""
