"""Schedules: what is said of one, what is remembered of its fires, and which fires are due. Pure.

A *fire* is one nominal time of a schedule becoming a task. `decide` says what to do at an instant;
the keeper stores the decision before it acts on it, so that whoever takes over does the same:

    definition + entry + now + who is alive ─▶ Decision(entry afterwards, fires, cancels)

`Entry.cursor` only moves forward, so no nominal time is decided twice; `Entry.pending` names the
fires that were decided and perhaps not pushed, and `fire_id` gives each the same id whoever pushes
it, so none is lost and none runs twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from hashlib import blake2b
from math import floor
from typing import Literal, get_args
from uuid import UUID

import msgspec

from conveyor.core.amounts import seconds
from conveyor.core.errors import InvalidOption
from conveyor.core.task import NewTask, Task, Terms
from conveyor.core.timing import Timing

Overlap = Literal["allow", "skip", "buffer_one", "buffer_all", "cancel_other"]
CatchUp = Literal["none", "last", "all"]

ON_TIME = 60.0
"""A fire that is no later than so many seconds is on time; what is older was missed, and is for
`catch_up` to decide. A leader that died is replaced well within it."""
BACKLOG = 100
"""Fires of one schedule at most: caught up, buffered, and pushed in one round."""
WINDOW = 86_400.0
"""Seconds back that `catch_up` looks, unless the schedule says otherwise."""
UNSURE_AFTER = 23 * 3_600.0
"""Seconds after which a store may have forgotten a finished task (it keeps them for 24 h): pushing
its id again would run it again."""


class Paused(msgspec.Struct, frozen=True, array_like=True):
    """Why a schedule does not fire. `until` is epoch seconds, None until somebody resumes it."""

    reason: str
    by: str
    at: float
    until: float | None = None


class Schedule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is said of a schedule, in code or at run time."""

    name: str
    timing: Timing
    task: Task
    """Every fire is a copy of it, with an id and a nominal time of its own."""
    overlap: Overlap = "allow"
    """When the task of an earlier fire has not ended: fire all the same, skip this one, keep one or
    all (100) for later, or cancel the earlier one."""
    catch_up: CatchUp = "last"
    """Which of the fires that nobody was there for are made up: none, the last, all (100)."""
    window: float = WINDOW
    """Seconds back that `catch_up` looks."""
    jitter: float = 0.0
    """A fire is due up to so many seconds after its nominal time, always the same for the same."""
    paused: Paused | None = None
    source: Literal["code", "runtime"] = "runtime"
    scope: str = ""
    """The app that declares it (`MODULE:APP`), when it comes from code."""
    fingerprint: str = ""
    """Of its declaration: changes at run time stay until the code says something new."""
    deploy: int = 0
    """Number of the deploy that declared it last."""
    edited_at: float = 0.0
    """When it was made, changed or resumed: nothing before that is ever caught up."""
    creation_id: str = ""
    """Under which it was made; making it once more under the same one changes nothing."""

    def pause_at(self, now: float) -> Paused | None:
        """Return the pause that holds at `now`, if one does."""
        paused = self.paused
        return paused if paused and (paused.until is None or now < paused.until) else None


