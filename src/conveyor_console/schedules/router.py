"""Make schedules, change, stop and try them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.exceptions import HTTPException

from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Needs, needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.creating import Creating, effect_id
from conveyor_console.deps import console_of
from conveyor_console.kit.etags import IfMatch, etag_of, must_match
from conveyor_console.kit.listing import Asked
from conveyor_console.kit.pages import Cursor, Limit, Page, Search
from conveyor_console.kit.problems import problems
from conveyor_console.kit.wire import Line
from conveyor_console.schedules import service
from conveyor_console.schedules.listing import LISTING
from conveyor_console.schedules.schemas import (
    Fires,
    NewSchedule,
    Preview,
    Ran,
    ScheduleChange,
    ScheduleOut,
    SchedulePauseIn,
)

router = APIRouter(
    prefix="/schedules",
    tags=["schedules"],
    responses=problems(401, 403, 422, 503),
    route_class=Creating,
)
Managing = Annotated[Principal, Depends(Needs(Permission.SCHEDULES_MANAGE))]
Name = Annotated[Line, Path(max_length=200, description="Of the schedule.")]
Sort = Annotated[
    Literal["name", "-name", "task", "-task", "next", "-next", "last", "-last", "fired", "-fired"],
    Query(description="`-`: descending."),
]
_VERBS = {"pause": "POST", "preview": "GET", "resume": "POST", "run": "POST"}


def _whole_name(name: Name, request: Request) -> str:
    """Return the name of a schedule itself: behind a slash as it is stands what is done to one, and
    within a name a slash is `%2F`. Raises 405 for a path that is for another method."""
    raw = request.scope["raw_path"].decode("latin-1").partition("/schedules/")[2]
    before, _, last = raw.rpartition("/")
    if before and last in _VERBS:
        raise HTTPException(405, headers={"Allow": _VERBS[last]})
    if raw == "preview":
        raise HTTPException(405, headers={"Allow": "POST"})
    return name


WholeName = Annotated[str, Depends(_whole_name)]
READ = [needs(Permission.SCHEDULES_READ)]
MANAGE = [needs(Permission.SCHEDULES_MANAGE)]


@router.get("", dependencies=READ)
async def list_schedules(
    request: Request,
    *,
    q: Search = "",
    sort: Sort = "name",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ScheduleOut]:
    """Schedules as they stand."""
    console = console_of(request)
    asked = Asked(q, sort, cursor, limit)
    now = console.clock.now().timestamp()
    rows, more = LISTING.page(await console.queue.schedules.list(), asked, now)
    return Page(items=[ScheduleOut.of(info) for info in rows], next_cursor=more)


@router.post("", status_code=201, responses=problems(409, 413), dependencies=MANAGE)
async def create_schedule(body: NewSchedule, request: Request, response: Response) -> ScheduleOut:
    """Make a schedule; its first fire is the first after now."""
    info = await service.create(console_of(request).queue, body, effect_id(request))
    note(request, "schedules.create", f"schedule:{body.name}", after=body.model_dump())
    response.headers["ETag"] = etag_of(info.version)
    return ScheduleOut.of(info)


@router.post("/preview", dependencies=READ)
async def preview_timing(body: Preview, request: Request) -> Fires:
    """The next fires of a timing that is no schedule yet."""
    fires = console_of(request).queue.schedules.preview_timing(
        cron=body.cron, tz=body.tz, every=body.every, count=body.count
    )
    return Fires.of(fires, body.tz)


@router.get("/{name:path}/preview", responses=problems(404), dependencies=READ)
async def preview_schedule(
    name: Name, request: Request, count: Annotated[int, Query(ge=1, le=100)] = 5
) -> Fires:
    """Its next fires, as if it were not paused."""
    schedules = console_of(request).queue.schedules
    info = await schedules.get(name)
    return Fires.of(await schedules.preview(name, count), info.tz)


@router.post("/{name:path}/pause", responses=problems(404))
async def pause_schedule(
    name: Name, who: Managing, request: Request, body: SchedulePauseIn | None = None
) -> ScheduleOut:
    """Let it fire no more until it is resumed, or until a time."""
    body = body or SchedulePauseIn()
    info = await console_of(request).queue.schedules.pause(
        name, reason=body.reason, by=who.name, until=body.until
    )
    note(request, "schedules.pause", f"schedule:{name}", detail=body.reason)
    return ScheduleOut.of(info)


@router.post("/{name:path}/resume", responses=problems(404), dependencies=MANAGE)
async def resume_schedule(name: Name, request: Request) -> ScheduleOut:
    """Let it fire again; what fell into the pause is not made up for."""
    info = await console_of(request).queue.schedules.resume(name)
    note(request, "schedules.resume", f"schedule:{name}")
    return ScheduleOut.of(info)


@router.post("/{name:path}/run", status_code=201, responses=problems(404), dependencies=MANAGE)
async def run_schedule(name: Name, request: Request) -> Ran:
    """Enqueue its task at once, whatever else runs."""
    task_id = await console_of(request).queue.schedules.run_now(name, task_id=effect_id(request))
    note(request, "schedules.run", f"schedule:{name}", after={"task_id": task_id})
    return Ran(task_id=task_id)


@router.get("/{name:path}", responses=problems(404), dependencies=READ)
async def get_schedule(name: WholeName, request: Request, response: Response) -> ScheduleOut:
    """One schedule, with an `ETag` to change it with."""
    info = await console_of(request).queue.schedules.get(name)
    response.headers["ETag"] = etag_of(info.version)
    return ScheduleOut.of(info)


@router.patch("/{name:path}", responses=problems(404, 412, 428), dependencies=MANAGE)
async def change_schedule(
    name: WholeName,
    body: ScheduleChange,
    *,
    request: Request,
    response: Response,
    if_match: IfMatch = None,
) -> ScheduleOut:
    """Change what is given. Nothing is made up for by the new timing."""
    schedules = console_of(request).queue.schedules
    before = await schedules.get(name)
    must_match(if_match, before.version)
    info = await schedules.edit(name, **body.changes(), if_version=before.version)
    was = {field: getattr(before, field) for field in body.changes()}
    note(
        request,
        "schedules.change",
        f"schedule:{name}",
        before=was,
        after=body.changes(),
    )
    response.headers["ETag"] = etag_of(info.version)
    return ScheduleOut.of(info)


@router.delete(
    "/{name:path}", status_code=204, responses=problems(404, 409, 412), dependencies=MANAGE
)
async def delete_schedule(
    name: WholeName, request: Request, *, force: bool = False, if_match: IfMatch = None
) -> None:
    """Delete it; tasks that it enqueued stay. One that code declares only with `force`, until the
    next deploy."""
    schedules = console_of(request).queue.schedules
    before = await schedules.get(name)
    must_match(if_match, before.version, needed=False)
    await service.delete(schedules, before, force=force)
    note(request, "schedules.delete", f"schedule:{name}", before={"timing": before.timing})
