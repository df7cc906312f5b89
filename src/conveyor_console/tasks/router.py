"""Enqueue tasks and look after them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request

from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Needs, needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.creating import Creating, effect_id
from conveyor_console.deps import console_of
from conveyor_console.history.fields import FIELDS
from conveyor_console.kit import idempotency
from conveyor_console.kit.filters import conditions
from conveyor_console.kit.grammar import BadQuery
from conveyor_console.kit.pages import Cursor, Limit, Search, TaskId, bad_query, id_cursor
from conveyor_console.kit.problems import problems
from conveyor_console.kit.sorting import order_of
from conveyor_console.tasks import acting
from conveyor_console.tasks.detail import detail, must_be_in_queue
from conveyor_console.tasks.enqueueing import call_of, must_be_first, with_keys
from conveyor_console.tasks.listing import by_end, oldest_living, page
from conveyor_console.tasks.schemas import (
    Bulk,
    BulkEnqueued,
    Cancel,
    Done,
    Edited,
    Enqueued,
    NewTask,
    Reschedule,
    TaskPage,
    TaskWhole,
    Why,
)
from conveyor_console.tasks.showing import reason_out

router = APIRouter(prefix="/tasks", tags=["tasks"], responses=problems(401, 403, 422, 503))
again = APIRouter(
    prefix="/tasks",
    tags=["tasks"],
    responses=problems(401, 403, 422, 503),
    route_class=Creating,
)
"""What makes a new task of one there is: a repeated request is answered from the first answer."""
IDEMPOTENT = {"parameters": [idempotency.PARAMETER]}
Enqueuing = Annotated[Principal, Depends(Needs(Permission.TASKS_ENQUEUE))]
Managing = Annotated[Principal, Depends(Needs(Permission.TASKS_MANAGE))]
_READ = [needs(Permission.TASKS_READ)]
Sort = Annotated[
    Literal["-id", "id", "-finished", "finished"],
    Query(
        description="`-id`: the newest first. `id`: those that have not ended only, the oldest "
        "first. By `finished`: those that have ended only, `-` those that ended last first."
    ),
]


@router.get("", dependencies=_READ)
async def list_tasks(
    request: Request, q: Search = "", cursor: Cursor = None, limit: Limit = 50, sort: Sort = "-id"
) -> TaskPage:
    """List tasks that wait, run or have ended, the newest first unless asked otherwise."""
    console = console_of(request)
    try:
        wanted = conditions(q, FIELDS, console.clock.now().timestamp())
    except BadQuery as exc:
        raise bad_query(exc) from None
    if sort == "-id":
        return await page(console, wanted, id_cursor(cursor), limit)
    if sort == "id":
        return await oldest_living(console, wanted, id_cursor(cursor), limit)
    return await by_end(console, wanted, order_of(sort), cursor, limit)


@router.post("", status_code=201, responses=problems(409, 413), openapi_extra=IDEMPOTENT)
async def enqueue(body: NewTask, who: Enqueuing, request: Request) -> Enqueued:
    """Enqueue one task. It is durable when this answers."""
    console = console_of(request)
    (new,) = with_keys([body], who, request)
    call = call_of(console.queue, new, who.name)
    await must_be_first([call], who, request, console)
    handle = await console.queue.dispatch(call)
    return Enqueued(id=handle.id, created=handle.created)


@router.post("/bulk", status_code=201, responses=problems(409, 413), openapi_extra=IDEMPOTENT)
async def enqueue_many(body: Bulk, who: Enqueuing, request: Request) -> BulkEnqueued:
    """Enqueue many tasks: all of them, or none when one of them cannot be."""
    console = console_of(request)
    tasks = with_keys(body.tasks, who, request)
    calls = [call_of(console.queue, new, who.name) for new in tasks]
    await must_be_first(calls, who, request, console)
    handles = await console.queue.enqueue_many(calls)
    note(request, "tasks.enqueue_many", detail=f"{len(handles)} tasks")
    return BulkEnqueued(items=[Enqueued(id=one.id, created=one.created) for one in handles])


@router.get("/{task_id}", dependencies=_READ, responses=problems(404))
async def get_task(task_id: TaskId, request: Request) -> TaskWhole:
    """All that is known of a task: executions, logs, progress, result, its place in a workflow."""
    return await detail(console_of(request), task_id)


@router.get("/{task_id}/why", dependencies=_READ, responses=problems(404, 409))
async def why(task_id: TaskId, request: Request) -> Why:
    """Why a task is not running, and what has to happen."""
    console = console_of(request)
    await must_be_in_queue(console, task_id)
    reasons = await console.queue.handle(task_id).why()
    return Why(reasons=[reason_out(reason) for reason in reasons])


@router.post("/{task_id}/cancel", responses=problems(404, 409))
async def cancel(task_id: TaskId, body: Cancel, who: Managing, request: Request) -> Done:
    """Cancel a waiting task, or ask a running one to stop."""
    return await acting.cancel(console_of(request), task_id, who.name, body.reason)


@router.post("/{task_id}/retry", responses=problems(404, 409))
async def retry(task_id: TaskId, who: Managing, request: Request) -> Done:
    """Give a failed or cancelled task another life, with its id, history and arguments."""
    return await acting.retry(console_of(request), task_id)


@again.post("/{task_id}/retry-edited", status_code=201, responses=problems(404, 409, 413))
async def retry_edited(task_id: TaskId, body: Edited, who: Managing, request: Request) -> Enqueued:
    """Enqueue a task like a dead letter, with other arguments; the dead letter stays."""
    return await acting.retry_edited(
        console_of(request), task_id, body, who.name, new_id=effect_id(request)
    )


@router.post("/{task_id}/run-now", responses=problems(404, 409))
async def run_now(task_id: TaskId, who: Managing, request: Request) -> Done:
    """Make a scheduled task due now; its `state` may be `scheduled` for a moment yet."""
    return await acting.run_now(console_of(request), task_id)


@again.post("/{task_id}/reschedule", status_code=201, responses=problems(404, 409, 413))
async def reschedule(
    task_id: TaskId, body: Reschedule, who: Managing, request: Request
) -> Enqueued:
    """Let a waiting task run at another time. A scheduled one keeps its id (`created` is false);
    one that is queued already gets a new one, and the old one is cancelled."""
    return await acting.reschedule(
        console_of(request), task_id, body, who.name, new_id=effect_id(request)
    )
