"""Look at workers, and tell one what to do."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request

from conveyor import workers
from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Needs, needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.deps import Reading, console_of
from conveyor_console.kit.listing import Asked
from conveyor_console.kit.pages import Cursor, Limit, Page, Search
from conveyor_console.kit.problems import problems
from conveyor_console.kit.wire import Line
from conveyor_console.workers.listing import LISTING
from conveyor_console.workers.past import seen
from conveyor_console.workers.schemas import (
    OrderIn,
    OrderOut,
    WorkerDetail,
    WorkerOut,
    WorkerSeen,
)

router = APIRouter(prefix="/workers", tags=["workers"], responses=problems(401, 403, 422, 503))
Managing = Annotated[Principal, Depends(Needs(Permission.WORKERS_MANAGE))]
Id = Annotated[Line, Path(max_length=100, description="Of the worker.")]
Sort = Annotated[
    Literal[
        "id", "-id", "host", "-host", "started", "-started", "running", "-running",
        "rss", "-rss", "lag", "-lag",
    ],
    Query(description="`-`: descending."),
]  # fmt: skip


@router.get("", dependencies=[needs(Permission.WORKERS_READ)])
async def list_workers(
    request: Request,
    *,
    q: Search = "",
    sort: Sort = "id",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[WorkerOut]:
    """Workers that live."""
    console = console_of(request)
    queue = console.queue
    asked = Asked(q, sort, cursor, limit)
    now = console.clock.now().timestamp()
    rows, more = LISTING.page(await workers.workers(queue), asked, now)
    orders = await workers.orders(queue)
    return Page(items=[WorkerOut.of(info, orders.get(info.id)) for info in rows], next_cursor=more)


@router.get("/history", dependencies=[needs(Permission.WORKERS_READ)])
async def list_past_workers(
    request: Request, db: Reading, q: Search = "", cursor: Cursor = None, limit: Limit = 50
) -> Page[WorkerSeen]:
    """Workers that live or have lived within the days of the history, those seen last first: who
    was it that ran an execution?"""
    now = console_of(request).clock.now().timestamp()
    return await seen(db, q, cursor, limit, now)


@router.get("/{worker_id}", responses=problems(404), dependencies=[needs(Permission.WORKERS_READ)])
async def get_worker(worker_id: Id, request: Request) -> WorkerDetail:
    """One worker, with the tasks that it runs or is about to."""
    queue = console_of(request).queue
    info = await workers.worker(queue, worker_id)
    orders = await workers.orders(queue)
    held = await workers.held(queue, worker_id)
    return WorkerDetail.with_tasks(info, orders.get(worker_id), held)


@router.post("/{worker_id}/pause", status_code=202, responses=problems(404))
async def pause_worker(
    worker_id: Id, who: Managing, request: Request, body: OrderIn | None = None
) -> OrderOut:
    """Let it take no more tasks; what it runs goes on."""
    return await _tell(request, worker_id, "pause", who, body)


@router.post("/{worker_id}/resume", status_code=202, responses=problems(404))
async def resume_worker(
    worker_id: Id, who: Managing, request: Request, body: OrderIn | None = None
) -> OrderOut:
    """Let it take tasks again."""
    return await _tell(request, worker_id, "resume", who, body)


@router.post("/{worker_id}/drain", status_code=202, responses=problems(404))
async def drain_worker(
    worker_id: Id, who: Managing, request: Request, body: OrderIn | None = None
) -> OrderOut:
    """Let it end when what it runs has ended, however long that takes."""
    return await _tell(request, worker_id, "drain", who, body)


@router.post("/{worker_id}/shutdown", status_code=202, responses=problems(404))
async def shut_down_worker(
    worker_id: Id, who: Managing, request: Request, body: OrderIn | None = None
) -> OrderOut:
    """Let it end as SIGTERM does: what it runs gets the worker's grace, then runs elsewhere."""
    return await _tell(request, worker_id, "shutdown", who, body)


async def _tell(
    request: Request,
    worker_id: str,
    action: workers.Action,
    who: Principal,
    body: OrderIn | None,
) -> OrderOut:
    reason = body.reason if body else ""
    order = await workers.order(
        console_of(request).queue, worker_id, action, reason=reason, by=who.name
    )
    note(request, f"workers.{action}", f"worker:{worker_id}", detail=reason)
    return OrderOut.of(order)
