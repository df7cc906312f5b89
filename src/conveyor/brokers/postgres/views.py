"""From a row of `tasks.sql` to what the user sees of a task."""

from __future__ import annotations

from conveyor.brokers.postgres.rows import (
    NO_TAIL,
    Row,
    Tail,
    counters_of,
    unpack_error,
    unpack_execution,
    unpack_note,
    unpack_tail,
    unpack_task,
)
from conveyor.brokers.sql import STATES
from conveyor.core.codec import decode_call
from conveyor.core.effect import IN_DOUBT
from conveyor.core.task import Execution, State, TaskInfo


def info_of(row: Row, executions: tuple[Execution, ...] = ()) -> TaskInfo:
    """Return what is known of the task."""
    task = unpack_task(row["body"])
    state = STATES[row["state"]]
    tail = _tail(row, state)
    last = unpack_execution(row["last"]) if row["last"] is not None else None
    running = state is State.RUNNING
    args, kwargs = decode_call(task.payload)
    return TaskInfo(
        id=task.id,
        name=task.name,
        queue=task.queue,
        priority=task.priority,
        state=state,
        flags=_flags(row, state, tail),
        args=tuple(args),
        kwargs=kwargs,
        key=task.key,
        enqueued_at=task.enqueued_at,
        due_at=row["due"],
        started_at=row["leased_at"] if running else (last.started_at if last else None),
        finished_at=row["finished_at"],
        execution=_execution(row, state),
        attempts=tail.counters.attempts,
        max_attempts=task.max_attempts,
        timeout=task.timeout,
        worker=row["worker"] or (last.worker if last else None),
        progress=unpack_note(row["note"]).progress if row["note"] is not None else None,
        error=tail.error,
        reason=tail.reason,
        executions=executions,
        headers=task.headers,
        terms=task.terms,
    )


def _execution(row: Row, state: State) -> int:
    if state is State.RUNNING:
        return int(row["leased"])
    return int(row["last_execution"] if state.is_final else row["execution_before"])


def _tail(row: Row, state: State) -> Tail:
    """What it has used up; the row of the task knows for a task that was put back or never ran."""
    if row["tail"] is not None:
        tail = unpack_tail(row["tail"])
        return Tail(tail.counters, tail.error, row["cancel_reason"] or tail.reason)
    if state is State.SUCCEEDED:
        return NO_TAIL
    error = unpack_error(row["error"]) if row["error"] is not None else None
    return Tail(counters_of(row["counters"]), error, row["cancel_reason"] or row["reason"])


def _flags(row: Row, state: State, tail: Tail) -> tuple[str, ...]:
    shown = {
        "retrying": state is State.SCHEDULED and tail.counters.attempts > 0,
        "cancelling": state is State.RUNNING and row["cancel"] is not None,
        "unroutable": row["parked"],
        "quarantined": state is State.FAILED and (tail.reason or "").startswith("poison"),
        "in_doubt": state is State.FAILED and (tail.reason or "").startswith(IN_DOUBT),
    }
    return tuple(flag for flag, is_shown in shown.items() if is_shown)
