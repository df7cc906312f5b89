"""Things that happened in the console itself, written with the change that they tell of: every
replica's streams and the webhooks read them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import String, delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from conveyor_console.db.base import PREFIX, Base, Id, Json, Moment

KEPT = timedelta(days=3)
PAGE = 500
LATE = timedelta(seconds=5)
"""How late a notice may be seen after it was written: its transaction commits afterwards."""


class Notice(Base):
    """Something that happened."""

    __tablename__ = f"{PREFIX}notice"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment, index=True)
    topic: Mapped[str] = mapped_column(String(64))
    """`noun.verb`, e.g. `alert.firing`."""
    data: Mapped[dict[str, Any]] = mapped_column(Json)


def add(
    db: AsyncSession, notice_id: str, at: datetime, topic: str, data: Mapping[str, Any]
) -> None:
    """Tell of something; it is told when the transaction commits."""
    db.add(Notice(id=notice_id, at=at, topic=topic, data=dict(data)))


async def since(db: AsyncSession, at: datetime, after_id: str = "") -> list[Notice]:
    """Return the next notices, at most `PAGE`: those of this moment with a greater id, and later
    ones, the oldest first."""
    same = (Notice.at == at) & (Notice.id > after_id)
    found = await db.scalars(
        select(Notice)
        .where(Notice.at >= at, (Notice.at > at) | same)
        .order_by(Notice.at, Notice.id)
        .limit(PAGE)
    )
    return list(found)


async def pages(db: AsyncSession, at: datetime) -> AsyncIterator[list[Notice]]:
    """Yield the notices of this moment and later, a page at a time."""
    page = await since(db, at)
    yield page
    while len(page) == PAGE:
        page = await since(db, page[-1].at, page[-1].id)
        yield page


async def prune(db: AsyncSession, now: datetime) -> None:
    """Forget what is old."""
    await db.execute(delete(Notice).where(Notice.at < now - KEPT))


class Follower:
    """Reads notices one after the other, those too that were committed late. Of one process."""

    def __init__(self, start: datetime) -> None:
        self._from = self._start = start
        self._primed = False
        self._seen: dict[str, datetime] = {}

    async def read(self, db: AsyncSession) -> list[Notice]:
        """Return those after the start that were not returned yet."""
        found: list[Notice] = []
        # Of a page that is known already, the news may be on the next one.
        async for page in pages(db, self._from - LATE):
            found += (one for one in page if one.id not in self._seen)
        for one in found:
            self._seen[one.id] = one.at
            self._from = max(self._from, one.at)
        old = self._from - LATE
        self._seen = {key: at for key, at in self._seen.items() if at >= old}
        if self._primed:
            return found
        self._primed = True
        return [one for one in found if one.at > self._start]
