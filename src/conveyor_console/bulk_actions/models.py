"""Bulk actions, and how far they are."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Double, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from conveyor_console.db.base import PREFIX, Base, Id, Json, Moment


class Action(StrEnum):
    """What is done to each task."""

    CANCEL = "cancel"
    """Waiting tasks are cancelled, running ones asked to stop."""
    RUN_NOW = "run-now"
    """Scheduled tasks become due."""
    RESCHEDULE = "reschedule"
    """Scheduled tasks become due at another time."""
    REQUEUE = "requeue"
    """Dead letters get another life."""
    DISCARD = "discard"
    """Dead letters are deleted in the queue; the history keeps what happened."""


class Of(StrEnum):
    """The list that a filter is of."""

    TASKS = "tasks"
    DEAD_LETTERS = "dead-letters"


class State(StrEnum):
    """Where a bulk action stands."""

    PLANNED = "planned"
    WAITING = "waiting"
    """It was told to run, and touches nothing before its grace is over."""
    RUNNING = "running"
    DONE = "done"
    ABORTED = "aborted"
    """Stopped in the middle: what was done stays done."""
    UNDONE = "undone"
    """Taken back within its grace: nothing happened."""


OVER = frozenset({State.DONE, State.ABORTED, State.UNDONE})


class BulkAction(Base):
    """A plan, and its run. Users are named as they were: it outlives them."""

    __tablename__ = f"{PREFIX}bulk_action"
    __table_args__ = (Index("ix_console_bulk_action_state_id", "state", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    action: Mapped[str] = mapped_column(String(16))
    of: Mapped[str] = mapped_column(String(16), server_default=Of.TASKS.value)
    q: Mapped[str] = mapped_column(String(1_000))
    reason: Mapped[str] = mapped_column(String(500))
    delay: Mapped[float | None] = mapped_column(Double)
    """Seconds; with `due_at` what `reschedule` needs, one of both."""
    due_at: Mapped[float | None] = mapped_column(Double)
    """Epoch seconds."""
    per_second: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    created_by: Mapped[str] = mapped_column(String(300))
    created_at: Mapped[datetime] = mapped_column(Moment)
    """Ages in the filter are counted from here."""
    expires_at: Mapped[datetime] = mapped_column(Moment)
    count: Mapped[int]
    is_exact: Mapped[bool]
    sample: Mapped[str] = mapped_column(Text)
    """JSON as text: names may hold what PostgreSQL's JSON cannot."""
    started_by: Mapped[str | None] = mapped_column(String(300))
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    begins_at: Mapped[datetime | None] = mapped_column(Moment)
    """When the first task is touched."""
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    before: Mapped[str | None] = mapped_column(Id)
    """Tasks below this id are still to be looked at; None: none are."""
    lot: Mapped[int]
    """Grows by one with every lot that was noted as done: what fences two processes."""
    pending: Mapped[list[list[str | float]]] = mapped_column(Json)
    """The lot under way, written before it is touched: id, queue and mark of each task. After a
    crash it is what is looked at again."""
    done: Mapped[int]
    failed: Mapped[int]
    skipped: Mapped[dict[str, int]] = mapped_column(Json)
    error: Mapped[str | None] = mapped_column(String(500))
    """What keeps it from getting on, or the last failure."""
