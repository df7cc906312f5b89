"""What may be done to schedules at run time, on an open broker."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from conveyor.core.codec import decode_call
from conveyor.core.errors import (
    BrokerError,
    InvalidOption,
    ScheduleChanged,
    ScheduleNotFound,
)
from conveyor.core.options import instant, priority_level, queue_name
from conveyor.core.schedule import (
    BACKLOG,
    WINDOW,
    CatchUp,
    Entry,
    Overlap,
    Paused,
    Schedule,
    check_policy,
    instance,
    next_fire,
)
from conveyor.core.task import NewTask, Task
from conveyor.core.timing import Fire, Timing, preview, timing
from conveyor.schedules.book import TRIES, Book, Kept, shard_of
from conveyor.system import new_id

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.clock import Clock

LAG = 60.0
"""Seconds after its time at which a fire that nobody decided is worth a warning."""
_MAX_NAME = 200
_replace = msgspec.structs.replace


class ScheduleInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it stands."""

    name: str
    task: str
    """Name of the task definition."""
    timing: str
    """In words, e.g. `0 9 * * MON-FRI Europe/Berlin` or `every 1 s`."""
    cron: str | None = None
    tz: str | None = None
    every: float | None = None
    overlap: Overlap
    catch_up: CatchUp
    catch_up_window: float
    jitter: float
    queue: str
    priority: int
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    paused: Paused | None = None
    source: str
    """`code` or `runtime`."""
    scope: str = ""
    """The app that declares it, when it comes from code."""
    edited_at: float
    """When it was made, changed or resumed, epoch seconds."""
    next_at: float | None = None
    """Nominal time of the next fire, epoch seconds; None while it is paused without end."""
    last_at: float | None = None
    """Nominal time of the newest fire, epoch seconds."""
    last_task: str | None = None
    """Id of its task, as long as that is remembered."""
    waiting: int = 0
    """Fires that wait for the one before them to end."""
    fired: int = 0
    skipped: int = 0
    """Fires that overlapped with an earlier one and were left out."""
    version: int = 0
    """Grows with every change; give it as `if_version` to change what was seen and nothing else."""
    creation_id: str = ""
    """What it was made under, see `app.schedules.create`; empty when it comes from code."""


