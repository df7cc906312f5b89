"""Look at limits, pause them, and use other numbers than the code's."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from conveyor import limits
from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Needs, needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.deps import console_of
from conveyor_console.kit.pages import Cursor, Limit, Page, Search, page_of, place_of
from conveyor_console.kit.problems import problems
from conveyor_console.kit.searching import fitting
from conveyor_console.kit.wire import Line
from conveyor_console.limits.listing import FIELDS, read
from conveyor_console.limits.schemas import (
    ClosingIn,
    LimitOut,
    LimitPage,
    OneLimit,
    StatedOut,
    TuningIn,
)

router = APIRouter(prefix="/limits", tags=["limits"], responses=problems(401, 403, 422, 503))
Managing = Annotated[Principal, Depends(Needs(Permission.LIMITS_MANAGE))]
MOST_KEYS = 10_000
"""Keys that are looked at for a list."""


@router.get("", dependencies=[needs(Permission.LIMITS_READ)])
async def list_limits(
    request: Request,
    *,
    q: Search = "",
    name: Annotated[Line | None, Query(alias="limit_name", max_length=300)] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> LimitPage:
    """Limits and keys that are busy, in debt, paused or tuned, by name and key. Of more than 10,000
    only some are looked at, and `truncated` says so: ask for one limit then (`limit_name`)."""
    console = console_of(request)
    place = place_of(cursor, 2)
    found = await limits.look(console.queue, name, MOST_KEYS + 1)
    truncated = len(found) > MOST_KEYS
    learned = await limits.learned(console.queue)
    now = console.queue.clock.time()
    found = fitting(found, q, FIELDS, read, now)
    rows = sorted(found, key=lambda info: (info.limit, info.key))
    if place is not None:
        rows = [info for info in rows if (info.limit, info.key) > (place[0], place[1])]
    part, more = page_of(rows, limit, lambda info: [info.limit, info.key])
    items = [LimitOut.of(info, learned.get(info.limit), now) for info in part]
    return LimitPage(items=items, next_cursor=more, truncated=truncated)


@router.get("/stated", dependencies=[needs(Permission.LIMITS_READ)])
async def list_stated(
    request: Request, *, cursor: Cursor = None, limit: Limit = 50
) -> Page[StatedOut]:
    """Limits as the code that runs here states them, by name; busy or not."""
    place = place_of(cursor)
    rows = limits.stated(console_of(request).queue)
    if place is not None:
        rows = [one for one in rows if one.name > place[0]]
    part, more = page_of(rows, limit, lambda one: [one.name])
    return Page(items=[StatedOut.of(one) for one in part], next_cursor=more)


@router.post("/pause", status_code=204)
async def pause_limit(body: ClosingIn, who: Managing, request: Request) -> None:
    """Let no task of a limit, or of one key, start; what runs goes on."""
    one = limits.limit(body.limit, body.key, app=console_of(request).queue)
    await one.pause(
        body.until if body.seconds is None else body.seconds, reason=body.reason, by=who.name
    )
    note(request, "limits.pause", _target(body), detail=body.reason)


@router.post("/resume", status_code=204, dependencies=[needs(Permission.LIMITS_MANAGE)])
async def resume_limit(body: OneLimit, request: Request) -> None:
    """Take a pause back."""
    await limits.limit(body.limit, body.key, app=console_of(request).queue).resume()
    note(request, "limits.resume", _target(body))


@router.post("/tune", status_code=204, dependencies=[needs(Permission.LIMITS_MANAGE)])
async def tune_limit(body: TuningIn, request: Request) -> None:
    """Use another rate or number of slots for every key, whatever the code says; with neither, the
    code's again."""
    one = limits.limit(body.limit, app=console_of(request).queue)
    await one.tune(rate=body.rate, most=body.most)
    after = {"rate": body.rate, "most": body.most}
    note(request, "limits.tune", f"limit:{body.limit}", after=after)


def _target(body: OneLimit) -> str:
    return f"limit:{body.limit}" + (f" key:{body.key}" if body.key is not None else "")
