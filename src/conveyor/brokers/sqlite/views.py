"""Rows as the values that the inspector answers with."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from conveyor.brokers.base import Event, Filter, QueueInfo, WorkerInfo
from conveyor.brokers.sql import NUMBERS, STATES
from conveyor.brokers.sqlite.rows import (
    MICROS,
    Record,
    decode_execution,
    decode_jotting,
    decode_pause,
    decode_record,
    decode_story,
    decode_task,
    decode_worker,
    pack_id,
    unpack_id,
)
from conveyor.brokers.sqlite.statements import statements
from conveyor.core.codec import decode_call
from conveyor.core.effect import IN_DOUBT
from conveyor.core.errors import InvalidOption, TaskNotFound
from conveyor.core.task import (
    CRASHES_BEFORE_QUARANTINE,
    Final,
    State,
    TaskInfo,
)

SQL = statements("inspect")
_LOWEST_ID, _HIGHEST_ID = b"", b"\xff" * 16
_FEW_QUEUED = 10_000
"""Below so many waiting tasks it is quicker to begin with them than to walk through all tasks."""
_PER_QUERY = 500
_decode_changes = msgspec.msgpack.Decoder(list[tuple[int, int, int, bytes]]).decode


class Row(NamedTuple):
    """A row of the view `conveyor_tasks`."""

    seq: int
    id: bytes
    queue: str
    name: str
    priority: int
    state: int
    execution: int
    due_at: int | None
    worker: str | None
    leased_at: int | None
    cancel: int | None
    note: bytes | None
    parked: int
    finished_at: int | None
    record: bytes | None
    story: bytes | None
    body: bytes


def get(connection: sqlite3.Connection, task_id: str) -> TaskInfo:
    """Return everything known of one task. Raises `TaskNotFound`."""
    packed = pack_id(task_id)
    found = None if packed is None else connection.execute(SQL["get"], (packed,)).fetchone()
    if found is None:
        raise TaskNotFound(task_id)
    row = Row(*found)
    earlier = connection.execute(SQL["executions"], (row.seq,)).fetchall()
    executions = [decode_execution(record) for (record,) in earlier]
    if row.record is not None and (last := decode_record(row.record).execution) is not None:
        executions.append(last)
    return msgspec.structs.replace(info_of(row), executions=tuple(executions))


def tasks(connection: sqlite3.Connection, where: Filter) -> list[TaskInfo]:
    """List tasks in the order of their ids."""
    wanted = set(where.states) or set(State)
    mask = sum(1 << NUMBERS[state] for state in wanted)
    before = _HIGHEST_ID if where.before is None else pack_id(where.before)
    after = _LOWEST_ID if where.after is None else pack_id(where.after)
    if before is None or after is None:
        wrong = f"before={where.before!r}" if before is None else f"after={where.after!r}"
        raise InvalidOption(f"{wrong}: the id of a task")
    order = "oldest" if where.oldest_first else "newest"
    conditions = (
        before,
        after,
        where.queue is None,
        where.queue,
        where.name is None,
        where.name,
    )
    if State.SUCCEEDED not in wanted and not (
        State.QUEUED in wanted
        and connection.execute(SQL["many_queued"], (_FEW_QUEUED,)).fetchone() is not None
    ):
        parameters = (mask,) * 6 + (*conditions, where.limit)
        rows = connection.execute(SQL[f"{order}_of_few"], parameters)
    else:
        rows = connection.execute(SQL[order], (*conditions, mask, where.limit))
    return [info_of(Row(*row)) for row in rows]


def info_of(row: Row) -> TaskInfo:
    """Return what is known of the task, without its executions."""
    task = decode_task(row.body)
    past = decode_record(row.record) if row.record is not None else decode_story(row.story)
    state = STATES[row.state]
    args, kwargs = decode_call(task.payload)
    last = past.execution
    started = row.leased_at / MICROS if row.leased_at is not None else None
    if last is not None:
        started = last.started_at
    return TaskInfo(
        id=unpack_id(row.id),
        name=row.name,
        queue=row.queue,
        priority=row.priority,
        state=state,
        flags=_flags(row, state, past),
        args=args,
        kwargs=kwargs,
        key=task.key,
        enqueued_at=task.enqueued_at,
        due_at=None if row.due_at is None else row.due_at / MICROS,
        started_at=started,
        finished_at=None if row.finished_at is None else row.finished_at / MICROS,
        execution=row.execution,
        attempts=past.counters.attempts,
        max_attempts=task.max_attempts,
        timeout=task.timeout,
        worker=last.worker if last is not None else row.worker,
        progress=None if row.note is None else decode_jotting(row.note).progress,
        error=past.error,
        reason=past.reason,
        headers=task.headers,
        terms=task.terms,
    )


def _flags(row: Row, state: State, past: Record) -> tuple[str, ...]:
    flags = {
        "retrying": state is State.SCHEDULED and past.counters.attempts > 0,
        "cancelling": bool(row.cancel),
        "unroutable": bool(row.parked),
        "quarantined": state is State.FAILED and past.counters.crashes >= CRASHES_BEFORE_QUARANTINE,
        "in_doubt": state is State.FAILED and (past.reason or "").startswith(IN_DOUBT),
    }
    return tuple(flag for flag, raised in flags.items() if raised)


def finals(connection: sqlite3.Connection, ids: Sequence[str], now: int) -> dict[str, Final]:
    """Return the ends of those tasks that have one. Raises `TaskNotFound`."""
    packed = {pack_id(task_id) or b"": task_id for task_id in ids}
    keys = list(packed)
    found: dict[str, Final] = {}
    missing = dict.fromkeys(ids)
    for start in range(0, len(keys), _PER_QUERY):
        chunk = keys[start : start + _PER_QUERY]
        statement = SQL["finals"].format(ids=",".join("?" * len(chunk)))
        for key, state, check_at, result, record in connection.execute(statement, chunk):
            task_id = packed[key]
            missing.pop(task_id, None)
            if state is not None:
                live = result if check_at > now else None
                found[task_id] = Final(task_id, STATES[state], live, decode_record(record).error)
    for task_id in missing:
        raise TaskNotFound(task_id)
    return found


def counts(connection: sqlite3.Connection) -> dict[State, int]:
    """Count the rows of each state."""
    queued, scheduled, running = connection.execute(SQL["count_living"]).fetchone()
    (finished,) = connection.execute(SQL["count_finished"]).fetchone()
    found = {State.SCHEDULED: scheduled, State.QUEUED: queued, State.RUNNING: running}
    dead = {STATES[state]: n for state, n in connection.execute(SQL["count_dead"])}
    found[State.SUCCEEDED] = finished - sum(dead.values())
    return {**dict.fromkeys(State, 0), **found, **dead}


def queue_names(connection: sqlite3.Connection) -> list[str]:
    """Return the names of all queues."""
    return [name for (name,) in connection.execute(SQL["queue_names"])]


def queues(connection: sqlite3.Connection, now: int) -> list[QueueInfo]:
    """Return every queue as it stands."""

    def by_queue(statement: str) -> dict[int, int]:
        return dict(connection.execute(SQL[statement]).fetchall())

    depths: defaultdict[int, Counter[int]] = defaultdict(Counter)
    oldest: dict[int, int] = {}
    for number, priority, count, since in connection.execute(SQL["ready_by_queue"]):
        depths[number][priority] += count
        oldest[number] = min(since, oldest.get(number, since))
    due, parked = by_queue("due_by_queue"), by_queue("parked_by_queue")
    leased = by_queue("leased_by_queue")
    found = []
    for number, name, pause in connection.execute(SQL["queues"]).fetchall():
        found.append(
            QueueInfo(
                name=name,
                queued=depths[number].total(),
                scheduled=due.get(number, 0),
                running=leased.get(number, 0),
                parked=parked.get(number, 0),
                oldest_wait=max(0, now - oldest[number]) / MICROS if number in oldest else None,
                waits_since=oldest[number] / MICROS if number in oldest else None,
                pause=None if pause is None else decode_pause(pause),
                by_priority=dict(sorted(depths[number].items())),
            )
        )
    return found


def workers(connection: sqlite3.Connection, now: int) -> list[WorkerInfo]:
    """Return workers whose lease is live."""
    found = []
    for token, until, packed in connection.execute(SQL["workers"], (now,)):
        said = (
            WorkerInfo(id=token, host="", pid=0, started_at=0.0)
            if packed is None
            else decode_worker(packed)
        )
        found.append(msgspec.structs.replace(said, lease_until=until / MICROS))
    return found


def events(connection: sqlite3.Connection, after: str, limit: int) -> list[Event]:
    """Return changes after a cursor: `<event row>-<place in it>`, both in hexadecimal."""
    row, place = _cursor(after)
    names = dict(connection.execute(SQL["queue_numbers"]).fetchall())
    found: list[Event] = []
    for seq, at, changes in connection.execute(SQL["events"], (row,)):
        skip = place + 1 if seq == row else 0
        found += _expand(seq, at, _decode_changes(changes), names)[skip : skip + limit - len(found)]
        if len(found) >= limit:
            break
    return found


def newest(connection: sqlite3.Connection) -> str:
    """Return the cursor of the newest change, "" before the first."""
    row = connection.execute(SQL["newest_event"]).fetchone()
    if row is None:
        return ""
    changes = sum(len(ids) // 16 for *_, ids in _decode_changes(row[1]))
    return _cursor_at(row[0], changes - 1)


def missed(connection: sqlite3.Connection, after: str) -> bool:
    """Whether events after a cursor may be gone: their rows are numbered without a gap, and the
    last one is always kept."""
    row, _ = _cursor(after)
    oldest, newest = connection.execute(SQL["span_of_events"]).fetchone()
    return row > 0 if oldest is None else oldest > row + 1 or newest < row


def _cursor_at(row: int, place: int) -> str:
    return f"{row:012x}-{place:05x}"


def _cursor(after: str) -> tuple[int, int]:
    if not after:
        return 0, -1
    row, _, place = after.partition("-")
    try:
        return int(row, 16), int(place, 16)
    except ValueError:
        raise InvalidOption(
            f"after={after!r}: the cursor of an event from this store, or nothing for the first"
        ) from None


def _expand(
    seq: int, at: int, changes: list[tuple[int, int, int, bytes]], names: dict[int, str]
) -> list[Event]:
    flat = [
        (ids[start : start + 16], queue, state, execution)
        for state, execution, queue, ids in changes
        for start in range(0, len(ids), 16)
    ]
    return [
        Event(
            _cursor_at(seq, place),
            at / MICROS,
            unpack_id(task_id),
            names[queue],
            STATES[state].value,
            execution,
        )
        for place, (task_id, queue, state, execution) in enumerate(flat)
    ]


def data_version(connection: sqlite3.Connection) -> int:
    """Return a number that changes whenever another connection has committed."""
    return int(connection.execute(SQL["data_version"]).fetchone()[0])
