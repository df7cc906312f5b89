"""Enqueue tasks and look after them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.deps import console_of
from conveyor_console.kit import idempotency
from conveyor_console.kit.problems import problems
from conveyor_console.tasks.enqueueing import call_of, with_keys
from conveyor_console.tasks.schemas import Bulk, BulkEnqueued, Enqueued, NewTask

router = APIRouter(prefix="/tasks", tags=["tasks"], responses=problems(401, 403, 422, 503))
IDEMPOTENT = {"parameters": [idempotency.PARAMETER]}
Enqueuing = Annotated[Principal, Depends(Needs(Permission.TASKS_ENQUEUE))]


@router.post("", status_code=201, responses=problems(409, 413), openapi_extra=IDEMPOTENT)
async def enqueue(body: NewTask, who: Enqueuing, request: Request) -> Enqueued:
    """Enqueue one task. It is durable when this answers."""
    queue = console_of(request).queue
    (new,) = with_keys([body], who, request)
    handle = await queue.dispatch(call_of(queue, new, who.name))
    return Enqueued(id=handle.id, created=handle.created)


@router.post("/bulk", status_code=201, responses=problems(409, 413), openapi_extra=IDEMPOTENT)
async def enqueue_many(body: Bulk, who: Enqueuing, request: Request) -> BulkEnqueued:
    """Enqueue many tasks: all of them, or none when one of them cannot be."""
    queue = console_of(request).queue
    tasks = with_keys(body.tasks, who, request)
    handles = await queue.enqueue_many([call_of(queue, new, who.name) for new in tasks])
    note(request, "tasks.enqueue_many", detail=f"{len(handles)} tasks")
    return BulkEnqueued(items=[Enqueued(id=one.id, created=one.created) for one in handles])