class Desk:
    """Makes, changes and shows schedules. All methods raise `BrokerUnavailable` when the store is
    away. Keepers act on a change within a second or so.
    """

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._book = Book(broker.documents)

    async def list(self) -> list[ScheduleInfo]:
        """Return every schedule, by name."""
        kept, shards = await self._book.all(), await self._book.shards()
        found = []
        for name, one in sorted(kept.items()):
            shard = shards.get(shard_of(name))
            entry = shard.entries.get(name, Entry()) if shard else Entry()
            found.append(self._info(one, entry))
        return found

    async def get(self, name: str) -> ScheduleInfo:
        """Return one. Raises `ScheduleNotFound`."""
        kept = await self._find(name)
        shard = await self._book.shard(shard_of(name))
        return self._info(kept, shard.entries.get(name, Entry()))

    async def create(self, schedule: Schedule) -> ScheduleInfo:
        """Store a new one; its first fire is the first after now. Under the `creation_id` of one
        that is there nothing is stored. Raises `InvalidOption` when the name is taken."""
        check_name(schedule.name)
        fresh = _replace(schedule, edited_at=self._clock.time())
        if not await self._book.put(fresh, 0) and not await self._was_made_as(schedule):
            raise InvalidOption(
                f"a schedule is named {schedule.name!r} already: edit it, or delete it first"
            )
        # By a repeat too: whoever made it may have died before this.
        await self._book.touch()
        return await self.get(schedule.name)

    async def edit(
        self,
        name: str,
        *,
        cron: str | None = None,
        tz: str | None = None,
        every: float | timedelta | None = None,
        overlap: Overlap | None = None,
        catch_up: CatchUp | None = None,
        catch_up_window: float | timedelta | None = None,
        jitter: float | timedelta | None = None,
        queue: str | None = None,
        priority: int | str | None = None,
        if_version: int | None = None,
    ) -> ScheduleInfo:
        """Change what is given. What the schedule would have fired before now is not made up for
        by the new timing. Raises `ScheduleNotFound`, `ScheduleChanged` or `InvalidOption`."""

        def change(old: Schedule) -> Schedule:
            when = old.timing
            if cron is not None or tz is not None or every is not None:
                when = _edited(when, cron, tz, every)
            new = _replace(
                old,
                timing=when,
                overlap=overlap or old.overlap,
                catch_up=catch_up or old.catch_up,
                window=old.window if catch_up_window is None else _span(catch_up_window),
                jitter=old.jitter if jitter is None else _span(jitter),
                task=_moved(old.task, queue, priority),
            )
            check_policy(new.overlap, new.catch_up, new.window, new.jitter)
            return new

        return await self._change(name, change, if_version=if_version)

    async def pause(
        self, name: str, *, reason: str = "", by: str = "", until: datetime | None = None
    ) -> ScheduleInfo:
        """Let it fire no more until it is resumed, or until `until` (an aware datetime). What falls
        into the pause is not made up for. Raises `ScheduleNotFound` or `InvalidOption`."""
        end = None if until is None else instant(until)
        paused = Paused(reason, by, self._clock.time(), end)
        return await self._change(name, lambda old: _replace(old, paused=paused), edits=False)

    async def resume(self, name: str) -> ScheduleInfo:
        """Let it fire again, from now on. Raises `ScheduleNotFound`."""
        return await self._change(name, lambda old: _replace(old, paused=None))

    async def run_now(self, name: str, *, task_id: str | None = None) -> str:
        """Enqueue its task at once, whatever else runs; returns the task's id. Later fires see it
        as an earlier one. Under an id of one's own a repeat is no other task. Raises
        `ScheduleNotFound`."""
        kept = await self._find(name)
        task_id, now = task_id or new_id(), self._clock.time()

        def remembered(entry: Entry) -> Entry:
            others = (one for one in entry.running if one != task_id)
            return _replace(entry, running=(*others, task_id)[-BACKLOG:])

        await self._book.remember(name, remembered)
        await self._broker.push([NewTask(instance(kept.schedule, task_id, now, now))])
        return task_id

    async def delete(
        self, name: str, *, force: bool = False, if_version: int | None = None
    ) -> None:
        """Delete it; tasks that it enqueued stay. Raises `ScheduleNotFound`, `ScheduleChanged`, or
        `InvalidOption` for one that code declares (`force` deletes it all the same)."""
        for _ in range(TRIES):
            kept = await self._find(name, if_version)
            if kept.schedule.source == "code" and not force:
                raise InvalidOption(
                    f"schedule {name!r} is declared in the code of {kept.schedule.scope}: pause "
                    "it, or remove it there (force deletes it until the next deploy)"
                )
            if await self._book.remove(kept):
                await self._book.touch()
                return
        raise BrokerError(f"schedule {name!r} changes too fast: try again")

    async def preview(self, name: str, count: int = 5) -> builtins.list[Fire]:
        """Return its next fires, as if it were not paused. Raises `ScheduleNotFound`."""
        return preview((await self._find(name)).schedule.timing, self._clock.time(), count)

    async def lagging(self, now: float | None = None) -> builtins.list[str]:
        """Return the names of schedules whose next fire is overdue by more than a minute: no keeper
        runs, or it is stuck."""
        at = self._clock.time() if now is None else now
        late = at - LAG
        return [
            info.name
            for info in await self.list()
            if info.next_at is not None and info.next_at < late
        ]

    async def _was_made_as(self, schedule: Schedule) -> bool:
        made_as = (await self._find(schedule.name)).schedule.creation_id
        return bool(made_as) and made_as == schedule.creation_id

    async def _find(self, name: str, if_version: int | None = None) -> Kept:
        try:
            kept = await self._book.get(name)
        except ScheduleNotFound:
            raise ScheduleNotFound(name, await self._book.all()) from None
        if if_version is not None and kept.version != if_version:
            raise ScheduleChanged(name, kept.version)
        return kept

    async def _change(
        self,
        name: str,
        change: Callable[[Schedule], Schedule],
        *,
        edits: bool = True,
        if_version: int | None = None,
    ) -> ScheduleInfo:
        for _ in range(TRIES):
            kept = await self._find(name, if_version)
            new = change(kept.schedule)
            if edits:
                new = _replace(new, edited_at=self._clock.time())
            if await self._book.put(new, kept.version):
                await self._book.touch()
                return await self.get(name)
        raise BrokerError(f"schedule {name!r} changes too fast: try again")

    def _info(self, kept: Kept, entry: Entry) -> ScheduleInfo:
        schedule = kept.schedule
        when, task = schedule.timing, schedule.task
        args, kwargs = decode_call(task.payload)
        return ScheduleInfo(
            name=schedule.name,
            task=task.name,
            timing=str(when),
            cron=when.cron,
            tz=when.tz if when.cron is not None else None,
            every=when.every,
            overlap=schedule.overlap,
            catch_up=schedule.catch_up,
            catch_up_window=schedule.window,
            jitter=schedule.jitter,
            queue=task.queue,
            priority=task.priority,
            args=args,
            kwargs=kwargs,
            paused=schedule.pause_at(self._clock.time()),
            source=schedule.source,
            scope=schedule.scope,
            edited_at=schedule.edited_at,
            next_at=next_fire(schedule, entry, self._clock.time()),
            last_at=entry.last,
            last_task=entry.running[-1] if entry.running else None,
            waiting=len(entry.waiting),
            fired=entry.fired,
            skipped=entry.skipped,
            version=kept.version,
            creation_id=schedule.creation_id,
        )


