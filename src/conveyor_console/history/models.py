"""The tables of the history. Times are epoch seconds, as everywhere in the queue: they come from
its records and are compared, not shown, here."""

from __future__ import annotations

from sqlalchemy import Double, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from conveyor_console.db.base import PREFIX, Base, Id

_TASK = f"{PREFIX}task.id"


class Task(Base):
    """A task that ended; after a requeue also one that lives again, until it ends again."""

    __tablename__ = f"{PREFIX}task"
    __table_args__ = (
        Index("ix_console_task_state_id", "state", "id"),
        Index("ix_console_task_queue_state_id", "queue", "state", "id"),
        Index("ix_console_task_name_state_id", "name", "state", "id"),
        Index("ix_console_task_finished_at", "finished_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String)
    queue: Mapped[str] = mapped_column(String)
    priority: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(16))
    flags: Mapped[str] = mapped_column(String(80))
    """Separated by spaces."""
    key: Mapped[str | None] = mapped_column(String, index=True)
    enqueued_at: Mapped[float] = mapped_column(Double)
    started_at: Mapped[float | None] = mapped_column(Double)
    finished_at: Mapped[float | None] = mapped_column(Double)
    run: Mapped[float | None] = mapped_column(Double)
    """Seconds that the last execution took."""
    execution: Mapped[int] = mapped_column(Integer)
    attempts: Mapped[int] = mapped_column(Integer)
    max_attempts: Mapped[int] = mapped_column(Integer)
    timeout: Mapped[float | None] = mapped_column(Double)
    worker: Mapped[str | None] = mapped_column(String)
    error_type: Mapped[str | None] = mapped_column(String)
    error: Mapped[str | None] = mapped_column(String)
    """Its message, shortened; the whole of it is with the execution."""
    fingerprint: Mapped[str | None] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    created_by: Mapped[str | None] = mapped_column(String)
    schedule: Mapped[str | None] = mapped_column(String)
    scheduled_for: Mapped[float | None] = mapped_column(Double)
    flow: Mapped[str | None] = mapped_column(String, index=True)
    node: Mapped[int | None] = mapped_column(Integer)
    place: Mapped[int | None] = mapped_column(Integer)
    """Which child of a mapped node."""
    headers: Mapped[str] = mapped_column(Text)
    call: Mapped[str] = mapped_column(Text)
    """`[args, kwargs]` as JSON: text, because PostgreSQL's JSON types know no NUL."""
    facts: Mapped[str] = mapped_column(Text)
    """The arguments flattened for search, a line `path=value` each."""
    result_size: Mapped[int | None] = mapped_column(Integer)
    """Bytes; None when there is none or it had expired before it was recorded."""


class TaskExecution(Base):
    """One run of a task under one lease."""

    __tablename__ = f"{PREFIX}task_execution"

    task_id: Mapped[str] = mapped_column(ForeignKey(_TASK, ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    attempt: Mapped[int] = mapped_column(Integer)
    outcome: Mapped[str] = mapped_column(String(16))
    worker: Mapped[str] = mapped_column(String)
    started_at: Mapped[float] = mapped_column(Double)
    duration: Mapped[float] = mapped_column(Double)
    code_version: Mapped[str] = mapped_column(String)
    retry_in: Mapped[float | None] = mapped_column(Double)
    error_type: Mapped[str | None] = mapped_column(String)
    error: Mapped[str | None] = mapped_column(Text)
    traceback: Mapped[str | None] = mapped_column(Text)
    fingerprint: Mapped[str | None] = mapped_column(String(16))


class TaskResult(Base):
    """What a task returned, as JSON; a None is not kept."""

    __tablename__ = f"{PREFIX}task_result"

    task_id: Mapped[str] = mapped_column(ForeignKey(_TASK, ondelete="CASCADE"), primary_key=True)
    body: Mapped[str] = mapped_column(Text)


class TaskLog(Base):
    """The captured log lines of one execution, as a JSON list."""

    __tablename__ = f"{PREFIX}task_log"

    task_id: Mapped[str] = mapped_column(ForeignKey(_TASK, ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    lines: Mapped[str] = mapped_column(Text)


class DeadLetter(Base):
    """A failed or cancelled task that can be requeued: gone from here when it was."""

    __tablename__ = "dead_letter_queue"
    __table_args__ = (
        Index("ix_dead_letter_queue_fingerprint_task_id", "fingerprint", "task_id"),
        Index("ix_dead_letter_queue_died_at", "died_at"),
    )

    task_id: Mapped[str] = mapped_column(ForeignKey(_TASK, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String)
    queue: Mapped[str] = mapped_column(String)
    state: Mapped[str] = mapped_column(String(16))
    died_at: Mapped[float] = mapped_column(Double)
    attempts: Mapped[int] = mapped_column(Integer)
    error_type: Mapped[str | None] = mapped_column(String)
    error: Mapped[str | None] = mapped_column(String)
    reason: Mapped[str | None] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(String(16))


class Kind(Base):
    """A task name and a queue that were seen together: what patterns are looked up in."""

    __tablename__ = f"{PREFIX}kind"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    queue: Mapped[str] = mapped_column(String, primary_key=True)


class Rollup(Base):
    """Counts of one minute or hour, queue and task name: hours are kept too, for long ranges."""

    __tablename__ = f"{PREFIX}rollup"

    span: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Minutes: 1 or 60."""
    minute: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Of its begin, epoch minutes."""
    queue: Mapped[str] = mapped_column(String, primary_key=True)
    name: Mapped[str] = mapped_column(String, primary_key=True)
    succeeded: Mapped[int] = mapped_column(Integer)
    failed: Mapped[int] = mapped_column(Integer)
    cancelled: Mapped[int] = mapped_column(Integer)
    skipped: Mapped[int] = mapped_column(Integer)
    executions: Mapped[int] = mapped_column(Integer)
    errors: Mapped[int] = mapped_column(Integer)
    """Executions that ended in an error, retried ones included."""


class Histogram(Base):
    """How many waits or runs of one minute or hour, queue and task name fell into one bucket."""

    __tablename__ = f"{PREFIX}histogram"

    span: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Minutes: 1 or 60."""
    minute: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    queue: Mapped[str] = mapped_column(String, primary_key=True)
    name: Mapped[str] = mapped_column(String, primary_key=True)
    measure: Mapped[str] = mapped_column(String(4), primary_key=True)
    """`wait` or `run`."""
    bucket: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """See `buckets.py`."""
    number: Mapped[int] = mapped_column(Integer)


class Failure(Base):
    """How often one kind of error happened in one hour, queue and task name."""

    __tablename__ = f"{PREFIX}failure"

    hour: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Epoch hours."""
    fingerprint: Mapped[str] = mapped_column(String(16), primary_key=True)
    queue: Mapped[str] = mapped_column(String, primary_key=True)
    name: Mapped[str] = mapped_column(String, primary_key=True)
    number: Mapped[int] = mapped_column(Integer)
    error_type: Mapped[str] = mapped_column(String)
    error: Mapped[str] = mapped_column(String)
    """The latest message, shortened."""
    task_id: Mapped[str] = mapped_column(Id)
    """The latest task with it."""


class Worker(Base):
    """A worker that lives or has lived, as it was last seen."""

    __tablename__ = f"{PREFIX}worker"
    __table_args__ = (Index("ix_console_worker_seen_at", "seen_at", "id"),)

    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    """Its token: `worker` of executions."""
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int] = mapped_column(Integer)
    queues: Mapped[str] = mapped_column(Text)
    """A JSON list; an empty one is every queue."""
    concurrency: Mapped[int] = mapped_column(Integer)
    code_version: Mapped[str] = mapped_column(Text)
    started_at: Mapped[float] = mapped_column(Double)
    seen_at: Mapped[float] = mapped_column(Double)


class DueTask(Base):
    """A delayed task that became due and has not ended: what a recorder that begins knows of those
    whose events were read before it."""

    __tablename__ = f"{PREFIX}due"

    task_id: Mapped[str] = mapped_column(Id, primary_key=True)
    at: Mapped[float] = mapped_column(Double)


class RecorderState(Base):
    """How far the history is: one row, written with what it speaks of."""

    __tablename__ = f"{PREFIX}recorder"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(Integer)
    """Grows with every batch: of two recorders one fails."""
    store: Mapped[str] = mapped_column(String(36))
    """Which store the cursor is of; empty before the first."""
    cursor: Mapped[str] = mapped_column(Text)
    sweep: Mapped[str | None] = mapped_column(String(36))
    """Everything the store keeps is being read once more, and is read down to this id; empty: not
    begun; None: done."""
    event_at: Mapped[float] = mapped_column(Double)
    """Time of the last event that is in the history, epoch seconds."""
    lost: Mapped[int] = mapped_column(Integer)
    """Ends of tasks that the store knew nothing of any more when they were to be recorded."""
