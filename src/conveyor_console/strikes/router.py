"""Hold tasks back by name, queue or argument, and let them go."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from conveyor import strikes
from conveyor.errors import InvalidOption
from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Needs, needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.creating import Creating, effect_id
from conveyor_console.deps import console_of
from conveyor_console.kit.pages import Cursor, Limit, Page, Search, page_of, place_of
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.kit.searching import fitting
from conveyor_console.kit.wire import PathId
from conveyor_console.strikes.listing import FIELDS, read
from conveyor_console.strikes.schemas import Lifted, StrikeIn, StrikeOut

router = APIRouter(
    prefix="/strikes",
    tags=["strikes"],
    responses=problems(401, 403, 422, 503),
    route_class=Creating,
)
Managing = Annotated[Principal, Depends(Needs(Permission.LIMITS_MANAGE))]


@router.get("", dependencies=[needs(Permission.LIMITS_READ)])
async def list_strikes(
    request: Request, *, q: Search = "", cursor: Cursor = None, limit: Limit = 50
) -> Page[StrikeOut]:
    """Strikes, the oldest first."""
    console = console_of(request)
    place = place_of(cursor)
    found = await strikes.strikes(console.queue)
    found = fitting(found, q, FIELDS, read, console.clock.now().timestamp())
    if place is not None:
        found = [one for one in found if one.id > place[0]]
    rows, more = page_of(found, limit, lambda one: [one.id])
    return Page(items=[StrikeOut.of(one) for one in rows], next_cursor=more)


@router.post("", status_code=201)
async def add_strike(body: StrikeIn, who: Managing, request: Request) -> StrikeOut:
    """Hold tasks back that have not started, until it is lifted or over. Workers hear of it within
    a second."""
    made = await strikes.strike(
        console_of(request).queue,
        name=body.name,
        queue=body.queue,
        where=body.where,
        until=body.until,
        reason=body.reason,
        by=who.name,
        strike_id=effect_id(request),
    )
    note(request, "strikes.add", f"strike:{made.id}", detail=made.sentence())
    return StrikeOut.of(made)


@router.delete(
    "/{strike_id}", responses=problems(404), dependencies=[needs(Permission.LIMITS_MANAGE)]
)
async def lift_strike(strike_id: PathId, request: Request) -> Lifted:
    """End a strike and let what it held back start. Takes a second."""
    try:
        freed = await strikes.lift(console_of(request).queue, strike_id)
    except InvalidOption as exc:
        raise Problem(404, str(exc)) from None
    note(request, "strikes.lift", f"strike:{strike_id}", after={"freed": freed})
    return Lifted(freed=freed)
