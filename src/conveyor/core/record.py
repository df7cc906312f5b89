"""Build the task that will be pushed from a call and its options."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from conveyor.core.codec import MAX_PAYLOAD, encode
from conveyor.core.options import Options
from conveyor.core.task import NewTask, Task

if TYPE_CHECKING:
    from conveyor.core.rules import Rules


def new_task(  # noqa: PLR0917 - called once per enqueue on the hot path
    task_id: str,
    name: str,
    options: Options,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    now: float,
    rules: Rules | None = None,
    *,
    limit: int = MAX_PAYLOAD,
) -> NewTask:
    """Encode the call into a task. Raises `NotSerialisable`, `PayloadTooLarge` above `limit` bytes,
    and `InvalidArguments` when a rule cannot be applied to the call.
    """
    payload = encode((args, kwargs), what=f"arguments of {name}", limit=limit)
    digest = digest_of(payload) if options.key is not None else None
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
        None if rules is None else rules.terms(name, options.priority, payload, args, kwargs),
    )
    delay = options.delay
    if rules is not None and rules.debounce is not None:
        delay = rules.debounce.delay
    return NewTask(task, delay, options.due_at)


def digest_of(payload: bytes) -> str:
    """Return what tells a repeated enqueue from another one under the same key."""
    return hashlib.sha256(payload).hexdigest()[:32]
