"""From what lua/_look.lua saw to a `TaskInfo`."""

from __future__ import annotations

from typing import Any

from conveyor.brokers.redis.records import (
    LETTERS,
    Cancellation,
    Touched,
    cancellation_from,
    execution_from,
    read_before,
    read_ending,
    read_hold,
    task_from,
)
from conveyor.brokers.redis.renewing import read_note
from conveyor.core.codec import decode_call
from conveyor.core.effect import IN_DOUBT
from conveyor.core.task import Execution, State, TaskInfo


class Sight:
    """One look, unpacked."""

    def __init__(self, look: list[Any]) -> None:
        letter, packed, where, before, note, flag, executions = look
        self.letter: str = letter.decode()
        self.state = LETTERS[self.letter]
        self.task = task_from(packed)
        self.due_at = float(where) / 1000 if self.letter == "d" else None
        self.progress = read_note(note.split(b" ", 1)[1]).progress if note else None
        self.cancellation: Cancellation | None = None
        if flag:
            self.cancellation = cancellation_from(flag.split(b"\n", 1)[1])
        self.executions = tuple(execution_from(packed) for packed in executions)
        self.finished_at: float | None = None
        self.touched: Touched
        if self.state.is_final:
            self.finished_at, ending = read_ending(where)
            self.number, self.touched = ending.number, ending.touched
            self.executions, self.cancellation = ending.executions, ending.cancellation
        else:
            self.number, self.touched = read_before(before)
        last = self.executions[-1] if self.executions else None
        self.started_at = last.started_at if last else None
        self.worker = last.worker if last else None
        if self.letter == "r":
            self.number, self.started_at, self.worker = read_hold(where)

    @property
    def flags(self) -> tuple[str, ...]:
        """What is shown with the state."""
        reason = self.touched.reason or ""
        shown = {
            "retrying": self.state is State.SCHEDULED and self.touched.counters.attempts > 0,
            "cancelling": self.state is State.RUNNING and self.cancellation is not None,
            "unroutable": self.letter == "p",
            "quarantined": self.state is State.FAILED and reason.startswith("poison"),
            "in_doubt": self.state is State.FAILED and reason.startswith(IN_DOUBT),
        }
        return tuple(flag for flag, on in shown.items() if on)

    @property
    def reason(self) -> str | None:
        """Why it is dead, cancelled, parked or held back."""
        if self.state is State.CANCELLED and self.cancellation is not None:
            return self.cancellation.sentence
        if self.letter in {"p", "d"} or self.state.is_final:
            return self.touched.reason
        return None

    def info(self, executions: tuple[Execution, ...] = ()) -> TaskInfo:
        """Return everything known of the task."""
        task = self.task
        args, kwargs = decode_call(task.payload)
        return TaskInfo(
            id=task.id,
            name=task.name,
            queue=task.queue,
            priority=task.priority,
            state=self.state,
            flags=self.flags,
            args=tuple(args),
            kwargs=kwargs,
            key=task.key,
            enqueued_at=task.enqueued_at,
            due_at=self.due_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            execution=self.number,
            attempts=self.touched.counters.attempts,
            max_attempts=task.max_attempts,
            timeout=task.timeout,
            worker=self.worker,
            progress=self.progress,
            error=None if self.state is State.SUCCEEDED else self.touched.error,
            reason=self.reason,
            executions=executions,
            headers=task.headers,
            terms=task.terms,
        )
