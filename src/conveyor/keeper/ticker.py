"""Fires schedules: many keepers tick, one leads, and no fire depends on there being only one.

    due ─▶ decide ─▶ store the decisions (compare and set) ─▶ push the tasks ─▶ forget `pending`

Storing comes first. Killed before it, nothing has happened; killed after it, whoever takes over
finds the fires `pending` and pushes them, under the same ids, so that a task that was pushed
already is not pushed again. A keeper that only believes to lead loses the compare and set.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import msgspec

from conveyor.core.errors import BrokerError, InvalidOption, TaskNotFound
from conveyor.core.schedule import (
    UNSURE_AFTER,
    Decision,
    Entry,
    decide,
    fire,
    next_fire,
)
from conveyor.schedules.book import Book, Kept, Shard, shard_of

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock
    from conveyor.core.task import NewTask

log = logging.getLogger("conveyor.schedules")
ROLE = "schedules"
LEADERSHIP = 5.0
"""Seconds that a keeper leads without renewing: a dead one is replaced in that time and a look."""
RENEW = 2.0
"""Seconds between renewals of the leadership, which also tell the broker's clock."""
LOOK = 1.0
"""Seconds between looks at the revision; a follower looks so often whether anyone leads."""
POLL = 0.25
"""Seconds between looks at tasks that a buffered fire waits for."""
RELOAD = 60.0
"""Seconds after which all definitions are read again, whatever the revision says."""
TIDY_AFTER = 5.0
"""Seconds after which pushed fires are no longer stored as pending."""
_CHUNK, _SLICE = 1_000, 100
_replace = msgspec.structs.replace