class Policy(TypedDict, total=False):
    """How a schedule behaves, beside its timing: see `app.schedule`."""

    overlap: Overlap
    catch_up: CatchUp
    catch_up_window: float | timedelta
    jitter: float | timedelta


def draft(
    name: str,
    task: Task,
    when: Timing,
    *,
    overlap: Overlap = "allow",
    catch_up: CatchUp = "last",
    catch_up_window: float | timedelta = WINDOW,
    jitter: float | timedelta = 0.0,
) -> Schedule:
    """Return a checked schedule. Raises `InvalidOption`."""
    check_name(name)
    if task.key is not None:
        raise InvalidOption(f"schedule {name!r}: key= would let only its first fire through")
    window, spread = _span(catch_up_window), _span(jitter)
    check_policy(overlap, catch_up, window, spread)
    return Schedule(
        name=name,
        timing=when,
        task=_replace(task, id="", enqueued_at=0.0),
        overlap=overlap,
        catch_up=catch_up,
        window=window,
        jitter=spread,
    )


def check_name(name: str) -> None:
    """Raise `InvalidOption` unless it can be the name of a schedule."""
    if not 0 < len(name) <= _MAX_NAME or not name.isprintable() or name != name.strip():
        raise InvalidOption(
            f"name={name[:40]!r}: a schedule's name is 1 to {_MAX_NAME} printable characters"
        )


def _edited(
    old: Timing, cron: str | None, tz: str | None, every: float | timedelta | None
) -> Timing:
    if every is not None:
        return timing(every=every, cron=cron, tz=tz)
    if cron is None and old.cron is None:
        raise InvalidOption(f"tz={tz!r}: a grid of seconds has no time zone; give cron too")
    return timing(cron=cron or old.cron, tz=tz or old.tz)


def _moved(task: Task, queue: str | None, priority: int | str | None) -> Task:
    return _replace(
        task,
        queue=task.queue if queue is None else queue_name(queue),
        priority=task.priority if priority is None else priority_level(priority),
    )


def _span(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value
