"""Is it healthy, how is it set up, and maintenance."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from conveyor import maintenance
from conveyor.inspect import DEAD_RETENTION_SECONDS, RETENTION_SECONDS
from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Needs, needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.deps import console_of
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.settings import Settings
from conveyor_console.system.schemas import (
    Diagnosis,
    MaintenanceIn,
    MaintenanceOut,
    Retention,
    ViolationOut,
)

router = APIRouter(prefix="/system", tags=["system"], responses=problems(401, 403, 422, 503))
Managing = Annotated[Principal, Depends(Needs(Permission.SYSTEM_MANAGE))]
READ = [needs(Permission.SYSTEM_READ)]
_HIDDEN = frozenset({"admin_email"})


@router.get("/doctor", dependencies=[needs(Permission.SYSTEM_CHECK)])
async def doctor(request: Request) -> Diagnosis:
    """Check the invariants of the store. Reads all that is alive: not for every second."""
    queue = console_of(request).queue
    found = await (await queue.inspector()).check()
    return Diagnosis(
        healthy=not found,
        violations=[ViolationOut.of(one) for one in found],
        overdue_schedules=await queue.schedules.lagging(),
    )


@router.get("/settings", dependencies=READ)
async def settings(request: Request) -> dict[str, Any]:
    """The console's settings. Of secrets, and of who they belong to, only whether they are set."""
    return shown(console_of(request).settings)


@router.get("/retention", dependencies=READ)
async def retention(request: Request) -> Retention:
    """How long what has ended is kept."""
    console = console_of(request)
    return Retention(
        history_days=console.settings.history_days,
        succeeded=RETENTION_SECONDS,
        dead=DEAD_RETENTION_SECONDS,
        result_ttl=console.queue.result_ttl,
    )


@router.get("/maintenance", dependencies=READ)
async def get_maintenance(request: Request) -> MaintenanceOut:
    """Whether there is maintenance, since when and why."""
    return MaintenanceOut.of(await maintenance.under_maintenance(console_of(request).queue))


@router.post("/maintenance", responses=problems(409))
async def begin_maintenance(
    who: Managing, request: Request, body: MaintenanceIn | None = None
) -> MaintenanceOut:
    """Pause every queue that is not paused, until maintenance ends. What runs goes on."""
    reason = body.reason if body else ""
    try:
        made = await maintenance.begin(console_of(request).queue, reason=reason, by=who.name)
    except maintenance.InMaintenance as exc:
        raise Problem(409, str(exc)) from None
    note(request, "system.maintenance", "begin", detail=reason, after={"queues": made.queues})
    return MaintenanceOut.of(made)


@router.delete("/maintenance", dependencies=[needs(Permission.SYSTEM_MANAGE)])
async def end_maintenance(request: Request) -> MaintenanceOut:
    """Let the queues run again that maintenance paused; the others stay as they are."""
    names = await maintenance.end(console_of(request).queue)
    note(request, "system.maintenance", "end", after={"queues": names})
    return MaintenanceOut(active=False, queues=names)


def shown(settings: Settings) -> dict[str, Any]:
    """Return settings without what is secret."""
    found: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr) or name in _HIDDEN:
            found[name] = value is not None
        elif name.endswith("_url") and value is not None:
            found[name] = make_url(value).render_as_string(hide_password=True)
        else:
            found[name] = value
    return found
