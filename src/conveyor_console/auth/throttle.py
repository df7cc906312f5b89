"""Slows guessing down, without a lock that an attacker could close on somebody else.

Failures are counted per address, and per account *and* address: who guesses from elsewhere makes
nobody wait but himself. An account that is guessed at from everywhere at once gets slower for
addresses that never signed in to it, never for those that did.

A try counts as failed before the password is looked at, and is given back when it was the right
one: of many guesses at the same moment, at any number of replicas, no more are looked at than of
guesses one after the other.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from sqlalchemy import Executable, String, Table, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from conveyor_console.db.base import PREFIX, Base, Moment
from conveyor_console.db.engine import Database
from conveyor_console.kit.clock import Clock

FREE, LONGEST = 5, 900.0
"""Failures without a wait; the longest wait, seconds."""
FREE_PER_ADDRESS, FREE_PER_ACCOUNT = 20, 50
FORGOTTEN = timedelta(hours=1)
FRIENDS_FOR = timedelta(days=90)
"""How long an address is known to which an account signed in from."""
_TIDY_EVERY = 100


class ThrottleRow(Base):
    """Failures of one kind, or that an account signed in from an address before (`friend`)."""

    __tablename__ = f"{PREFIX}throttle"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Of what is counted: nobody learns here who was guessed at."""
    friend: Mapped[bool]
    count: Mapped[int]
    at: Mapped[datetime] = mapped_column(Moment, index=True)


_ROWS = cast(Table, ThrottleRow.__table__)
# Made once, and not through the mapper: a sign-in asks ten of these, on everybody's event loop.
_AT = select(_ROWS.c.at).where(_ROWS.c.digest == bindparam("key"))
_SET = (
    update(_ROWS)
    .where(_ROWS.c.digest == bindparam("key"))
    .values(count=bindparam("number"), at=bindparam("last"))
)


def _upserts(column: str) -> dict[str, Executable]:
    """Return by dialect the statement that adds rows, of which `column` is new if they exist."""
    return {
        dialect: (statement := insert(_ROWS))
        .on_conflict_do_update(
            index_elements=[_ROWS.c.digest], set_={column: statement.excluded[column]}
        )
        .returning(_ROWS.c.digest, _ROWS.c.count, _ROWS.c.at)
        for dialect, insert in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
    }


_LOCKS, _FRIENDS = _upserts("friend"), _upserts("at")


class Failures(NamedTuple):
    """What is known of one key."""

    number: int
    at: datetime


class _Undecided:
    """Tries from one network that are being looked at."""

    def __init__(self) -> None:
        self.number = 0
        self.decided = asyncio.Event()


def wait_of(known: Failures | None, free: int, now: datetime) -> float:
    """Return the seconds until another try; 0 when now. Pure."""
    if known is None or known.number < free or now - known.at > FORGOTTEN:
        return 0.0
    pause = min(LONGEST, 2.0 ** min(known.number - free, 20))
    return max(0.0, pause - (now - known.at).total_seconds())


