"""The events of all queues as one stream, resumable after any of them.

Each queue numbers its own events without a gap. A cursor is a number per queue, in the order in
which queues were first used, behind their sum: that grows with every event, whichever queue it is
of, so cursors sort; and an event that a queue writes late is never behind one that was given out.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from conveyor.brokers.base import Event
from conveyor.brokers.redis.records import LETTERS, unpack_id
from conveyor.brokers.redis.server import Command
from conveyor.brokers.redis.store import Store

_FEW, _ENTRIES = 16, 200
"""An entry holds between one event and thousands: the longer it goes on, the more are fetched."""


class _Change(NamedTuple):
    number: int
    at: float
    id: bytes
    state: str
    execution: int


class _Reader:
    """The events of one queue, fetched as they are needed."""

    def __init__(self, store: Store, queue: str, position: int) -> None:
        self.queue = queue
        self.position = position
        self.changes: deque[_Change] = deque()
        self._store = store
        self._fetched = position
        self._packed: deque[tuple[int, list[bytes]]] = deque()
        self._count = _FEW
        self._over = False

    def fetch(self) -> list[Command]:
        """Return the commands that bring more, if any is needed and there may be some."""
        self._unpack()
        if self.changes or self._over:
            return []
        root = self._store.root(self.queue)
        after = f"{self._fetched + 1}-0"
        return [
            self._store.plain("GET", root, ":evn"),
            self._store.plain("XRANGE", root, ":ev", after, "+", "COUNT", self._count),
        ]

    def take_in(self, last: bytes | None, entries: list[Any]) -> None:
        """Take the replies."""
        if int(last or 0) < self._fetched:
            # Somebody emptied the server: its numbers began anew.
            self.position = self._fetched = 0
            self._over = not last
            return
        for entry_id, fields in entries:
            end = int(entry_id.split(b"-")[0])
            self._packed.append((end, fields))
            self._fetched = end
        self._over = len(entries) < self._count
        self._count = min(_ENTRIES, 2 * self._count)
        self._unpack()

    def _unpack(self) -> None:
        """Unpack an entry when the one before it is used up: the caller may want few of them."""
        while self._packed and not self.changes:
            end, fields = self._packed.popleft()
            self.changes += [c for c in _unpack(end, fields) if c.number > self.position]


async def read_events(store: Store, after: str, limit: int) -> list[Event]:
    """Return up to `limit` events after a cursor, oldest first."""
    queues, positions = await _positions(store, after)
    readers = [
        _Reader(store, queue, position) for queue, position in zip(queues, positions, strict=False)
    ]
    found: list[Event] = []
    while len(found) < limit:
        await _refill(store, readers)
        ready = [reader for reader in readers if reader.changes]
        if not ready:
            break
        # Until one of them is used up the others' heads are known: merge by time.
        while len(found) < limit and all(reader.changes for reader in ready):
            reader = min(ready, key=lambda one: one.changes[0].at)
            change = reader.changes.popleft()
            reader.position = change.number
            found.append(
                Event(
                    _cursor([reader.position for reader in readers]),
                    change.at,
                    unpack_id(change.id),
                    reader.queue,
                    change.state,
                    change.execution,
                )
            )
    return found


async def newest(store: Store) -> str:
    """Return the cursor of the newest events, "" before the first."""
    queues = await store.queue_names()
    replies = await store.ask(*(store.plain("GET", store.root(q), ":evn") for q in queues))
    numbers = [int(reply or 0) for reply in replies]
    return _cursor(numbers) if any(numbers) else ""


async def missed(store: Store, after: str) -> bool:
    """Whether events after a cursor may have been cut off, or the server was emptied since."""
    queues, positions = await _positions(store, after)
    if len(positions) > len(queues):
        return True
    commands = []
    for queue in queues:
        root = store.root(queue)
        commands.append(store.plain("GET", root, ":evn"))
        commands.append(store.plain("XRANGE", root, ":ev", "-", "+", "COUNT", 1))
    replies = await store.ask(*commands)
    return any(map(_is_cut, positions, replies[::2], replies[1::2]))


def _is_cut(position: int, last: bytes | None, oldest: list[Any]) -> bool:
    """Whether one queue lost events after `position`."""
    if int(last or 0) <= position:
        return int(last or 0) < position
    if not oldest:
        return True
    ((entry_id, fields),) = oldest
    changes = _unpack(int(entry_id.split(b"-")[0]), fields)
    return bool(changes) and changes[0].number > position + 1


async def _positions(store: Store, after: str) -> tuple[list[str], list[int]]:
    positions = [int(number) for number in after.partition("-")[2].split(".") if number]
    queues = await store.queue_names()
    return queues, positions + [0] * (len(queues) - len(positions))


async def _refill(store: Store, readers: list[_Reader]) -> None:
    while hungry := [(one, commands) for one in readers if (commands := one.fetch())]:
        replies = await store.ask(*(command for _, commands in hungry for command in commands))
        for (reader, _), last, entries in zip(hungry, replies[::2], replies[1::2], strict=True):
            reader.take_in(last, entries)


def _unpack(end: int, fields: list[bytes]) -> list[_Change]:
    at = 0.0
    batch: list[tuple[bytes, str, int]] = []
    for kind, value in zip(fields[::2], fields[1::2], strict=True):
        if kind == b"t":
            at = int(value) / 1000
            continue
        state, execution = LETTERS[chr(kind[0])].value, int(kind[1:])
        batch += [
            (value[start : start + 16], state, execution) for start in range(0, len(value), 16)
        ]
    first = end - len(batch) + 1
    return [_Change(first + place, at, *change) for place, change in enumerate(batch)]


def _cursor(numbers: list[int]) -> str:
    while numbers[-1] == 0:
        numbers.pop()
    return f"{sum(numbers):016d}-{'.'.join(map(str, numbers))}"
