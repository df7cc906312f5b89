"""Schedules as documents of a broker: definitions, what is remembered of fires, and deploys.

Definitions and memory live apart, so that an edit and a fire never contend: a definition is one
document (kind `schedule`, id = its name); the entries of all schedules are spread over 256 shards
(kind `schedule-fires`), so that thousands that are due at once cost a few hundred writes. Whoever
changes a definition then touches the *revision*, which is all that keepers look at each second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from conveyor.core.errors import BrokerError, ScheduleNotFound
from conveyor.core.schedule import Entry, Schedule

if TYPE_CHECKING:
    from conveyor.brokers.documents import Documents

log = logging.getLogger("conveyor.schedules")
SCHEDULE, FIRES, DEPLOY, REVISION = (
    "schedule",
    "schedule-fires",
    "schedule-deploy",
    "schedule-revision",
)
TRIES = 20
"""How often a change is made anew because somebody was faster."""
_PAGE = 1_000

encode = msgspec.msgpack.Encoder().encode
_schedule = msgspec.msgpack.Decoder(Schedule).decode
_entries = msgspec.msgpack.Decoder(dict[str, Entry]).decode


class Kept(msgspec.Struct, frozen=True):
    """A definition with the version of its document."""

    schedule: Schedule
    version: int


class Shard(msgspec.Struct, frozen=True):
    """The entries of some schedules, with the version of their document (0: none yet)."""

    id: str
    version: int
    entries: Mapping[str, Entry]


class Book:
    """Reads and writes the documents of schedules. Errors are those of the broker's verbs."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    # -- definitions

    async def get(self, name: str) -> Kept:
        """Return one. Raises `ScheduleNotFound`."""
        found = (await self._documents.get(SCHEDULE, [name])).get(name)
        if found is None:
            raise ScheduleNotFound(name)
        return Kept(_schedule(found.body), found.version)

    async def all(self) -> dict[str, Kept]:
        """Return every definition by name; one that cannot be read is logged and left out."""
        kept: dict[str, Kept] = {}
        after = ""
        while page := await self._documents.list(SCHEDULE, after, _PAGE):
            for document in page:
                try:
                    kept[document.id] = Kept(_schedule(document.body), document.version)
                except msgspec.MsgspecError as exc:
                    log.error("schedule %r cannot be read and does not fire: %s", document.id, exc)
            if len(page) < _PAGE:
                break
            after = page[-1].id
        return kept

    async def put(self, schedule: Schedule, version: int) -> bool:
        """Store it as the version after `version` (0: a new one); says whether nobody was faster.
        Keepers see it when the revision was touched."""
        stored = await self._documents.put(SCHEDULE, schedule.name, encode(schedule), version)
        return stored is not None

    async def remove(self, kept: Kept) -> bool:
        """Delete it in this version, with its memory; says whether nobody was faster."""
        name = kept.schedule.name
        if not await self._documents.delete(SCHEDULE, name, kept.version):
            return False
        await self.remember(name, lambda _: None)
        return True

    # -- the revision

    async def revision(self) -> int:
        """Return a number that grows with changes of definitions; 0 when there never was any."""
        found = (await self._documents.get(REVISION, ["revision"])).get("revision")
        return 0 if found is None else found.version

    async def touch(self) -> None:
        """Tell keepers that definitions have changed. Once is enough: whoever is faster does so
        after the change too."""
        await self._documents.put(REVISION, "revision", b"", await self.revision())

    # -- what is remembered of fires

    async def shards(self) -> dict[str, Shard]:
        """Return all shards that exist, by id."""
        return {
            document.id: Shard(document.id, document.version, _entries(document.body))
            for document in await self._documents.list(FIRES, limit=_PAGE)
        }

    async def shard(self, shard_id: str) -> Shard:
        """Return one shard as it is now."""
        found = (await self._documents.get(FIRES, [shard_id])).get(shard_id)
        if found is None:
            return Shard(shard_id, 0, {})
        return Shard(shard_id, found.version, _entries(found.body))

    async def save(self, shard: Shard) -> Shard | None:
        """Store a shard in place of the version it was made from; None when somebody was faster."""
        version = await self._documents.put(FIRES, shard.id, encode(shard.entries), shard.version)
        return None if version is None else Shard(shard.id, version, shard.entries)

    async def remember(self, name: str, change: Callable[[Entry], Entry | None]) -> None:
        """Change the entry of one schedule; None forgets it. Raises `BrokerError` when others were
        faster twenty times."""
        for _ in range(TRIES):
            shard = await self.shard(shard_of(name))
            after = change(shard.entries.get(name, Entry()))
            entries = {**shard.entries, name: after} if after is not None else dict(shard.entries)
            if after is None and entries.pop(name, None) is None:
                return
            if await self.save(Shard(shard.id, shard.version, entries)) is not None:
                return
        raise BrokerError(f"the fires of schedule {name!r} change too fast: try again")


@lru_cache(65_536)
def shard_of(name: str) -> str:
    """Return the id of the shard that keeps the entry of a schedule."""
    return blake2b(name.encode(), digest_size=1).hexdigest()
