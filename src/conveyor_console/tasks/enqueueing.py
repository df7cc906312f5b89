"""From a body to calls of the app's own task definitions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from fastapi import Request

from conveyor import Conveyor
from conveyor_console.auth.principals import Principal
from conveyor_console.console import Console
from conveyor_console.db.firsts import First
from conveyor_console.kit import idempotency
from conveyor_console.kit.problems import Problem
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


async def must_be_first(
    calls: Sequence[Any], who: Principal, request: Request, console: Console
) -> None:
    """Refuse a request under the `Idempotency-Key` of one that was for other task definitions or
    queues: the queue knows keys within these only. Raises `Problem` 409."""
    header = request.headers.get(idempotency.HEADER)
    if header is None:
        return
    secret, whose = console.settings.secret, who.key_id or who.user_id
    key = idempotency.fingerprint(
        secret, whose.encode(), request.url.path.encode(), header.encode()
    )
    told = (f"{call.definition.name}\n{call.options.queue}".encode() for call in calls)
    if not await console.firsts.is_same(First(key, idempotency.fingerprint(secret, *told))):
        raise Problem(409, f"this {idempotency.HEADER} was used for another request: use a new one")


def with_keys(tasks: Sequence[NewTask], who: Principal, request: Request) -> Sequence[NewTask]:
    """Give new tasks the keys that follow from the request's `Idempotency-Key`. The queue keeps
    them with the tasks, so that a crash between the two is impossible. Raises `Problem` 422."""
    header = request.headers.get(idempotency.HEADER)
    if header is None:
        return tasks
    whose = who.key_id or who.user_id
    base = idempotency.task_key(whose, f"{len(tasks)}:{idempotency.checked(header)}")
    if any(new.key is not None for new in tasks):
        wrong = f"give a task's key or {idempotency.HEADER}, not both"
        raise Problem(422, wrong, errors=[{"in": "body", "pointer": "/key", "detail": wrong}])
    return [new.model_copy(update={"key": f"{base}:{index}"}) for index, new in enumerate(tasks)]
