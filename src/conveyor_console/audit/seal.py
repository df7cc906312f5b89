"""The chain: every entry's hash covers the one before, so that none can be changed or taken out
unseen. Entries are written freely, in any transaction; one sealer chains them a moment later."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.audit.models import AuditEntry
from conveyor_console.db.engine import Database
from conveyor_console.db.leases import hold
from conveyor_console.kit.clock import Clock
from conveyor_console.kit.rounds import Rounds

log = logging.getLogger("conveyor.console")
GENESIS = "0" * 64
AT_ONCE = 500
EVERY = 0.5
"""Seconds between looks for entries of other processes; our own wake the sealer."""
_REST = 0.1
"""Seconds between two rounds: many changes at once are sealed together."""
_COVERED = (
    *("id", "user_id", "actor", "key_id", "action", "target", "outcome", "status", "detail"),
    *("before", "after", "ip", "request_id"),
)


def link(previous: str, seq: int, row: AuditEntry) -> str:
    """Return the hash of an entry at its place in the chain."""
    covered: dict[str, Any] = {name: getattr(row, name) for name in _COVERED}
    covered["at"] = row.at.isoformat(timespec="microseconds")
    covered["seq"] = seq
    text = orjson.dumps(covered, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(previous.encode() + text).hexdigest()


async def seal(db: AsyncSession) -> int:
    """Chain entries that are not yet, the oldest first; returns how many. `seq` is unique: two
    that seal at once cannot both."""
    rows = (
        await db.scalars(
            select(AuditEntry)
            .where(AuditEntry.seq.is_(None))
            .order_by(AuditEntry.id)
            .limit(AT_ONCE)
        )
    ).all()
    seq, last = await head(db)
    sealed = []
    for row in rows:
        seq, last = seq + 1, link(last, seq + 1, row)
        sealed.append({"of": row.id, "place": seq, "mark": last})
    if sealed:
        table = AuditEntry.__table__
        await (await db.connection()).execute(
            update(table)  # type: ignore[arg-type]
            .where(table.c.id == bindparam("of"))
            .values(seq=bindparam("place"), hash=bindparam("mark")),
            sealed,
        )
    return len(sealed)


async def head(db: AsyncSession) -> tuple[int, str]:
    """Return the last place of the chain and its hash; of an empty one 0 and zeros."""
    found = (
        await db.execute(
            select(AuditEntry.seq, AuditEntry.hash)
            .where(AuditEntry.seq.is_not(None))
            .order_by(AuditEntry.seq.desc())
            .limit(1)
        )
    ).one_or_none()
    return (0, GENESIS) if found is None else (found.seq or 0, found.hash or GENESIS)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a walk along the chain found."""

    checked: int
    last_seq: int
    last_hash: str
    broken_at: int | None = None
    """The first place that is not as it was sealed."""
    why: str | None = None


async def verify(db: AsyncSession, after: int, most: int) -> Verdict:
    """Walk along the chain behind a place, at most so many entries, and compute every hash anew."""
    seq, last = after, GENESIS
    if after:
        known = await db.scalar(select(AuditEntry.hash).where(AuditEntry.seq == after))
        if known is None:
            return Verdict(0, after, GENESIS, after, "the entry at this place is missing")
        last = known
    checked = 0
    while checked < most:
        rows = await _sealed_behind(db, seq, min(AT_ONCE, most - checked))
        for row in rows:
            if row.seq != seq + 1:
                return Verdict(checked, seq, last, seq + 1, "an entry was taken out")
            if row.hash != link(last, seq + 1, row):
                return Verdict(checked, seq, last, seq + 1, "this entry was changed")
            seq, last, checked = seq + 1, row.hash, checked + 1
        if not rows:
            break
        db.expunge_all()
        # Hashing is work for the processor: others get their turn.
        await asyncio.sleep(0)
    return Verdict(checked, seq, last)


async def _sealed_behind(db: AsyncSession, seq: int, most: int) -> Sequence[AuditEntry]:
    found = await db.scalars(
        select(AuditEntry).where(AuditEntry.seq > seq).order_by(AuditEntry.seq).limit(most)
    )
    return found.all()


class Sealer:
    """Seals, in one of the console's processes."""

    def __init__(self, database: Database, clock: Clock, holder: str) -> None:
        self._database = database
        self._clock = clock
        self._holder = holder
        self._rounds = Rounds("audit-sealer", lambda: EVERY, self._seal_all, rest=_REST)

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def wake(self) -> None:
        """Say that there is something to seal."""
        self._rounds.wake()

    async def close(self) -> None:
        """Seal what is left, and end."""
        await self._rounds.close()
        try:
            await self._seal_all()
        except (SQLAlchemyError, OSError) as exc:
            log.warning("the end of the audit log is not sealed: the next console does it: %s", exc)

    async def once(self) -> int:
        """Seal what there is, if this process may; returns how much."""
        async with self._database.reading() as db:
            waiting = await db.scalar(
                select(AuditEntry.id).where(AuditEntry.seq.is_(None)).limit(1)
            )
        if waiting is None:
            return 0
        async with self._database.writing() as db:
            if not await hold(db, "sealer", self._holder, self._clock.now()):
                return 0
            return await seal(db)

    async def _seal_all(self) -> None:
        while await self.once() == AT_ONCE:
            pass