class Entry(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What is remembered of a schedule's fires."""

    cursor: float = 0.0
    """Nominal times up to here are decided."""
    running: tuple[str, ...] = ()
    """Ids of the latest fires, those left out that were known to have ended."""
    waiting: tuple[float, ...] = ()
    """Nominal times that are kept until the fire before them has ended."""
    pending: tuple[float, ...] = ()
    """Nominal times that were decided and are perhaps not pushed yet."""
    pending_at: float = 0.0
    fired: int = 0
    skipped: int = 0
    last: float | None = None
    """The newest nominal time that fired."""


class Decision(msgspec.Struct, frozen=True):
    """What to store, and then to do."""

    entry: Entry
    fires: tuple[float, ...] = ()
    cancels: tuple[str, ...] = ()
    """Ids of tasks to stop."""
    more: bool = False
    """There was more than one round may take: decide again at once."""


def check_policy(overlap: str, catch_up: str, window: float, jitter: float) -> None:
    """Raise `InvalidOption` unless these make sense."""
    for name, value, kind in (("overlap", overlap, Overlap), ("catch_up", catch_up, CatchUp)):
        if value not in get_args(kind):
            raise InvalidOption(f"{name}={value!r}: one of {', '.join(get_args(kind))}")
    seconds(window, "catch_up_window")
    if seconds(jitter, "jitter") > 86_400:
        raise InvalidOption(f"jitter={jitter!r}: at most a day (86400)")


def cursor_of(schedule: Schedule, entry: Entry, now: float) -> float:
    """Return the time up to which nothing fires any more: neither an edit nor the end of a pause
    is caught up across."""
    paused = schedule.paused
    resumed = paused.until if paused and paused.until is not None and paused.until <= now else 0.0
    return max(entry.cursor, schedule.edited_at, resumed or 0.0)


def next_fire(schedule: Schedule, entry: Entry, now: float) -> float | None:
    """Return the nominal time of the next fire (it may be past); None while it is paused without
    end, and when there is none any more."""
    cursor = cursor_of(schedule, entry, now)
    paused = schedule.pause_at(now)
    if paused is not None:
        if paused.until is None:
            return None
        cursor = max(cursor, paused.until)
    return schedule.timing.after(cursor)


def decide(schedule: Schedule, entry: Entry, now: float, alive: Collection[str]) -> Decision | None:
    """Say what a schedule does at `now`; None when there is nothing to change. `alive`: which of
    `entry.running` have not ended. An entry that comes back as it was need not be stored.

    Fires on time all fire, the oldest first. Of those missed, none, the last (if none is on time)
    or the last 100 of the window do. `overlap` then says which of them fire now.
    """
    if schedule.pause_at(now) is not None:
        return None
    cursor = cursor_of(schedule, entry, now)
    kept = tuple(at for at in entry.waiting if at > schedule.edited_at)
    first = schedule.timing.after(cursor)
    if first is None or first > now:
        if not kept:
            return None
        if alive:
            stop = tuple(sorted(alive)) if schedule.overlap == "cancel_other" else ()
            return Decision(entry, cancels=stop)
    nominal = _nominal(schedule, cursor, now)
    more = len(nominal) > BACKLOG
    nominal = nominal[:BACKLOG]
    fires, waiting, cancels = _overlapped(schedule.overlap, (*kept, *nominal), sorted(alive))
    passed = nominal[-1] if more else floor(now * 1_000) / 1_000
    left = (*(task for task in entry.running if task in alive), *map(_ids(schedule), fires))
    after = Entry(
        cursor=max(cursor, passed, *nominal),
        running=left[-BACKLOG:],
        waiting=waiting,
        pending=(*entry.pending, *fires),
        pending_at=entry.pending_at if entry.pending else now,
        fired=entry.fired + len(fires),
        skipped=entry.skipped + len(kept) + len(nominal) - len(fires) - len(waiting),
        last=max(fires, default=entry.last),
    )
    return Decision(after, fires, cancels, more)


def _nominal(schedule: Schedule, cursor: float, now: float) -> list[float]:
    """Which nominal times are to fire, by time alone; more than 100 mean that there are more."""
    fresh = max(cursor, now - ON_TIME)
    on_time = schedule.timing.between(fresh, now, BACKLOG + 1)
    if fresh <= cursor or schedule.catch_up == "none":
        return on_time
    if schedule.catch_up == "last" and on_time:
        return on_time
    start = max(cursor, now - schedule.window)
    most = 1 if schedule.catch_up == "last" else BACKLOG
    return schedule.timing.newest(start, fresh, most) + on_time if start < fresh else on_time


def _overlapped(
    overlap: Overlap, line: tuple[float, ...], alive: list[str]
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...]]:
    """Who of the line fires now, who waits, and which tasks are cancelled."""
    if overlap == "allow":
        return line, (), ()
    if overlap == "cancel_other":
        # The newest alone; it waits until those it replaces have ended.
        return ((), line[-1:], tuple(alive)) if alive else (line[-1:], (), ())
    fires = () if alive else line[:1]
    rest = line[len(fires) :]
    most = {"skip": 0, "buffer_one": 1, "buffer_all": BACKLOG}[overlap]
    return fires, rest[:most], ()


# -- from a fire to a task


def fire_id(schedule: str, at: float) -> str:
    """Return the id of the task of one fire: the same for whoever makes it, also after a restore
    from a backup.

    A UUIDv8 (RFC 9562): the nominal millisecond, so that it sorts like other ids, and a hash of
    (schedule, nominal time).
    """
    micros = round(at * 1_000_000)
    # The zero is part of ids that are stored.
    digest = blake2b(f"0\0{micros}\0{schedule}".encode(), digest_size=10).digest()
    value = (micros // 1_000) << 80 | int.from_bytes(digest)
    value = value & ~(0xF << 76) | 0x8 << 76
    return str(UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


def _ids(schedule: Schedule) -> Callable[[float], str]:
    return lambda at: fire_id(schedule.name, at)


def spread(schedule: Schedule, at: float) -> float:
    """Return the seconds after its nominal time that a fire is due: the same for every keeper."""
    if schedule.jitter <= 0:
        return 0.0
    digest = blake2b(f"jitter\0{at!r}\0{schedule.name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64 * schedule.jitter


def fire(schedule: Schedule, at: float, now: float) -> NewTask:
    """Make the task of one fire."""
    task = instance(schedule, fire_id(schedule.name, at), at, now)
    due = at + spread(schedule, at)
    return NewTask(task, due_at=due if due > now else None)


def instance(schedule: Schedule, task_id: str, at: float, now: float) -> Task:
    """Copy the schedule's task under an id, for a nominal time."""
    terms = msgspec.structs.replace(
        schedule.task.terms or Terms(), scheduled_for=at, schedule=schedule.name
    )
    return msgspec.structs.replace(schedule.task, id=task_id, enqueued_at=now, terms=terms)
