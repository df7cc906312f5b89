"""The live side of one console process: one loop that reads and hands out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from conveyor import Conveyor
from conveyor_console.db.engine import Database
from conveyor_console.kit.clock import Clock
from conveyor_console.kit.rounds import Rounds
from conveyor_console.live import frames, notices
from conveyor_console.live.feed import Feed
from conveyor_console.live.streams import HEARTBEAT, Check, Stream

BUSY, IDLE = 0.25, 1.0
"""Seconds between rounds with and without readers: at most four frames of a topic a second."""
_SAMPLE = 0.75
"""Seconds between looks at queues, workers and notices, in the next round: a reader hears within a
second."""
_FAREWELL = 0.5
"""Seconds that readers get to take the last frame."""


class Live:
    """Hands out what happens. `feed.readers` may be added to by whoever wants every event."""

    def __init__(self, queue: Conveyor, database: Database, clock: Clock) -> None:
        self.feed = Feed(queue)
        self.feed.losers.append(lambda: self._tell_all(frames.resync("too much", self._place)))
        self.streams: set[Stream] = set()
        self.sent = 0
        """Frames handed to readers."""
        self.closing = False
        """No new streams: the server stops."""
        self._queue = queue
        self._database = database
        self._clock = clock
        self._rounds = Rounds("live", lambda: BUSY if self.streams else IDLE, self.round)
        self._follow()
        self._sampled_at = 0.0
        self._shown: dict[str, bytes] = {}

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    async def close(self) -> None:
        """End every stream, within a second, and stop."""
        await self.end_streams("the server stops")
        await self._rounds.close()

    async def end_streams(self, reason: str) -> None:
        """End every stream for good; what does not take it in time is dropped."""
        self.closing = True
        now = self._clock.monotonic()
        for stream in list(self.streams):
            stream.end(reason, now)
        for _ in range(10):
            if not self.streams:
                return
            await asyncio.sleep(_FAREWELL / 10)
        for stream in list(self.streams):
            stream.drop()

    async def join(self, topics: frozenset[str], allowed: Check, last_id: str | None) -> Stream:
        """Make a stream that goes on after `last_id` (what `Last-Event-ID` said)."""
        now = self._clock.monotonic()
        stream = Stream(topics, allowed, now)
        if not self.streams:
            self._follow()
        self.streams.add(stream)
        self._sampled_at = 0.0
        self._rounds.wake()
        place = self._place
        try:
            first = [] if last_id is None else await self._since(topics, last_id, place)
        except BaseException:
            self.streams.discard(stream)
            raise
        known = [self._shown[topic] for topic in sorted(topics) if topic in self._shown]
        hello = frames.frame("hello", {"topics": sorted(topics)}, place)
        stream.release([*first, *known, hello], now)
        return stream

    async def round(self) -> None:
        """Read what is new and hand it out."""
        now = self._clock.monotonic()
        events = await self.feed.read()
        if not self.streams:
            self._shown.clear()
            return
        if events:
            self._tell("tasks", frames.frame("tasks", frames.changes(events), self._place))
        if now - self._sampled_at >= _SAMPLE:
            self._sampled_at = now
            await self._sample()
            await self._tell_notices()
        await self._beat(now)

    @property
    def _place(self) -> str:
        return frames.place_of(self.feed.cursor or "", self._notice_at)

    async def _since(self, topics: frozenset[str], last_id: str, until: str) -> list[bytes]:
        """What a reader missed that was away."""
        read = frames.read_place(last_id)
        if read is None or self.feed.cursor is None:
            return [frames.resync("unknown place", until)]
        cursor, notice_at = read
        found: list[bytes] = []
        if "tasks" in topics:
            events = await self.feed.replay(cursor)
            if events is None:
                return [frames.resync("too far behind", until)]
            if events:
                found.append(frames.frame("tasks", frames.changes(events), until))
        after = datetime.fromtimestamp(notice_at, UTC)
        async with self._database.reading() as db:
            told = await notices.since(db, after)
        if len(told) == notices.PAGE:
            return [frames.resync("too far behind", until)]
        for one in told:
            if after < one.at and one.at.timestamp() <= self._notice_at:
                found += [_notice_frame(one, until)] if _topic(one) in topics else []
        return found

    async def _sample(self) -> None:
        wanted = set[str]().union(*(stream.topics for stream in self.streams))
        inspector = await self._queue.inspector()
        if "queues" in wanted:
            self._show("queues", await inspector.queues())
        if "workers" in wanted:
            self._show("workers", await inspector.workers())

    def _show(self, topic: str, items: Iterable[Any]) -> None:
        """Hand out how something stands, if it changed."""
        data = {"items": [msgspec.to_builtins(one) for one in items]}
        shown = frames.frame(topic, data)
        if self._shown.get(topic) != shown:
            self._shown[topic] = shown
            self._tell(topic, shown)

    def _follow(self) -> None:
        """Begin with the notices of now; streams look up themselves what was before."""
        start = self._clock.now()
        self._notice_at = start.timestamp()
        self._follower = notices.Follower(start)

    async def _tell_notices(self) -> None:
        async with self._database.reading() as db:
            found = await self._follower.read(db)
        for one in found:
            self._notice_at = max(self._notice_at, one.at.timestamp())
            self._tell(_topic(one), _notice_frame(one, self._place))

    async def _beat(self, now: float) -> None:
        due = [stream for stream in self.streams if stream.beat_at <= now]
        for stream in due:
            stream.beat_at = now + HEARTBEAT
        allowed = await asyncio.gather(*(stream.allowed() for stream in due))
        for stream, may in zip(due, allowed, strict=True):
            if stream.stalled(now):
                stream.drop()
            elif may:
                stream.push(frames.COMMENT, now)
            else:
                stream.end("you may no longer read this: sign in again", now)

    def _tell(self, topic: str, chunk: bytes) -> None:
        now = self._clock.monotonic()
        for stream in self.streams:
            if topic in stream.topics:
                self.sent += 1
                stream.push(chunk, now)

    def _tell_all(self, chunk: bytes) -> None:
        now = self._clock.monotonic()
        for stream in self.streams:
            stream.push(chunk, now)


def _topic(one: notices.Notice) -> str:
    return one.topic.partition(".")[0]


def _notice_frame(one: notices.Notice, place: str) -> bytes:
    data = frames.notice(one.topic, one.at.isoformat(), one.data)
    return frames.frame(_topic(one), data, place)
