"""The public door to looking at a queue: what `await app.inspector()` answers with."""

from conveyor.brokers.base import (
    DEAD_RETENTION_SECONDS,
    RETENTION_SECONDS,
    Event,
    Filter,
    FinishedTask,
    Inspector,
    QueueInfo,
    Violation,
    WorkerInfo,
)
from conveyor.core.task import (
    ErrorInfo,
    Execution,
    Pause,
    Progress,
    State,
    TaskInfo,
)
from conveyor.core.why import Reason

__all__ = [
    "DEAD_RETENTION_SECONDS",
    "RETENTION_SECONDS",
    "ErrorInfo",
    "Event",
    "Execution",
    "Filter",
    "FinishedTask",
    "Inspector",
    "Pause",
    "Progress",
    "QueueInfo",
    "Reason",
    "State",
    "TaskInfo",
    "Violation",
    "WorkerInfo",
]
