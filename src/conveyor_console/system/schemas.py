"""What goes over the wire about the system."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from conveyor.inspect import Violation
from conveyor.maintenance import Maintenance
from conveyor_console.kit.moments import since
from conveyor_console.kit.wire import Line, Strict


class ViolationOut(BaseModel):
    """A broken invariant."""

    invariant: str
    message: str
    ids: list[str]
    """Of tasks, at most 100."""

    @classmethod
    def of(cls, found: Violation) -> ViolationOut:
        """Say it in terms of the API."""
        return cls(invariant=found.invariant, message=found.message, ids=list(found.ids[:100]))


class Diagnosis(BaseModel):
    """What the store's own check says."""

    healthy: bool
    violations: list[ViolationOut]
    overdue_schedules: list[str]
    """Those that should have fired more than a minute ago: does a keeper run?"""


class MaintenanceIn(Strict):
    """Why; everybody sees it."""

    reason: Line = Field(default="", max_length=500)


class MaintenanceOut(BaseModel):
    """Maintenance as it stands."""

    active: bool
    reason: str = ""
    by: str = ""
    at: datetime | None = None
    queues: list[str] = []
    """Those that it pauses; after its end, those that run again."""

    @classmethod
    def of(cls, made: Maintenance | None) -> MaintenanceOut:
        """Say it in terms of the API."""
        if made is None:
            return cls(active=False)
        return cls(
            active=True,
            reason=made.reason,
            by=made.by,
            at=since(made.at),
            queues=list(made.queues),
        )


class Retention(BaseModel):
    """How long what has ended is kept. Seconds, but for the history."""

    history_days: int
    """Finished tasks in the console's history."""
    succeeded: float
    """Records and keys of successes in the store."""
    dead: float
    """Dead letters in the store."""
    result_ttl: float
    """Results, unless a definition says otherwise."""
