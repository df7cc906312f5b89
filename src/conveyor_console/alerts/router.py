"""Alerts over HTTP: what is wrong, who takes care of it, who was told."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from conveyor_console.alerts import queries
from conveyor_console.alerts.channel_router import router as channels
from conveyor_console.alerts.evaluating import standing_of
from conveyor_console.alerts.metric_router import router as metrics
from conveyor_console.alerts.models import AlertStanding
from conveyor_console.alerts.rule_router import router as rules
from conveyor_console.alerts.rules import Status, acknowledge
from conveyor_console.alerts.schemas import Acknowledgement, AlertDeliveryOut, AlertOut
from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Needs, needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.deps import Reading, Writing, console_of
from conveyor_console.kit.pages import Cursor, Limit, Page, Search, page_of, place_of
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.kit.wire import PathId
from conveyor_console.live import notices

router = APIRouter(prefix="/alerts", tags=["alerts"], responses=problems(401, 403, 422))
# Before `/{alert_id}`, which would take their words for ids.
router.include_router(metrics)
router.include_router(rules)
router.include_router(channels)
Managing = Annotated[Principal, Depends(Needs(Permission.ALERTS_MANAGE))]
_READS = [needs(Permission.ALERTS_READ)]
OfRule = Annotated[str | None, Query(max_length=36, pattern="^[0-9a-f-]*$")]
Kept = Annotated[Status | None, Query(description="firing, acknowledged or resolved")]


@router.get("", dependencies=_READS)
async def list_alerts(
    request: Request,
    db: Reading,
    *,
    q: Search = "",
    status: Kept = None,
    rule_id: OfRule = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[AlertOut]:
    """Alerts, the newest first: those that are open, and those of the last 90 days."""
    place = place_of(cursor)
    before = place[0] if place else None
    found = await queries.alerts(
        db,
        status=status and status.value,
        rule_id=rule_id,
        q=q,
        now=console_of(request).clock.now(),
        before=before,
        limit=limit + 1,
    )
    rows, more = page_of(found, limit, lambda alert: [alert.id])
    return Page(items=[AlertOut.model_validate(row) for row in rows], next_cursor=more)


@router.get("/{alert_id}", dependencies=_READS, responses=problems(404))
async def get_alert(alert_id: PathId, db: Reading) -> AlertOut:
    """One alert."""
    return AlertOut.model_validate(await queries.alert_of(db, alert_id))


@router.post("/{alert_id}/acknowledge", responses=problems(404, 409))
async def acknowledge_alert(
    alert_id: PathId, body: Acknowledgement, who: Managing, db: Writing, request: Request
) -> AlertOut:
    """Take care of an alert that fires."""
    console = console_of(request)
    now = console.clock.now()
    alert = await queries.alert_of(db, alert_id)
    row = await db.get(AlertStanding, alert.rule_id, with_for_update=True)
    mine = row is not None and row.alert_id == alert.id
    after = acknowledge(standing_of(row), now) if row is not None and mine else None
    if row is None or after is None:
        raise Problem(409, f"this alert is {alert.status}: only one that fires is acknowledged")
    row.status, row.since = after.status.value, after.since
    alert.status, alert.acknowledged_at = after.status.value, now
    alert.acknowledged_by, alert.note = who.name[:300], body.note or None
    data = {"alert_id": alert.id, "rule_id": alert.rule_id, "by": who.name}
    notices.add(db, console.new_id(), now, "alerts.acknowledged", data)
    note(request, "alerts.acknowledge", f"alert:{alert.id}", detail=body.note)
    return AlertOut.model_validate(alert)


@router.get("/{alert_id}/deliveries", dependencies=_READS, responses=problems(404))
async def list_deliveries(
    alert_id: PathId, db: Reading, cursor: Cursor = None, limit: Limit = 50
) -> Page[AlertDeliveryOut]:
    """Who was told of it, and what could not be delivered, the newest first."""
    await queries.alert_of(db, alert_id)
    place = place_of(cursor)
    found = await queries.deliveries(db, alert_id, place[0] if place else None, limit + 1)
    rows, more = page_of(found, limit, lambda row: [row.id])
    return Page(items=[AlertDeliveryOut.model_validate(row) for row in rows], next_cursor=more)
