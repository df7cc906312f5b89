"""What goes over the wire about tasks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field

from conveyor_console.kit.wire import Level, Moment, QueueName, Strict, one_of

MOST_AT_ONCE = 10_000


class NewTask(Strict):
    """A task to enqueue. What is not said is as its definition says."""

    name: str = Field(min_length=1, max_length=256)
    args: list[Any] = Field(default=[])
    kwargs: dict[str, Any] = Field(default={})
    queue: QueueName | None = None
    priority: Level | None = None
    delay: float | None = Field(default=None, ge=0, allow_inf_nan=False, strict=True)
    """Seconds."""
    at: Moment | None = None
    key: str | None = Field(default=None, min_length=1, max_length=256)
    """At most one task per queue, name and key: a second one answers with the first."""


class Enqueued(BaseModel):
    """The task that there is now."""

    id: str
    created: bool
    """False when the key had a task already."""


class Bulk(Strict):
    """Many tasks: all are stored, or none."""

    tasks: Annotated[list[NewTask], FailFast()] = Field(min_length=1, max_length=MOST_AT_ONCE)


class BulkEnqueued(BaseModel):
    """Their ids, in order."""

    items: list[Enqueued]


class ErrorOut(BaseModel):
    """An exception."""

    type: str
    message: str
    traceback: str = ""


class ProgressOut(BaseModel):
    """How far a running task says it is."""

    done: float
    total: float | None
    message: str


class TaskOut(BaseModel):
    """A task. Sealed arguments are named, never shown."""

    id: str
    name: str
    queue: str
    priority: int
    state: str
    flags: list[str]
    key: str | None
    args: list[Any]
    kwargs: dict[str, Any]
    enqueued_at: datetime
    due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    run_seconds: float | None
    """Of the last execution."""
    execution: int
    attempts: int
    max_attempts: int
    timeout: float | None
    worker: str | None
    progress: ProgressOut | None
    error: ErrorOut | None
    reason: str | None
    created_by: str | None
    schedule: str | None
    scheduled_for: datetime | None
    workflow_id: str | None


class TaskPage(BaseModel):
    """Tasks, the newest first."""

    items: list[TaskOut]
    next_cursor: str | None
    truncated: bool = False
    """The filter looked at as many tasks as it may for one page: ask on with the cursor."""


class ExecutionOut(BaseModel):
    """One run under one lease."""

    number: int
    attempt: int
    outcome: str
    worker: str
    started_at: datetime
    seconds: float
    code_version: str
    retry_in: float | None
    error: ErrorOut | None
    logs: list[str]


class Relative(BaseModel):
    """A node of the same workflow run."""

    node: str
    state: str
    task_id: str | None


class TaskWhole(TaskOut):
    """A task with all that is known of it."""

    headers: dict[str, str]
    executions: list[ExecutionOut]
    result: Any = None
    has_result: bool = False
    """False: there is none, or its time to live was over before the history saw it. A result that
    is null has this."""
    parents: list[Relative] = []
    children: list[Relative] = []


class ReasonOut(BaseModel):
    """One thing that keeps a task from running."""

    code: str
    text: str
    opens: str
    at: datetime | None
    task_ids: list[str]


class Why(BaseModel):
    """Why a task is not running, the most decisive reason first."""

    reasons: list[ReasonOut]


class Cancel(Strict):
    """Why it is stopped: kept with the task."""

    reason: str = Field(default="", max_length=500, pattern=r"^[^\x00]*$")


class Edited(Strict):
    """Other arguments for another try. What is not given stays as it was."""

    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    queue: QueueName | None = None
    priority: Level | None = None


class Reschedule(Strict):
    """When it is to run instead: one of both."""

    model_config = ConfigDict(json_schema_extra=one_of("delay", "at"))

    delay: float | None = Field(
        default=None, ge=0, le=100 * 366 * 86_400, allow_inf_nan=False, strict=True
    )
    """Seconds from now."""
    at: Moment | None = None


class Done(BaseModel):
    """What became of it."""

    id: str
    state: str
