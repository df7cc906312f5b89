"""API keys: made, listed and revoked by whose they are; administrators see all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.api_keys.schemas import KeyMade, KeyOut, NewKey
from conveyor_console.api_keys.searching import SEARCH
from conveyor_console.audit.trail import note
from conveyor_console.auth.access import Myself
from conveyor_console.auth.keys import make_key
from conveyor_console.auth.models import ApiKey
from conveyor_console.auth.permissions import SCOPES, Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.creating import Creating
from conveyor_console.db import epoch
from conveyor_console.deps import Reading, Writing, console_of
from conveyor_console.kit.pages import Cursor, Limit, Page, Search
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.kit.sorting import Order, behind, cut, order_of, place_in
from conveyor_console.kit.wire import Line, PathId

MOST = 100
"""Keys that one user may have at a time; what was revoked or has expired does not count."""
# All of it needs `self`, which is no scope: a key makes no keys.
router = APIRouter(
    prefix="/api-keys",
    tags=["api-keys"],
    responses=problems(401, 403, 422),
    route_class=Creating,
)
Owner = Annotated[
    Line | None, Query(max_length=36, description="Whose; `all`: everybody's. Default: yours.")
]
Sort = Annotated[
    Literal["created", "-created", "name", "-name"], Query(description="`-`: descending.")
]


@router.get("")
async def list_keys(
    request: Request,
    myself: Myself,
    db: Reading,
    *,
    q: Search = "",
    owner: Owner = None,
    sort: Sort = "-created",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[KeyOut]:
    """One's own keys, the newest first unless asked otherwise; those of others for who
    manages users."""
    owner = owner or myself.user_id
    if owner != myself.user_id and not _manages(myself):
        raise Problem(403, "this needs the permission users:manage: you see your own keys")
    order = order_of(sort)
    columns = (ApiKey.name if order.key == "name" else ApiKey.id, ApiKey.id)
    wanted = behind(select(ApiKey), order, columns, place_in(order, cursor))
    if owner != "all":
        wanted = wanted.where(ApiKey.user_id == owner)
    wanted = SEARCH.narrow(db, wanted, q, console_of(request).clock.now())
    found = (await db.scalars(wanted.limit(limit + 1))).all()
    rows, more = cut(found, limit, order, lambda key: _place(key, order))
    return Page(items=[KeyOut.model_validate(key) for key in rows], next_cursor=more)


@router.post("", status_code=201, responses=problems(409))
async def create_key(body: NewKey, myself: Myself, db: Writing, request: Request) -> KeyMade:
    """Make a key. It is shown only here; only its SHA-256 is kept."""
    console = console_of(request)
    now = console.clock.now()
    _check_scopes(body.scopes, myself)
    await _check_number(db, myself, now)
    new = make_key()
    key = ApiKey(
        id=console.new_id(),
        user_id=myself.user_id,
        name=body.name,
        prefix=new.prefix,
        digest=new.digest,
        scopes=sorted({scope.value for scope in body.scopes}),
        created_at=now,
        expires_at=None if body.days is None else now + timedelta(days=body.days),
    )
    db.add(key)
    await db.flush()
    after = {
        "name": key.name,
        "prefix": key.prefix,
        "scopes": key.scopes,
        "expires_at": key.expires_at,
    }
    note(request, "api-keys.create", f"key:{key.id}", after=after)
    return KeyMade(api_key=KeyOut.model_validate(key), key=new.text)


@router.delete("/{key_id}", status_code=204, responses=problems(404))
async def revoke_key(key_id: PathId, myself: Myself, db: Writing, request: Request) -> None:
    """Revoke a key: it is refused from the next request on."""
    # Before the key, as who deletes its user does: else two could wait for each other.
    await epoch.advance(db)
    key = await db.get(ApiKey, key_id, with_for_update=True)
    if key is None or (key.user_id != myself.user_id and not _manages(myself)):
        raise Problem(404, "you have no such key")
    if key.revoked_at is None:
        key.revoked_at = console_of(request).clock.now()
    before = {"name": key.name, "prefix": key.prefix, "user_id": key.user_id}
    note(request, "api-keys.revoke", f"key:{key_id}", before=before)


def _place(key: ApiKey, order: Order) -> tuple[str, str]:
    return key.name if order.key == "name" else key.id, key.id


def _manages(who: Principal) -> bool:
    return Permission.USERS_MANAGE in who.permissions


def _check_scopes(scopes: Sequence[Permission], who: Principal) -> None:
    """Raise `Problem` 422 for a scope that this user could not use."""
    for index, scope in enumerate(scopes):
        if scope in SCOPES and scope in who.permissions:
            continue
        wrong = (
            f"{scope.value} is never a scope of a key"
            if scope not in SCOPES
            else f"the role {who.role.value} does not have {scope.value}"
        )
        at = {"in": "body", "pointer": f"/scopes/{index}", "detail": wrong}
        raise Problem(422, wrong, errors=[at])


async def _check_number(db: AsyncSession, who: Principal, now: datetime) -> None:
    count = await db.scalar(
        select(func.count())
        .select_from(ApiKey)
        .where(ApiKey.user_id == who.user_id, ApiKey.revoked_at.is_(None))
        .where(or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now))
    )
    if (count or 0) >= MOST:
        raise Problem(409, f"you have {MOST} keys: revoke one first")
