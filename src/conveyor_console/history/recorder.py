"""The recorder: reads what the queue says has happened, and writes it down.

One of all consoles does it at a time, elected by the broker. What a batch says and how far the
events were read are written in one transaction, so a kill at any instant repeats nothing and leaves
nothing out. When the store began anew, or dropped events before they were read, everything that it
keeps is read once more beside the events (a *sweep*): writing a task twice changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor import Conveyor
from conveyor.errors import ConveyorError, TaskNotFound
from conveyor.inspect import Event, Filter, FinishedTask, State
from conveyor_console.db.engine import Database
from conveyor_console.history import writing
from conveyor_console.history.chores import Chores
from conveyor_console.history.identity import identify
from conveyor_console.history.models import RecorderState
from conveyor_console.history.waits import Waits
from conveyor_console.kit.clock import Clock

log = logging.getLogger("conveyor.console")
ROLE = "recorder"
LEADERSHIP, _RENEW = 15.0, 5.0
_INSTANT = 0.002
"""Seconds by which two stores may write the same moment differently."""
_EVENTS, _PAGE = 6_000, 2_000
_FEW = 1_000
_PAUSE, _GATHER, _LONGEST_BACKOFF = 0.25, 0.1, 5.0
_AGAIN = "the recorder tries again in %.2g s: %s"
_FINAL = frozenset(state.value for state in State if state.is_final)
_FINALS = tuple(state for state in State if state.is_final)


class Overtaken(Exception):
    """Another recorder has written meanwhile."""


class _Batch(NamedTuple):
    """What one reading of the events brought."""

    events: Sequence[Event]
    store: str
    missed: bool
    tasks: Sequence[FinishedTask]


_Ahead = tuple[str, asyncio.Task[_Batch]]
"""The batch after a cursor, being read."""


class Recorder:
    """Writes the history of one queue into one database while it leads."""

    def __init__(
        self,
        queue: Conveyor,
        database: Database,
        clock: Clock,
        new_id: Callable[[], str],
        days: int,
    ) -> None:
        self._queue = queue
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._holder = new_id()
        self._waits = Waits()
        self._chores = Chores(queue, database, clock, days)
        self._state: RecorderState | None = None
        self._leads_until = float("-inf")
        self._ahead: _Ahead | None = None
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # -- running

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="console-recorder")

    async def close(self) -> None:
        """Finish the batch at hand and let another one lead."""
        self._stop.set()
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait([task])
        ahead, self._ahead = self._ahead, None
        await _drop(ahead)
        with contextlib.suppress(ConveyorError):
            if self._leads_until > float("-inf"):
                await (await self._queue.client()).broker.lead(ROLE, self._holder, 0)

    async def _run(self) -> None:
        backoff = _PAUSE
        while not self._stop.is_set():
            try:
                pause = await self.beat()
                backoff = _PAUSE
            except (ConveyorError, SQLAlchemyError, OSError, Overtaken) as exc:
                level = logging.INFO if isinstance(exc, Overtaken) else logging.WARNING
                log.log(level, _AGAIN, backoff, exc)
                pause, backoff = self._later(backoff)
            except Exception as exc:
                # Whatever it is: without the recorder the history would stand still unseen.
                log.warning(_AGAIN, backoff, repr(exc), exc_info=exc)
                pause, backoff = self._later(backoff)
            if pause > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._stop.wait()

    def _later(self, backoff: float) -> tuple[float, float]:
        self._state = None
        return backoff, min(_LONGEST_BACKOFF, backoff * 2)

    async def beat(self) -> float:
        """Write one batch if this one leads; returns the seconds to wait before the next."""
        if not await self._lead():
            return LEADERSHIP / 5
        read, sweeping = await self.record()
        more = await self._chores.bite()
        if sweeping or more or read >= _FEW:
            return 0.0
        return _GATHER if read else _PAUSE

    async def catch_up(self) -> None:
        """Write batch after batch until nothing is left to write. For tests and tools: it leads
        whoever else does, which the database's one row makes safe."""
        while True:
            read, sweeping = await self.record()
            if not read and not sweeping:
                return

    async def _lead(self) -> bool:
        now = self._clock.monotonic()
        if now < self._leads_until - (LEADERSHIP - _RENEW):
            return True
        broker = (await self._queue.client()).broker
        if await broker.lead(ROLE, self._holder, LEADERSHIP) is None:
            self._leads_until = float("-inf")
            self._state = None
            return False
        self._leads_until = now + LEADERSHIP
        return True

    # -- one batch

    async def record(self, most: int = _EVENTS) -> tuple[int, bool]:
        """Write what one reading of at most so many events brings, and a page of the sweep if there
        is one. Returns how many events were read and whether there is more to sweep. Raises
        `Overtaken`, and what broker and database raise."""
        state = self._state or await self._load()
        batch = await self._next(state.cursor, most)
        events, missed, tasks = batch.events, batch.missed, batch.tasks
        if batch.store != state.store:
            return await self._begin_anew(state, batch.store)
        if len(events) == most:
            # The next batch is read while this one is written.
            following = self._read(events[-1].cursor, most)
            self._ahead = events[-1].cursor, asyncio.create_task(following)
        self._waits.note(events)
        ended, living = _last_words(events)
        page, below = await self._page(state.sweep)
        values: dict[str, Any] = {
            "sweep": "" if missed else below,
            "lost": state.lost + await self._lost(events, tasks),
        }
        if events:
            values |= {"cursor": events[-1].cursor, "event_at": events[-1].at}
        changed = {name: new for name, new in values.items() if getattr(state, name) != new}
        if changed or page:
            await self._write(state, changed, [*tasks, *page], living, ended)
        if missed:
            log.warning("events were dropped before they were recorded: reading all tasks again")
        self._waits.forget(ended)
        return len(events), values["sweep"] is not None

    async def _read(self, cursor: str, most: int) -> _Batch:
        inspector = await self._queue.inspector()
        events = await inspector.events(cursor, most)
        # Both asked after the reading, so that they speak of what was read.
        store = await identify(await self._queue.client(), self._new_id)
        missed = bool(events) and await inspector.missed(cursor)
        ended, _ = _last_words(events)
        return _Batch(events, store, missed, await self._fetch(ended))

    async def _next(self, cursor: str, most: int) -> _Batch:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == cursor:
            return await ahead[1]
        await _drop(ahead)
        return await self._read(cursor, most)

    async def _write(
        self,
        state: RecorderState,
        values: dict[str, Any],
        tasks: Sequence[FinishedTask],
        living: dict[str, Event],
        ended: dict[str, str],
    ) -> None:
        self._state = None  # what is not known to be committed is read again
        once = list({task.info.id: task for task in tasks}.values())
        async with self._database.writing(repeatable=True) as session:
            await _advance(session, state, values)
            await writing.revive(session, living)
            await writing.write(session, once, self._names, self._waits.of)
            await self._waits.write(session, ended)
        self._state = state

    async def _fetch(self, ended: dict[str, str]) -> list[FinishedTask]:
        inspector = await self._queue.inspector()
        return await inspector.finished(list(ended), ended) if ended else []

    async def _lost(self, events: Sequence[Event], tasks: Sequence[FinishedTask]) -> int:
        """Return of how many tasks that ended nothing more can be learned: not of those that live
        again, for they end once more, nor of those whose end is written already."""
        ended = {event.id: event.at for event in events if event.state in _FINAL}
        missing = ended.keys() - {one.info.id for one in tasks}
        if not missing:
            return 0
        async with self._database.reading() as session:
            known = await writing.known(session, list(missing))
        gone = 0
        for task_id in missing:
            written = known[task_id].finished_at if task_id in known else None
            if written is None or written < ended[task_id] - _INSTANT:
                gone += await self._is_gone(task_id)
        return gone

    async def _is_gone(self, task_id: str) -> bool:
        try:
            await (await self._queue.client()).broker.finals([task_id])
        except TaskNotFound:
            return True
        return False

    async def _page(self, below: str | None) -> tuple[list[FinishedTask], str | None]:
        """Return the next of the tasks that are being read once more, and how far that is then."""
        if below is None:
            return [], None
        inspector = await self._queue.inspector()
        where = Filter(states=_FINALS, before=below or None, limit=_PAGE)
        infos = await inspector.tasks(where)
        if not infos:
            return [], None
        async with self._database.reading() as session:
            known = await writing.known(session, [info.id for info in infos])
        news = [
            info
            for info in infos
            if info.id not in known or known[info.id].finished_at != info.finished_at
        ]
        return await self._fetch({info.id: info.queue for info in news}), infos[-1].id

    async def _begin_anew(self, state: RecorderState, store: str) -> tuple[int, bool]:
        if state.store:
            log.warning("the queue's store began anew: the history of the old one stays")
        async with self._database.writing() as session:
            await _advance(session, state, {"store": store, "cursor": "", "sweep": ""})
            await self._waits.begin_anew(session)
        self._waits = Waits()
        return 0, True

    async def _load(self) -> RecorderState:
        async with self._database.reading() as session:
            self._state = await session.get_one(RecorderState, 1)
            await self._waits.load(session)
        return self._state

    def _names(self, name: str) -> Sequence[str]:
        definition = self._queue.definitions.get(name)
        return () if definition is None else definition.signature.names


async def _drop(ahead: _Ahead | None) -> None:
    if ahead is not None:
        ahead[1].cancel()
        await asyncio.gather(ahead[1], return_exceptions=True)


async def _advance(session: AsyncSession, state: RecorderState, values: dict[str, Any]) -> None:
    """Write how far the history is, if nobody has meanwhile. Raises `Overtaken`."""
    result: Any = await session.execute(
        update(RecorderState)
        .where(RecorderState.id == 1, RecorderState.version == state.version)
        .values(version=state.version + 1, **values)
    )
    if result.rowcount != 1:
        raise Overtaken("another recorder has written meanwhile")
    state.version += 1
    for name, value in values.items():
        setattr(state, name, value)


def _last_words(events: Sequence[Event]) -> tuple[dict[str, str], dict[str, Event]]:
    """Return the tasks that ended, with their queues, and those that wait (again)."""
    ended = {event.id: event.queue for event in events if event.state in _FINAL}
    return ended, {event.id: event for event in events if event.state == State.QUEUED.value}
