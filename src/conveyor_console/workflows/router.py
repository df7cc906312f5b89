"""Start runs of workflows, look at them, stop them, go on with them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from conveyor import workflows
from conveyor.errors import InvalidWorkflow
from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Needs, needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.creating import Creating, effect_id
from conveyor_console.deps import console_of
from conveyor_console.kit.pages import Cursor, Limit, Search, place_of
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.kit.wire import PathId
from conveyor_console.workflows import listing, service
from conveyor_console.workflows.schemas import (
    CancelIn,
    Drawing,
    Ended,
    Name,
    NewRun,
    Reasons,
    Retried,
    RetryIn,
    RunDetail,
    RunPage,
    SignalIn,
    Started,
    Status,
)

router = APIRouter(
    prefix="/workflows",
    tags=["workflows"],
    responses=problems(401, 403, 422, 503),
    route_class=Creating,
)
Managing = Annotated[Principal, Depends(Needs(Permission.WORKFLOWS_MANAGE))]
READ = [needs(Permission.WORKFLOWS_READ)]
MANAGE = [needs(Permission.WORKFLOWS_MANAGE)]


@router.get("", dependencies=READ)
async def list_runs(
    request: Request,
    *,
    q: Search = "",
    status: Status | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> RunPage:
    """Runs, the newest first."""
    console, place = console_of(request), place_of(cursor)
    before, now = place[0] if place else None, console.clock.now().timestamp()
    return await listing.page(console.queue, q, now, status=status, before=before, limit=limit)


@router.post("", status_code=201, responses=problems(413), dependencies=MANAGE)
async def start_run(body: NewRun, request: Request) -> Started:
    """Start a run of a workflow from its JSON definition."""
    run_id = await service.start(console_of(request).queue, body, effect_id(request))
    note(request, "workflows.start", f"run:{run_id}", detail=str(body.definition.get("name", "")))
    return Started(id=run_id)


@router.get("/{run_id}", responses=problems(404), dependencies=READ)
async def get_run(run_id: PathId, request: Request) -> RunDetail:
    """One run: its nodes with their states now, and its edges."""
    queue = console_of(request).queue
    info = await queue.workflow_handle(run_id).info()
    return RunDetail.of(info, await workflows.edges_of(queue, run_id))


@router.get("/{run_id}/mermaid", responses=problems(404), dependencies=READ)
async def draw_run(run_id: PathId, request: Request) -> Drawing:
    """One run as a Mermaid flowchart."""
    return Drawing(mermaid=await workflows.mermaid_of(console_of(request).queue, run_id))


@router.get("/{run_id}/definition", responses=problems(404, 409), dependencies=READ)
async def get_definition(run_id: PathId, request: Request) -> dict[str, Any]:
    """The definition of its workflow in JSON, ready to be started again."""
    try:
        return await workflows.definition_of(console_of(request).queue, run_id)
    except InvalidWorkflow as exc:
        raise Problem(409, str(exc)) from None


@router.get("/{run_id}/why", responses=problems(404), dependencies=READ)
async def why_node(
    run_id: PathId, node: Annotated[Name, Query(description="Name of a node.")], request: Request
) -> Reasons:
    """Why a node waits, or did not run."""
    handle = console_of(request).queue.workflow_handle(run_id)
    return Reasons(reasons=await service.why(handle, node))


@router.post("/{run_id}/cancel", responses=problems(404))
async def cancel_run(
    run_id: PathId, who: Managing, request: Request, body: CancelIn | None = None
) -> Ended:
    """Cancel what runs and waits, and all that would follow. One that is over stays as it is."""
    reason = body.reason if body else ""
    handle = console_of(request).queue.workflow_handle(run_id)
    status = await handle.cancel(reason, by=who.name)
    note(request, "workflows.cancel", f"run:{run_id}", detail=reason)
    return Ended.model_validate({"status": status})


@router.post(
    "/{run_id}/signals",
    status_code=204,
    responses=problems(404, 409, 413),
    dependencies=MANAGE,
)
async def send_signal(run_id: PathId, body: SignalIn, request: Request) -> None:
    """Send a signal; only the first of a name counts."""
    handle = console_of(request).queue.workflow_handle(run_id)
    await service.signal(handle, body.name, body.value)
    note(request, "workflows.signal", f"run:{run_id}", detail=body.name)


@router.post("/{run_id}/retry", responses=problems(404, 409), dependencies=MANAGE)
async def retry_run(run_id: PathId, request: Request, body: RetryIn | None = None) -> Retried:
    """Run a node, and all that comes after it, again, in a run that is over."""
    node = body.node if body else None
    handle = console_of(request).queue.workflow_handle(run_id)
    nodes = await service.retry(handle, node)
    note(request, "workflows.retry", f"run:{run_id}", detail=node or "", after={"nodes": nodes})
    return Retried(nodes=nodes)
