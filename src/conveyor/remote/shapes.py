"""What goes to a console and what comes back. Fields that a newer console adds are ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from conveyor.core.task import FINAL_STATES, State


class NewTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task to enqueue, by the name of its definition. Arguments are what JSON can hold; dates,
    UUIDs and decimals travel as text, which the definition's annotations turn back."""

    name: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = {}
    queue: str | None = None
    priority: int | str | None = None
    """0 to 9, or `low`, `normal`, `high`, `critical`."""
    delay: float | None = None
    """Seconds."""
    at: datetime | None = None
    """Instead of a delay; without a time zone it is UTC."""
    key: str | None = None
    """At most one task per queue, name and key: a second one answers with the first."""


class Enqueued(msgspec.Struct, frozen=True):
    """The task that there is now."""

    id: str
    created: bool
    """False when the key had a task already."""


class RemoteFailure(msgspec.Struct, frozen=True):
    """An exception of an execution."""

    type: str
    message: str
    traceback: str = ""


class RemoteExecution(msgspec.Struct, frozen=True):
    """One run under one lease."""

    number: int
    attempt: int
    outcome: str
    worker: str
    started_at: datetime
    seconds: float
    code_version: str = ""
    retry_in: float | None = None
    """Seconds until the next one, None when there is none."""
    error: RemoteFailure | None = None
    logs: list[str] = []


class RemoteTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task as the console knows it: from the queue, and when that keeps it no longer, from the
    console's history. Sealed arguments are named, never shown."""

    id: str
    name: str
    queue: str
    priority: int
    state: State
    flags: list[str] = []
    key: str | None = None
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    enqueued_at: datetime
    due_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    run_seconds: float | None = None
    execution: int = 0
    attempts: int = 0
    max_attempts: int = 0
    timeout: float | None = None
    worker: str | None = None
    error: RemoteFailure | None = None
    reason: str | None = None
    created_by: str | None = None
    schedule: str | None = None
    workflow_id: str | None = None
    headers: dict[str, str] = {}
    executions: list[RemoteExecution] = []
    result: Any = None
    """None too when there is none, or when its time to live is over."""
    has_result: bool | None = None
    """Whether `result` is one: None when the console is of a version that does not say."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to it unless somebody retries it."""
        return self.state in FINAL_STATES


class Done(msgspec.Struct, frozen=True):
    """What became of a task."""

    id: str
    state: str


class TasksMade(msgspec.Struct, frozen=True):
    """The answer to many."""

    items: list[Enqueued]


class Problem(msgspec.Struct, frozen=True):
    """An error as RFC 9457 describes it, with what Conveyor adds."""

    detail: str
    title: str = ""
    error: str | None = None
    name: str | None = None
    key: str | None = None
    task_id: str | None = None
