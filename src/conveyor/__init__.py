"""Conveyor: a distributed task queue for Python."""

from conveyor.app import Conveyor
from conveyor.context import CurrentTask, current_task
from conveyor.core.errors import TaskCancelled, TaskFailed
from conveyor.core.limits import Concurrency, Rate
from conveyor.core.retry import Backoff, Fail, Retry
from conveyor.core.signals import Reject, Snooze
from conveyor.core.uniqueness import Debounce
from conveyor.middleware.base import Middleware

__all__ = [
    "Backoff",
    "Concurrency",
    "Conveyor",
    "CurrentTask",
    "Debounce",
    "Fail",
    "Middleware",
    "Rate",
    "Reject",
    "Retry",
    "Snooze",
    "TaskCancelled",
    "TaskFailed",
    "current_task",
]
__version__ = "0.1.0"
