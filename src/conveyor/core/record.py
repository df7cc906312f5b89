"""Build the task that will be pushed from a call and its options."""

from __future__ import annotations

import hashlib
from typing import Any

from conveyor.core.codec import encode
from conveyor.core.options import Options
from conveyor.core.task import NewTask, Task


def new_task(  # noqa: PLR0917 - called once per enqueue on the hot path
    task_id: str,
    name: str,
    options: Options,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    now: float,
) -> NewTask:
    """Encode the call into a task. Raises `NotSerialisable` or `PayloadTooLarge`."""
    payload = encode((args, kwargs), what=f"arguments of {name}")
    digest = hashlib.sha256(payload).hexdigest()[:32] if options.key is not None else None
    task = Task(
        task_id,
        name,
        options.queue,
        options.priority,
        payload,
        now,
        options.max_attempts,
        options.retry_base,
        options.retry_cap,
        options.timeout,
        options.key,
        digest,
        options.result_ttl,
        options.headers,
    )
    return NewTask(task, options.delay, options.due_at)
