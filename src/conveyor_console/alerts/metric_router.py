"""What rules can be about: what the console measures, and what others report."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from sqlalchemy import delete, select

from conveyor_console.alerts import reporting
from conveyor_console.alerts.measures import MEASURES
from conveyor_console.alerts.models import AlertReport
from conveyor_console.alerts.schemas import Metrics, ReportIn, ReportOut
from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Needs, needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.deps import Reading, Writing, console_of
from conveyor_console.kit.pages import Cursor, Limit, Page, page_of, place_of
from conveyor_console.kit.problems import Problem, problems

router = APIRouter(prefix="/metrics", responses=problems(401, 403, 422))
Reporting = Annotated[Principal, Depends(Needs(Permission.ALERTS_REPORT))]
Name = Annotated[
    str,
    Path(
        max_length=100,
        pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$",
        description="Two words or more with dots between, as `campaign.bounce_rate`.",
    ),
]
_READS = [needs(Permission.ALERTS_READ)]
_MANAGES = [needs(Permission.ALERTS_MANAGE)]


@router.get("", dependencies=_READS)
async def list_metrics(db: Reading) -> Metrics:
    """What rules can be about: measured here, or reported."""
    return Metrics(items=sorted({*MEASURES, *await reporting.names(db)}))


@router.get("/{name}", dependencies=_READS)
async def list_reports(
    name: Name, db: Reading, cursor: Cursor = None, limit: Limit = 50
) -> Page[ReportOut]:
    """The last reported values of a metric, by target."""
    place = place_of(cursor)
    wanted = select(AlertReport).where(AlertReport.metric == name).order_by(AlertReport.target)
    if place is not None:
        wanted = wanted.where(AlertReport.target > place[0])
    found = (await db.scalars(wanted.limit(limit + 1))).all()
    rows, more = page_of(found, limit, lambda one: [one.target])
    return Page(items=[ReportOut.of(one) for one in rows], next_cursor=more)


@router.put("/{name}", responses=problems(409))
async def report_metric(
    name: Name, body: ReportIn, who: Reporting, db: Writing, request: Request
) -> ReportOut:
    """Report how a metric of your own stands now, for a target. Rules see the last value for as
    long as it is good; after that it says nothing, and changes nothing."""
    if name in MEASURES:
        raise Problem(409, f"{name} is measured by the console itself: name yours otherwise")
    now = console_of(request).clock.now().timestamp()
    row = AlertReport(
        metric=name,
        target=body.target,
        value=body.value,
        at=now,
        until=now + body.good_for,
        reported_by=who.name[:300],
    )
    await reporting.report(db, row)
    return ReportOut.of(row)


@router.delete("/{name}", status_code=204, dependencies=_MANAGES)
async def delete_metric(name: Name, db: Writing, request: Request) -> None:
    """Forget what was reported of a metric. Rules about it measure nothing from then on."""
    note(request, "alerts.delete_metric", f"metric:{name}")
    await db.execute(delete(AlertReport).where(AlertReport.metric == name))
