"""Step and adopt: settle what ended, promote what is due, lease what is next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conveyor.brokers.base import (
    DEAD_RETENTION_SECONDS,
    RETENTION_SECONDS,
    Settlement,
    Step,
    StepReply,
)
from conveyor.brokers.postgres.connection import Connection
from conveyor.brokers.postgres.floors import Floors
from conveyor.brokers.postgres.rows import (
    NO_TAIL,
    Row,
    Tail,
    counters_of,
    lease_of,
    pack,
    packed,
    tasks_of,
)
from conveyor.brokers.postgres.terms import asks
from conveyor.brokers.sql import NUMBERS
from conveyor.core.task import FINAL_STATES, UNTOUCHED, Lease, State

_NUMBERED = ", ".join(f"${n}" for n in range(1, 28))
_STEP = f"SELECT * FROM step({_NUMBERED})"  # noqa: S608 - numbers
_ADOPT = "SELECT * FROM adopt($1, $2, $3, $4, $5)"
_PARKED, _DUE, _READY = 0, 1, 2
_NOTHING: tuple[list[Any], ...] = ([], [], [], [], [], [], [], [])
_NOTHING_BACK: tuple[list[Any], ...] = ([], [], [], [], [], [], [], [], [])


async def step(connection: Connection, asked: Step, floors: Floors, now: float | None) -> StepReply:
    """Do one step."""
    entries, repeats = _once(asked.settlements)
    ending: Sequence[Settlement] = entries
    living: Sequence[Settlement] = ()
    if any(entry.transition.to not in FINAL_STATES for entry in entries):
        living = [entry for entry in entries if entry.transition.to not in FINAL_STATES]
        ending = [entry for entry in entries if entry.transition.to in FINAL_STATES]
    row = await connection.fetchrow(
        _STEP,
        now,
        asked.worker,
        list(asked.queues),
        asked.want,
        floors.starts(asked.queues),
        floors.wants_number,
        *(_ending(ending) if ending else _NOTHING),
        *(_living(living) if living else _NOTHING_BACK),
        asked.want if asked.slots is None else asked.slots,
        _with_terms(ending),
        _with_terms(living),
        floors.sure,
    )
    floors.learn(asked.queues, row)
    refused = _refused(ending, row["finished"]) + _refused(living, row["back"]) + repeats
    due = row["next_due"]
    return StepReply(
        leases=_leases(row, asked.worker) if row["numbers"] is not None else (),
        refused=refused,
        cancels=[str(task_id) for task_id in row["cancels"]],
        next_due=None if due is None else max(0.0, due),
    )


def _once(entries: Sequence[Settlement]) -> tuple[Sequence[Settlement], list[str]]:
    """Return the first settlement of each execution, and the ids of those that repeat one."""
    if len({entry.lease.task.id for entry in entries}) == len(entries):
        return entries, []
    first: dict[tuple[str, int], Settlement] = {}
    repeats = [
        entry.lease.task.id
        for entry in entries
        if first.setdefault((entry.lease.task.id, entry.lease.execution), entry) is not entry
    ]
    return list(first.values()), repeats


def _ending(entries: Sequence[Settlement]) -> tuple[list[Any], ...]:
    leases = [entry.lease for entry in entries]
    transitions = [entry.transition for entry in entries]
    return (
        [lease.task.id for lease in leases],
        [lease.execution for lease in leases],
        [NUMBERS[transition.to] for transition in transitions],
        [keep(entry) for entry in entries],
        [t.result if t.to is State.SUCCEEDED else None for t in transitions],
        [None if entry.execution is None else pack(entry.execution) for entry in entries],
        [tail(entry) for entry in entries],
        [lease.task.id for lease in leases if lease.task.key is not None],
    )


def _with_terms(entries: Sequence[Settlement]) -> list[int]:
    return [n for n, entry in enumerate(entries, 1) if asks(entry.lease.task)]


def keep(entry: Settlement) -> float:
    """Seconds the record of a finished task is kept."""
    if entry.transition.to is State.SUCCEEDED:
        return max(entry.lease.task.result_ttl, RETENTION_SECONDS)
    return DEAD_RETENTION_SECONDS


def tail(entry: Settlement) -> bytes | None:
    """What is kept of how it ended, beside its state and result."""
    end = entry.transition
    if end.error is None and end.reason is None and end.counters == UNTOUCHED:
        # Only of a success is it clear that no tail means nothing, see the inspector.
        return None if end.to is State.SUCCEEDED else pack(NO_TAIL)
    return pack(Tail(end.counters, end.error, end.reason))


def _living(entries: Sequence[Settlement]) -> tuple[list[Any], ...]:
    transitions = [entry.transition for entry in entries]
    return (
        [entry.lease.task.id for entry in entries],
        [entry.lease.execution for entry in entries],
        [_place(entry) for entry in entries],
        [transition.delay for transition in transitions],
        [packed(entry.execution) for entry in entries],
        # For the case that a cancellation turns up.
        [pack(Tail(t.counters, t.error)) for t in transitions],
        [None if t.counters == UNTOUCHED else pack(t.counters) for t in transitions],
        [packed(t.error) for t in transitions],
        [t.reason for t in transitions],
    )


def _place(entry: Settlement) -> int:
    transition = entry.transition
    if transition.parked:
        return _PARKED
    later = transition.to is State.SCHEDULED and transition.delay > 0
    return _DUE if later else _READY


def _refused(entries: Sequence[Settlement], done: list[int] | None) -> list[str]:
    """Return the ids at positions (from 1) that are not done."""
    if len(done or ()) == len(entries):
        return []
    accepted = set(done or ())
    return [entry.lease.task.id for n, entry in enumerate(entries, 1) if n not in accepted]


def _leases(row: Row, worker: str) -> list[Lease]:
    at = row["clock"]
    tasks = [
        task
        for number, bodies in zip(row["numbers"], row["bodies"], strict=True)
        for task in tasks_of(number, bodies)
    ]
    executions = row["executions"]
    if executions is None:
        return [Lease(task, 1, UNTOUCHED, False, worker, at) for task in tasks]
    leases = [
        Lease(task, execution, counters_of(counters), worker=worker, leased_at=at)
        for task, execution, counters in zip(tasks, executions, row["counters"], strict=True)
    ]
    return leases if row["places"] is None else _in_order(leases, row["places"])


def _in_order(leases: list[Lease], places: Sequence[int]) -> list[Lease]:
    """Put the gated ones, which come last, where they belong in the order of the claim."""
    ordered = leases[: len(leases) - len(places)]
    for place, lease in zip(places, leases[len(ordered) :], strict=True):
        ordered.insert(place, lease)
    return ordered


async def adopt(  # noqa: PLR0917 - the verb's own arguments
    connection: Connection,
    worker: str,
    names: Sequence[str],
    queues: Sequence[str],
    want: int,
    now: float | None,
) -> list[Lease]:
    """Lease parked tasks that this worker knows."""
    rows = await connection.fetch(_ADOPT, now, worker, list(names), list(queues), want)
    return [lease_of(row) for row in rows]
