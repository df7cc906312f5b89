"""One's own saved views: those of others are not there, for nobody."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Myself
from conveyor_console.auth.models import User
from conveyor_console.auth.principals import Principal
from conveyor_console.creating import Creating
from conveyor_console.deps import Reading, Writing, console_of
from conveyor_console.kit.etags import IfMatch, etag_of, must_match
from conveyor_console.kit.grammar import BadQuery, parse
from conveyor_console.kit.pages import Cursor, Limit, Page, bad_query, page_of, place_of
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.kit.wire import PathId
from conveyor_console.saved_views.models import SavedView
from conveyor_console.saved_views.schemas import List, ViewIn, ViewOut

MOST = 200
"""Views of one user."""
router = APIRouter(
    prefix="/saved-views",
    tags=["saved-views"],
    responses=problems(401, 403, 422),
    route_class=Creating,
)
Of = Annotated[List | None, Query(description="Only views of this list.")]


@router.get("")
async def list_views(
    myself: Myself, db: Reading, *, of: Of = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[ViewOut]:
    """One's own views by list and name."""
    key = (SavedView.of, SavedView.name)
    wanted = select(SavedView).where(SavedView.user_id == myself.user_id).order_by(*key)
    if of is not None:
        wanted = wanted.where(SavedView.of == of)
    place = place_of(cursor, 2)
    if place is not None:
        last_of, last_name = place
        behind = (SavedView.of == last_of) & (SavedView.name > last_name)
        wanted = wanted.where(behind | (SavedView.of > last_of))
    found = (await db.scalars(wanted.limit(limit + 1))).all()
    rows, more = page_of(found, limit, lambda view: [view.of, view.name])
    return Page(items=[ViewOut.model_validate(row) for row in rows], next_cursor=more)


@router.post("", status_code=201, responses=problems(409))
async def create_view(
    body: ViewIn, myself: Myself, db: Writing, request: Request, response: Response
) -> ViewOut:
    """Keep a filter under a name."""
    _check(body)
    # The user's row is what two requests meet at, so that both do not take the last place.
    await db.get(User, myself.user_id, with_for_update=True)
    count = select(func.count()).where(SavedView.user_id == myself.user_id)
    if (await db.scalar(count) or 0) >= MOST:
        raise Problem(409, f"you have {MOST} saved views: delete one first")
    console = console_of(request)
    now = console.clock.now()
    view = SavedView(
        id=console.new_id(),
        user_id=myself.user_id,
        created_at=now,
        updated_at=now,
        **body.model_dump(),
    )
    db.add(view)
    await _flush(db, body)
    note(request, "saved-views.create", f"view:{view.id}", after=body.model_dump())
    response.headers["ETag"] = etag_of(view.version)
    return ViewOut.model_validate(view)


@router.get("/{view_id}", responses=problems(404))
async def get_view(view_id: PathId, myself: Myself, db: Reading, response: Response) -> ViewOut:
    """One view, with an `ETag` to change it with."""
    view = await _mine(db, view_id, myself)
    response.headers["ETag"] = etag_of(view.version)
    return ViewOut.model_validate(view)


@router.put("/{view_id}", responses=problems(404, 409, 412, 428))
async def replace_view(
    view_id: PathId,
    body: ViewIn,
    myself: Myself,
    db: Writing,
    *,
    request: Request,
    response: Response,
    if_match: IfMatch = None,
) -> ViewOut:
    """Replace a view."""
    _check(body)
    view = await _mine(db, view_id, myself, to_change=True)
    must_match(if_match, view.version)
    before = _body_of(view)
    for name, value in body.model_dump().items():
        setattr(view, name, value)
    view.updated_at = console_of(request).clock.now()
    await _flush(db, body)
    note(request, "saved-views.replace", f"view:{view_id}", before=before, after=body.model_dump())
    response.headers["ETag"] = etag_of(view.version)
    return ViewOut.model_validate(view)


@router.delete("/{view_id}", status_code=204, responses=problems(404, 412))
async def delete_view(
    view_id: PathId, myself: Myself, db: Writing, request: Request, if_match: IfMatch = None
) -> None:
    """Delete a view."""
    view = await _mine(db, view_id, myself, to_change=True)
    must_match(if_match, view.version, needed=False)
    note(request, "saved-views.delete", f"view:{view_id}", before=_body_of(view))
    await db.delete(view)


def _check(body: ViewIn) -> None:
    """Raise `Problem` 422 for a filter that no list could read."""
    try:
        parse(body.q)
    except BadQuery as exc:
        raise bad_query(exc) from None


async def _flush(db: AsyncSession, body: ViewIn) -> None:
    try:
        await db.flush()
    except IntegrityError:
        raise Problem(409, f"you have a view of {body.of} named {body.name!r} already") from None


async def _mine(
    db: AsyncSession, view_id: str, myself: Principal, *, to_change: bool = False
) -> SavedView:
    view = await db.get(SavedView, view_id, with_for_update=to_change or None)
    if view is None or view.user_id != myself.user_id:
        raise Problem(404, "you have no such view")
    return view


def _body_of(view: SavedView) -> dict[str, str | None]:
    return {name: getattr(view, name) for name in ViewIn.model_fields}