class Ticker:
    """Fires schedules of one broker while it leads. `holder` names it among all keepers."""

    def __init__(self, broker: Broker, clock: Clock, holder: str) -> None:
        self._broker = broker
        self._clock = clock
        self._holder = holder
        self._book = Book(broker.documents)
        self.leading = False
        self.fired = 0
        """Tasks pushed so far."""
        self._forget()

    def _forget(self) -> None:
        """Know nothing: what the store says counts."""
        self._revision = 0
        self._loaded_at = float("-inf")
        self._looked_at = float("-inf")
        self._led_at = float("-inf")
        self._ahead = 0.0
        self._kept: dict[str, Kept] = {}
        self._shards: dict[str, Shard] = {}
        self._heap: list[tuple[float, str]] = []
        self._next: dict[str, float] = {}
        self._buffering: set[str] = set()
        self._polled_at = float("-inf")
        self._untidy: dict[str, float] = {}

    async def tick(self) -> float:
        """Fire what is due, if this one leads; returns the seconds until it wants to tick again.
        Raises `BrokerError`; the next tick then begins with what is stored.
        """
        try:
            if not await self._lead():
                return LOOK
            await self._look()
            await self._fire(self._due())
            await self._tidy()
        except BaseException:
            self._forget()
            raise
        return self._pause()

    def look_again(self) -> None:
        """Read the clock and what has changed anew in the next tick."""
        self._led_at = self._looked_at = self._polled_at = float("-inf")

    async def resign(self) -> None:
        """Let another lead. Raises `BrokerError`."""
        if self.leading:
            self.leading = False
            self._forget()
            await self._broker.lead(ROLE, self._holder, 0)

    # -- leadership, and the broker's clock

    def _now(self) -> float:
        return self._clock.monotonic() + self._ahead

    async def _lead(self) -> bool:
        asked = self._clock.monotonic()
        if self.leading and asked - self._led_at < RENEW:
            return True
        if not self._revision and not await self._book.revision():
            return False  # nobody ever made a schedule: that costs one read
        broker_time = await self._broker.lead(ROLE, self._holder, LEADERSHIP)
        if broker_time is None:
            self.leading = False
            self._forget()
            return False
        if not self.leading:
            self._forget()
        self.leading = True
        self._led_at = asked
        # It was read before the answer came: what we take for now is never ahead of it.
        self._ahead = broker_time - self._clock.monotonic()
        return True

    # -- what there is

    async def _look(self) -> None:
        now = self._clock.monotonic()
        if now - self._looked_at < LOOK:
            return
        revision = await self._book.revision()
        if revision != self._revision or now - self._loaded_at >= RELOAD:
            await self._load(now)
            self._revision = revision
        self._looked_at = now

    async def _load(self, now: float) -> None:
        kept = await self._book.all()
        first = not self._revision
        if first:
            self._shards = await self._book.shards()
        changed = [name for name, found in kept.items() if first or found != self._kept.get(name)]
        for name in self._kept.keys() - kept.keys():
            self._next.pop(name, None)
            self._buffering.discard(name)
        self._kept = kept
        self._loaded_at = now
        if first:
            await self._push_pending()
        for name in changed:
            self._plan(name)

    async def _push_pending(self) -> None:
        """Do what the leader before decided and perhaps did not do."""
        tasks: list[NewTask] = []
        now = self._now()
        for shard in list(self._shards.values()):
            for name, entry in shard.entries.items():
                if not entry.pending or name not in self._kept:
                    continue
                if now - entry.pending_at > UNSURE_AFTER:
                    log.warning(
                        "schedule %s: the keeper died while it fired and no other came for %.0f h; "
                        "whether those %d task(s) have run is unknown, they are not repeated",
                        name,
                        (now - entry.pending_at) / 3_600,
                        len(entry.pending),
                    )
                else:
                    schedule = self._kept[name].schedule
                    tasks += [fire(schedule, at, now) for at in entry.pending]
        if tasks:
            await self._broker.push(tasks)
        for shard in list(self._shards.values()):
            self._settle(shard, [name for name, entry in shard.entries.items() if entry.pending])

    def _plan(self, name: str) -> None:
        """Put a schedule's next fire on the heap."""
        entry = self._entry(name)
        self._next.pop(name, None)
        self._buffering.discard(name)
        if entry.waiting:
            self._buffering.add(name)
        try:
            at = next_fire(self._kept[name].schedule, entry, self._now())
        except InvalidOption as exc:
            log.error("schedule %r does not fire: %s", name, exc)
            return
        if at is not None:
            self._next[name] = at
            heappush(self._heap, (at, name))

    def _entry(self, name: str) -> Entry:
        shard = self._shards.get(shard_of(name))
        return Entry() if shard is None else shard.entries.get(name, Entry())

    # -- firing

    def _due(self) -> list[str]:
        """Take the names off the heap that are due, and those that wait for a task to end."""
        now, names = self._now(), set[str]()
        if self._buffering and self._clock.monotonic() - self._polled_at >= POLL:
            self._polled_at = self._clock.monotonic()
            names |= self._buffering
        while self._heap and self._heap[0][0] <= now:
            at, name = heappop(self._heap)
            if self._next.get(name) == at:
                names.add(name)
        return sorted(names, key=lambda name: (shard_of(name), name))

    async def _fire(self, names: Sequence[str]) -> None:
        for chunk in _by_shard(names):
            if not await self._lead():
                return
            decisions = await self._decide([name for name in chunk if name in self._kept])
            stored = await self._store(
                {name: made for name, made in decisions.items() if made is not None}
            )
            await self._act(stored)
            for name in chunk:
                if name in self._kept:
                    self._plan(name)

    async def _decide(self, names: Sequence[str]) -> dict[str, Decision | None]:
        asked = [
            task
            for name in names
            if self._kept[name].schedule.overlap != "allow"
            for task in self._entry(name).running
        ]
        alive = await self._alive(asked)
        now = self._now()
        decisions: dict[str, Decision | None] = {}
        for name in names:
            entry = self._entry(name)
            living = alive.intersection(entry.running)
            decisions[name] = decide(self._kept[name].schedule, entry, now, living)
        return decisions

    async def _alive(self, tasks: Sequence[str]) -> set[str]:
        """Which of these tasks have not ended; one that is no longer known has."""
        alive: set[str] = set()
        for start in range(0, len(tasks), _CHUNK):
            part = tasks[start : start + _CHUNK]
            try:
                ended = await self._broker.finals(part)
            except TaskNotFound:
                alive |= await self._alive_one_by_one(part)
            else:
                alive |= set(part) - ended.keys()
        return alive

    async def _alive_one_by_one(self, tasks: Sequence[str]) -> set[str]:
        alive: set[str] = set()
        for start in range(0, len(tasks), _SLICE):
            part = tasks[start : start + _SLICE]
            alive |= {
                task
                for task, lives in zip(part, await _all(map(self._lives, part)), strict=True)
                if lives
            }
        return alive

    async def _lives(self, task: str) -> bool:
        try:
            return task not in await self._broker.finals([task])
        except TaskNotFound:
            return False

    async def _store(self, decisions: Mapping[str, Decision]) -> dict[str, Decision]:
        """Store decisions shard by shard; returns those that stand. Those of a shard that somebody
        else has changed are made anew in the next tick."""
        changed: dict[str, dict[str, Entry]] = {}
        for name, made in decisions.items():
            if made.entry != self._entry(name):
                changed.setdefault(shard_of(name), {})[name] = made.entry
        lost = {
            shard
            for shard, saved in zip(
                changed,
                await _all(self._save(shard, entries) for shard, entries in changed.items()),
                strict=True,
            )
            if not saved
        }
        return {name: made for name, made in decisions.items() if shard_of(name) not in lost}

    async def _save(self, shard_id: str, entries: Mapping[str, Entry]) -> bool:
        shard = self._shards.get(shard_id) or Shard(shard_id, 0, {})
        saved = await self._book.save(_replace(shard, entries={**shard.entries, **entries}))
        if saved is None:
            # Somebody else leads, or ran a schedule by hand: what is stored counts, all of it.
            self._revision, self._looked_at = 0, float("-inf")
            return False
        self._shards[shard_id] = saved
        self._untidy.pop(shard_id, None)
        return True

    async def _act(self, decisions: Mapping[str, Decision]) -> None:
        """Push what was decided. One who was stopped for longer than it leads leaves it to whoever
        leads now, who knows how old the decision is."""
        if self._clock.monotonic() - self._led_at > LEADERSHIP:
            raise BrokerError("this keeper was stopped while it fired schedules; it begins anew")
        now = self._now()
        cancels = [task for made in decisions.values() for task in made.cancels]
        if cancels:
            await self._broker.cancel(cancels, by="schedule", reason="replaced by the next fire")
        tasks = [
            fire(self._kept[name].schedule, at, now)
            for name, made in decisions.items()
            for at in made.fires
        ]
        if tasks:
            await self._broker.push(tasks)
            self.fired += len(tasks)
        pushed: dict[str, list[str]] = {}
        for name, made in decisions.items():
            if made.fires:
                pushed.setdefault(shard_of(name), []).append(name)
        for shard_id, names in pushed.items():
            self._settle(self._shards[shard_id], names)

    # -- afterwards

    def _settle(self, shard: Shard, names: Iterable[str]) -> None:
        """The fires of these are pushed: pending no more, which is stored when there is time."""
        entries = dict(shard.entries)
        for name in names:
            if name in entries:
                entries[name] = _replace(entries[name], pending=())
        if entries != shard.entries:
            self._shards[shard.id] = _replace(shard, entries=entries)
            self._untidy.setdefault(shard.id, self._clock.monotonic())

    async def _tidy(self) -> None:
        """Store that nothing is pending any more; a fire in between has done so already."""
        before = self._clock.monotonic() - TIDY_AFTER
        old = [shard for shard, since in self._untidy.items() if since <= before]
        await _all(self._save(shard, {}) for shard in old)

    def _pause(self) -> float:
        longest = POLL if self._buffering else LOOK
        if not self._heap:
            return longest
        return min(longest, max(0.0, self._heap[0][0] - self._now()))


def _by_shard(names: Sequence[str]) -> Iterable[list[str]]:
    """Cut names, sorted by shard, into chunks of about a thousand that end with a shard."""
    chunk: list[str] = []
    for name in names:
        if len(chunk) >= _CHUNK and shard_of(chunk[-1]) != shard_of(name):
            yield chunk
            chunk = []
        chunk.append(name)
    if chunk:
        yield chunk


async def _all(coroutines: Iterable[Any]) -> list[Any]:
    """Run them at once and wait for all, also when some fail. Raises the first failure."""
    answers = await asyncio.gather(*coroutines, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers
