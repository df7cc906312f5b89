"""The values the queue is made of: a task, its lease, its counters, its executions.

A *task* is immutable from the moment it is enqueued; what happens to it lives beside it, in
`Counters` while it is alive and in `Execution` records for every attempt. Times are seconds since
the Unix epoch (UTC) on the broker's clock, durations are seconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from conveyor.core import defaults
from conveyor.core.gates import Gate

PRIORITIES: dict[str, int] = {"low": 2, "normal": 5, "high": 7, "critical": 9}
LOWEST_PRIORITY, DEFAULT_PRIORITY, HIGHEST_PRIORITY = 0, defaults.PRIORITY, 9
SECONDS_PER_LEVEL = 60.0
"""Age credit: a waiting task gains one priority level per this many seconds (contract D19)."""

MAX_LOSSES = 25
"""Times a task may lose its worker's host before it is dead-lettered (contract D12)."""
CRASHES_BEFORE_ISOLATION = 2
CRASHES_BEFORE_QUARANTINE = 3


class State(StrEnum):
    """Where a task is in its life. The diagram is in `conveyor.core.lifecycle`."""

    BLOCKED = "blocked"
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to a task in this state unless someone requeues it."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.SKIPPED})


class Unique(msgspec.Struct, frozen=True, array_like=True):
    """At most one task per (queue, name, `key`) while it is held.

    `until` says for how long: `queued` (while it waits; a retry takes the key back if nobody else
    has it by then), `start` (until its first start), `done` (until it is final) or `period`
    (`seconds` from the enqueue on, whatever becomes of it). `on_conflict`: `return` the holder,
    `replace` a holder that still waits (it is cancelled), or `raise`. With `debounce`, the due time
    moves: `seconds` after the newest push, at most `longest` (0: for ever) after the first one. It
    is that of the task that replaces, or that of the holder, later only, with `return`.
    """

    key: str
    until: str
    seconds: float = 0.0
    on_conflict: str = "return"
    debounce: bool = False
    longest: float = 0.0


class Fair(msgspec.Struct, frozen=True, array_like=True):
    """Whose turn it is: lanes of a queue take turns, `weight` tasks at a time."""

    key: str
    weight: int = 1


class Terms(msgspec.Struct, frozen=True, array_like=True):
    """What a task asks for beyond the plain line of its queue. A plain task has none, and pays for
    none.
    """

    gates: tuple[Gate, ...] = ()
    fair: Fair | None = None
    lane: str = ""
    """Where it waits (`conveyor.core.gates.lane_of`); empty without gates and fairness key."""
    unique: Unique | None = None
    scheduled_for: float | None = None
    """The nominal time of the schedule that enqueued it, epoch seconds."""
    schedule: str | None = None
    """Name of that schedule."""
    flow: str | None = None
    """Id of the workflow it is a node of."""
    node: int = 0
    index: int = 0
    """Which child of a mapped node."""


class Task(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One enqueued unit of work, as its producer described it. Never changes."""

    id: str
    """UUIDv7 (RFC 9562), made by the producer: sorts by creation time."""
    name: str
    queue: str
    priority: int
    payload: bytes
    """MessagePack of `[args, kwargs]`, see `conveyor.core.codec`."""
    enqueued_at: float
    max_attempts: int = defaults.MAX_ATTEMPTS
    retry_base: float = defaults.RETRY_BASE
    retry_cap: float = defaults.RETRY_CAP
    """Backoff for outcomes decided without the task definition at hand (crashes)."""
    timeout: float | None = None
    key: str | None = None
    """Idempotency key: at most one task per (queue, name, key)."""
    digest: str | None = None
    """Hash of the payload; set together with `key` to tell a repeat from a conflict."""
    result_ttl: float = defaults.RESULT_TTL
    headers: dict[str, str] = {}
    """Small strings that travel with the task: trace context, who enqueued it."""
    terms: Terms | None = None


class NewTask(msgspec.Struct, frozen=True):
    """A task on its way to the broker, with when it may start: `delay` seconds from the broker's
    now, or `due_at` as an absolute time; neither means at once.
    """

    task: Task
    delay: float | None = None
    due_at: float | None = None


class Counters(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a living task has used up. A task leased for the first time has none (all zero)."""

    attempts: int = 0
    """Attempts spent on failures, time-outs and crashes; the rest is free."""
    crashes: int = 0
    losses: int = 0
    snoozes: int = 0


UNTOUCHED = Counters()


class Lease(msgspec.Struct, frozen=True):
    """The right to run a task, fenced by the execution number (+1 at every lease, never reused)."""

    task: Task
    execution: int
    counters: Counters = UNTOUCHED
    cancel_requested: bool = False
    worker: str = ""
    """Token of the worker that holds it: a UUID per boot, never a host name."""
    leased_at: float = 0.0

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1: one more than the attempts spent."""
        return self.counters.attempts + 1

    @property
    def must_run_alone(self) -> bool:
        """Whether enough child processes died under this task to give it one of its own."""
        return self.counters.crashes >= CRASHES_BEFORE_ISOLATION


class ErrorInfo(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """An exception as it is stored: never a pickled object."""

    type: str
    """Qualified class name, e.g. `smtplib.SMTPServerDisconnected`."""
    message: str
    traceback: str = ""


class Execution(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The record of one execution: one run under one lease."""

    number: int
    """The execution number, also the fencing token."""
    attempt: int
    outcome: str
    """Name of the outcome: succeeded, failed, timed_out, snoozed, rejected, cancelled,
    interrupted, crashed, lost."""
    worker: str
    started_at: float
    duration: float
    code_version: str = ""
    error: ErrorInfo | None = None
    logs: tuple[str, ...] = ()
    """Captured log lines, head and tail kept when there were too many."""
    retry_in: float | None = None
    """Seconds until the next attempt, when one follows."""


class Progress(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """How far a running task says it is."""

    done: float
    total: float | None = None
    message: str = ""


class Pause(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """Why a queue gives out no tasks."""

    reason: str
    by: str
    at: float


class Final(msgspec.Struct, frozen=True):
    """What a finished task ended in; `result` is MessagePack and set only when it succeeded."""

    id: str
    state: State
    result: bytes | None = None
    error: ErrorInfo | None = None


class TaskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the broker knows of a task. What `handle.info()` returns."""

    id: str
    name: str
    queue: str
    priority: int
    state: State
    flags: tuple[str, ...] = ()
    """Shown with the state: retrying, cancelling, unroutable, quarantined, in_doubt."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    key: str | None = None
    enqueued_at: float
    due_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    execution: int = 0
    attempts: int = 0
    max_attempts: int = 0
    timeout: float | None = None
    worker: str | None = None
    progress: Progress | None = None
    error: ErrorInfo | None = None
    reason: str | None = None
    """Why it is dead, cancelled or parked, in a sentence."""
    executions: tuple[Execution, ...] = ()
    headers: dict[str, str] = {}
    terms: Terms | None = None
    """Its limits, turns and uniqueness, schedule and workflow; None for a plain task."""
