"""From a body to calls of the app's own task definitions."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from conveyor import Conveyor
from conveyor_console.tasks.schemas import NewTask

CREATED_BY = "created_by"
"""The header of a task that says who enqueued it; enqueues are not audited one by one."""


def call_of(queue: Conveyor, new: NewTask, created_by: str) -> Any:
    """Return the bound call of a new task. Raises the queue's own errors: `UnknownTask`,
    `InvalidArguments`, `InvalidOption`, `NotSerialisable`."""
    options: dict[str, Any] = {"headers": {CREATED_BY: created_by}}
    for name in ("queue", "priority", "delay", "key"):
        value = getattr(new, name)
        if value is not None:
            options[name] = value
    if new.at is not None:
        options["at"] = new.at if new.at.tzinfo else new.at.replace(tzinfo=UTC)
    definition = queue.definition(new.name)
    return definition.with_options(**options).bind(*new.args, **new.kwargs).checked()
