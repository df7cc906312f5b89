"""Users, for those who manage them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from conveyor_console.audit.trail import note
from conveyor_console.auth import accounts
from conveyor_console.auth.access import Needs
from conveyor_console.auth.models import Role, User
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.schemas import UserOut
from conveyor_console.creating import Creating
from conveyor_console.deps import Reading, Writing, changing, console_of
from conveyor_console.kit.etags import IfMatch, etag_of
from conveyor_console.kit.pages import Cursor, Limit, Page, Search
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.kit.sorting import Order, cut, order_of, place_in
from conveyor_console.kit.wire import PathId
from conveyor_console.users import queries, service
from conveyor_console.users.schemas import NewUser, UserChange

router = APIRouter(
    prefix="/users",
    tags=["users"],
    responses=problems(401, 403, 422),
    dependencies=[Depends(Needs(Permission.USERS_MANAGE))],
    route_class=Creating,
)
Sort = Annotated[
    Literal["created", "-created", "email", "-email"], Query(description="`-`: descending.")
]


@router.get("")
async def list_users(
    request: Request,
    db: Reading,
    *,
    role: Role | None = None,
    disabled: bool | None = None,
    q: Search = "",
    sort: Sort = "-created",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[UserOut]:
    """Users, the newest first unless asked otherwise."""
    order = order_of(sort)
    found = await queries.users(
        db,
        role=role,
        disabled=disabled,
        q=q,
        now=console_of(request).clock.now(),
        order=order,
        place=place_in(order, cursor),
        limit=limit + 1,
    )
    rows, more = cut(found, limit, order, lambda user: _place(user, order))
    return Page(items=[UserOut.model_validate(user) for user in rows], next_cursor=more)


def _place(user: User, order: Order) -> tuple[str, str]:
    return user.email if order.key == "email" else user.id, user.id


@router.post("", status_code=201, responses=problems(409))
async def create_user(body: NewUser, request: Request, response: Response) -> UserOut:
    """Make a user with a password; to let them choose one, make an invitation."""
    console = console_of(request)
    email = accounts.normal_email(body.email)
    accounts.check_password(body.password, email)
    hashed = await console.passwords.hash(body.password)
    async with changing(request) as db:
        user = await accounts.create_user(
            db,
            user_id=console.new_id(),
            email=email,
            password_hash=hashed,
            role=body.role,
            now=console.clock.now(),
            name=body.name,
        )
        after = {"email": email, "name": body.name, "role": body.role}
        note(request, "users.create", f"user:{user.id}", after=after)
    response.headers["ETag"] = etag_of(user.version)
    return UserOut.model_validate(user)


@router.get("/{user_id}", responses=problems(404))
async def get_user(user_id: PathId, db: Reading, response: Response) -> UserOut:
    """One user, with an `ETag` to change them with."""
    user = await db.get(User, user_id)
    if user is None:
        raise Problem(404, "there is no such user")
    response.headers["ETag"] = etag_of(user.version)
    return UserOut.model_validate(user)


@router.patch("/{user_id}", responses=problems(404, 409, 412, 428))
async def change_user(
    user_id: PathId,
    body: UserChange,
    db: Writing,
    *,
    request: Request,
    response: Response,
    if_match: IfMatch = None,
) -> UserOut:
    """Rename a user, give them another role, disable or enable them. It holds at their next
    request."""
    now = console_of(request).clock.now()
    user = await service.for_change(db, user_id, if_match, needed=True)
    before, after = await service.change(db, user, body, now)
    note(request, "users.change", f"user:{user_id}", before=before, after=after)
    response.headers["ETag"] = etag_of(user.version)
    return UserOut.model_validate(user)


@router.delete("/{user_id}", status_code=204, responses=problems(404, 409, 412))
async def delete_user(
    user_id: PathId, db: Writing, request: Request, if_match: IfMatch = None
) -> None:
    """Delete a user with their sessions and keys. What they did stays in the audit log."""
    user = await service.for_change(db, user_id, if_match, needed=False)
    before = {"email": user.email, "name": user.name, "role": user.role}
    await db.delete(user)
    await db.flush()
    await service.somebody_is_left(db)
    note(request, "users.delete", f"user:{user_id}", before=before)
