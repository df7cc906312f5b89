"""What a running task can ask about itself: `current_task()`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from conveyor.core.errors import InvalidOption, NotInTask
from conveyor.core.task import Progress
from conveyor.logbuffer import LogBuffer

if TYPE_CHECKING:
    from conveyor.core.task import Lease

_current: ContextVar[CurrentTask | None] = ContextVar("conveyor_current_task", default=None)


class CurrentTask:
    """The task that is running here, under one lease."""

    __slots__ = (
        "_on_note",
        "_session",
        "app",
        "cancelled",
        "deadline_at",
        "home",
        "lease",
        "log_lines",
        "note",
        "over",
        "state",
        "steps",
    )

    def __init__(
        self,
        lease: Lease,
        state: Mapping[str, Any],
        deadline_at: float | None,
        on_note: Callable[[CurrentTask], None],
        app: Any = None,
    ) -> None:
        self.lease = lease
        self.app = app
        """The app (`Conveyor`) whose worker runs it."""
        self.state = state
        """What the app's lifespan yielded: connections, models, clients shared by all tasks."""
        self.deadline_at = deadline_at
        self.cancelled = False
        """Whether it should stop: cancelled, timed out, shutting down or fenced. Async functions
        and processes are stopped anyway; functions in threads can look here."""
        self.over = False
        """Whether this execution has ended in the books."""
        self.note: Progress | None = None
        self.log_lines: LogBuffer | None = None
        self.steps: set[str] = set()
        """Names of the durable steps that this execution has come to."""
        self._on_note = on_note
        self._session: Any = None

    @property
    def id(self) -> str:
        """The task's id (UUIDv7)."""
        return self.lease.task.id

    @property
    def name(self) -> str:
        """The task definition's name."""
        return self.lease.task.name

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self.lease.task.queue

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1: one more than the attempts spent."""
        return self.lease.attempt

    @property
    def fencing_token(self) -> int:
        """The execution number: grows with every lease of this task. Hand it to stores that can
        refuse a smaller one."""
        return self.lease.execution

    @property
    def idempotency_key(self) -> str:
        """A string that stays the same over all attempts: hand it to services that deduplicate."""
        return self.lease.task.id

    @property
    def headers(self) -> dict[str, str]:
        """Small strings that travel with the task."""
        return self.lease.task.headers

    @property
    def scheduled_for(self) -> datetime | None:
        """The nominal time of the schedule's fire that enqueued it (aware, UTC), whenever it runs;
        None for a task that no schedule enqueued."""
        terms = self.lease.task.terms
        if terms is None or terms.scheduled_for is None:
            return None
        return datetime.fromtimestamp(terms.scheduled_for, UTC)

    @property
    def schedule(self) -> str | None:
        """Name of the schedule that enqueued it, or None."""
        terms = self.lease.task.terms
        return None if terms is None else terms.schedule

    @property
    def session(self) -> Any:
        """The session of a transactional task, `AsyncSession` or `Session` as the function is async
        or not: the worker commits it together with the task's end. Raises `InvalidOption` in
        other tasks.
        """
        if self._session is None:
            raise InvalidOption(
                f"current_task().session: {self.name!r} is not transactional=True, or has ended"
            )
        return self._session

    @property
    def joined_session(self) -> Any:
        """That session, None in other tasks: what its enqueues join."""
        return self._session

    def lend(self, session: Any) -> None:
        """Let the task use a session, from now on or (None) no more."""
        self._session = session

    @property
    def deadline(self) -> datetime | None:
        """When the timeout stops this execution (aware, UTC), or None."""
        if self.deadline_at is None:
            return None
        return datetime.fromtimestamp(self.deadline_at, UTC)

    @property
    def logger(self) -> logging.Logger:
        """A logger whose lines are kept with this execution, from level INFO."""
        return logging.getLogger(f"conveyor.task.{self.name}")

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far it is. Cheap: stored at most twice a second, the newest wins."""
        self.note = Progress(done, total, message)
        self._on_note(self)

    def keep_lines(self, lines: tuple[str, ...]) -> None:
        """Replace the captured log lines by those its own process captured."""
        self.log_lines = LogBuffer(lines)

    def noted(self) -> None:
        """Tell the engine that there is something new to store."""
        self._on_note(self)

    def __repr__(self) -> str:
        return f"<{self.name} {self.id}, attempt {self.attempt}>"


def current_task() -> CurrentTask:
    """Return the task that is running here. Raises `NotInTask` outside of one."""
    task = _current.get()
    if task is None:
        raise NotInTask("current_task() was called outside of a running task")
    return task


def running_task() -> CurrentTask | None:
    """Return the task that is running here, or None."""
    return _current.get()


def activate(task: CurrentTask) -> None:
    """Make `task` the current one in this context."""
    _current.set(task)
