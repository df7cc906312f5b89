"""Look at queues, pause them and let them go on."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request

from conveyor.inspect import Pause
from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Needs, needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.deps import console_of
from conveyor_console.kit.listing import Asked
from conveyor_console.kit.pages import Cursor, Limit, Page, Search
from conveyor_console.kit.problems import problems
from conveyor_console.kit.wire import Line
from conveyor_console.queues import service
from conveyor_console.queues.schemas import QueueDetail, QueueOut, QueuePauseIn

router = APIRouter(prefix="/queues", tags=["queues"], responses=problems(401, 403, 422, 503))
Managing = Annotated[Principal, Depends(Needs(Permission.QUEUES_MANAGE))]
Name = Annotated[Line, Path(max_length=100, description="Of the queue.")]
Sort = Annotated[
    Literal[
        "name", "-name", "queued", "-queued", "scheduled", "-scheduled", "running", "-running",
        "wait", "-wait",
    ],
    Query(description="`-`: descending. `wait` is that of the oldest task."),
]  # fmt: skip


@router.get("", dependencies=[needs(Permission.QUEUES_READ)])
async def list_queues(
    request: Request,
    *,
    q: Search = "",
    sort: Sort = "name",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[QueueOut]:
    """Queues, with what waits in them."""
    console = console_of(request)
    found = await service.all_queues(console.queue)
    asked = Asked(q, sort, cursor, limit)
    rows, more = service.LISTING.page(found, asked, console.clock.now().timestamp())
    return Page(items=[QueueOut.of(info) for info in rows], next_cursor=more)


@router.get("/{name}", responses=problems(404), dependencies=[needs(Permission.QUEUES_READ)])
async def get_queue(name: Name, request: Request) -> QueueDetail:
    """One queue, with the limits of its tasks and the workers that serve it."""
    queue = console_of(request).queue
    info = await service.one_queue(queue, name)
    return QueueDetail.with_more(
        info, service.limits_of(queue, name), await service.serving(queue, name)
    )


@router.post("/{name}/pause", responses=problems(404))
async def pause_queue(
    name: Name, who: Managing, request: Request, body: QueuePauseIn | None = None
) -> QueueOut:
    """Give out none of its tasks until it is resumed. What runs goes on, and enqueueing too."""
    console = console_of(request)
    reason = body.reason if body else ""
    pause = Pause(reason, who.name, console.clock.now().timestamp())
    info = await service.switch(console.queue, name, pause)
    note(request, "queues.pause", f"queue:{name}", detail=reason)
    return QueueOut.of(info)


@router.post(
    "/{name}/resume", responses=problems(404), dependencies=[needs(Permission.QUEUES_MANAGE)]
)
async def resume_queue(name: Name, request: Request) -> QueueOut:
    """Give out its tasks again."""
    info = await service.switch(console_of(request).queue, name, None)
    note(request, "queues.resume", f"queue:{name}")
    return QueueOut.of(info)