class TooMany(Exception):
    """There were too many failures: another try only after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many failures: try again in {seconds:.3g} s")
        self.seconds = seconds


class Throttle:
    """Counts tries to sign in, for all replicas."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._tries = 0
        self._undecided: dict[str, _Undecided] = {}

    @asynccontextmanager
    async def trying(self, account: str, ip: str) -> AsyncIterator[None]:
        """Take a try, for the block to look at a password and raise for a wrong one; for the right
        one it commits `succeeded`. Who is one too many waits for those that are being looked at
        here: the right one gives its try back. Raises `TooMany`."""
        place = network(ip)
        while wait := await self.admit(account, ip):
            others = self._undecided.get(place)
            if others is None:
                raise TooMany(wait)
            await others.decided.wait()
        undecided = self._undecided.setdefault(place, _Undecided())
        undecided.number += 1
        right = False
        try:
            yield
            right = True
        finally:
            undecided.number -= 1
            if right or not undecided.number:
                self._decide(place)

    def _decide(self, place: str) -> None:
        """Let those ask again that wait for tries from here."""
        undecided = self._undecided[place]
        undecided.decided.set()
        undecided.decided = asyncio.Event()
        if not undecided.number:
            del self._undecided[place]

    async def admit(self, account: str, ip: str) -> float:
        """Take a try, counted as a failure until `succeeded` says otherwise; returns the seconds to
        wait when there is none to take, else 0."""
        now = self._clock.now()
        pair, place, anywhere = _keys(account, ip)
        async with self._database.writing() as db:
            self._tries += 1
            if self._tries % _TIDY_EVERY == 1:
                await _tidy(db, now)
            free = {pair: FREE, place: FREE_PER_ADDRESS}
            if not await _is_friend(db, pair, now):
                free[anywhere] = FREE_PER_ACCOUNT
            known = await _locked(db, sorted(free), now)
            wait = max(wait_of(known[key], free[key], now) for key in free)
            if wait:
                await db.rollback()
            else:
                await _count(db, known, now)
        return wait

    async def spend(self, what: str, ip: str) -> None:
        """Count one more use that an address makes of something dear. Raises `TooMany`."""
        now, key = self._clock.now(), _digest("spent", what, network(ip))
        async with self._database.writing() as db:
            known = await _locked(db, [key], now)
            if wait := wait_of(known[key], FREE_PER_ADDRESS, now):
                await db.rollback()
                raise TooMany(wait)
            await _count(db, known, now)

    async def give_back(self, what: str, ip: str) -> None:
        """Count a use no more: it was a rightful one."""
        key = _digest("spent", what, network(ip))
        async with self._database.writing() as db:
            used = (ThrottleRow.digest == key) & (ThrottleRow.count > 0)
            await db.execute(update(ThrottleRow).where(used).values(count=ThrottleRow.count - 1))

    async def succeeded(self, db: AsyncSession, account: str, ip: str) -> None:
        """Give a try back, and forget the failures of this account from here, when this transaction
        commits. It holds up others at the same keys until then: let it be the last that it does."""
        now = self._clock.now()
        pair, place, anywhere = _keys(account, ip)
        given = {place} if await _is_friend(db, pair, now) else {place, anywhere}
        known = await _locked(db, sorted({pair, *given}), now)
        left = {key: max(0, was.number - 1) if key in given else 0 for key, was in known.items()}
        await _set(db, {key: Failures(left[key], was.at) for key, was in known.items()})
        await _put(db, _FRIENDS, [_row(_friend(pair), now, friend=True)])


def network(ip: str) -> str:
    """What one customer of a provider has: an IPv4 address, or a /64 of IPv6."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address.ipv4_mapped if address.version == 6 else address)


def _keys(account: str, ip: str) -> tuple[str, str, str]:
    """Return the digests of account and address together, of the address, of the account."""
    place = network(ip)
    return _digest("pair", account, place), _digest("place", place), _digest("account", account)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _friend(pair: str) -> str:
    return _digest("friend", pair)


def _row(key: str, now: datetime, *, friend: bool = False) -> dict[str, Any]:
    return {"digest": key, "friend": friend, "count": 0, "at": now}


async def _is_friend(db: AsyncSession, pair: str, now: datetime) -> bool:
    at = (await (await db.connection()).execute(_AT, {"key": _friend(pair)})).scalar()
    return at is not None and now - at <= FRIENDS_FOR


async def _locked(db: AsyncSession, keys: Sequence[str], now: datetime) -> dict[str, Failures]:
    """Return what is known of keys, which must be in order; until the transaction ends nobody else
    can count them."""
    found = await _put(db, _LOCKS, [_row(key, now) for key in keys])
    return {key: Failures(number, at) for key, number, at in found}


async def _put(
    db: AsyncSession, statements: Mapping[str, Executable], rows: Sequence[Mapping[str, Any]]
) -> Any:
    statement = statements[db.get_bind().dialect.name]
    return await (await db.connection()).execute(statement, list(rows))


async def _count(db: AsyncSession, known: Mapping[str, Failures], now: datetime) -> None:
    forgotten = now - FORGOTTEN
    after = {key: 1 if was.at < forgotten else was.number + 1 for key, was in known.items()}
    await _set(db, {key: Failures(number, now) for key, number in after.items()})


async def _set(db: AsyncSession, failures: Mapping[str, Failures]) -> None:
    rows = [{"key": key, "number": one.number, "last": one.at} for key, one in failures.items()]
    await (await db.connection()).execute(_SET, rows)


async def _tidy(db: AsyncSession, now: datetime) -> None:
    old = ThrottleRow.friend.is_(False) & (ThrottleRow.at < now - FORGOTTEN)
    stranger = ThrottleRow.friend & (ThrottleRow.at < now - FRIENDS_FOR)
    await db.execute(delete(ThrottleRow).where(old | stranger))
