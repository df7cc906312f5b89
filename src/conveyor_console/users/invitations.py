"""Invitations, for those who manage users."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from sqlalchemy import select

from conveyor_console.audit.trail import note
from conveyor_console.auth import accounts
from conveyor_console.auth.access import Needs
from conveyor_console.auth.models import Invitation, User
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.auth.tokens import digest_of
from conveyor_console.creating import Creating
from conveyor_console.deps import Reading, Writing, console_of
from conveyor_console.kit.pages import Cursor, Limit, Page, Search, moment_place, page_of
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.users import queries
from conveyor_console.users.schemas import InvitationOut, Invited, NewInvitation

Managing = Annotated[Principal, Depends(Needs(Permission.USERS_MANAGE))]
router = APIRouter(
    prefix="/invitations",
    tags=["invitations"],
    responses=problems(401, 403, 422),
    route_class=Creating,
)


@router.get("")
async def list_invitations(
    _: Managing,
    db: Reading,
    request: Request,
    *,
    open: bool | None = None,
    q: Search = "",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[InvitationOut]:
    """Invitations, the newest first; `open=true`: those that can still be used."""
    now = console_of(request).clock.now()
    found = await queries.invitations(
        db,
        open_at=now if open else None,
        q=q,
        now=now,
        before=moment_place(cursor),
        limit=limit + 1,
    )
    rows, more = page_of(found, limit, lambda one: [one.created_at.isoformat(), one.digest])
    return Page(items=[InvitationOut.model_validate(one) for one in rows], next_cursor=more)


@router.post("", status_code=201, responses=problems(409))
async def create_invitation(
    body: NewInvitation, who: Managing, db: Writing, request: Request
) -> Invited:
    """Invite somebody. Send them the token: it is shown only here, and good once."""
    console = console_of(request)
    now, email = console.clock.now(), accounts.normal_email(body.email)
    if await db.scalar(select(User.id).where(User.email == email)) is not None:
        raise Problem(409, f"{email} has an account already")
    token = secrets.token_urlsafe(32)
    made = Invitation(
        digest=digest_of(token),
        email=email,
        role=body.role.value,
        invited_by=who.user_id,
        created_at=now,
        expires_at=now + timedelta(days=body.days),
    )
    db.add(made)
    await db.flush()
    after = {"email": email, "role": body.role, "expires_at": made.expires_at}
    note(request, "invitations.create", f"invitation:{made.digest}", after=after)
    return Invited(invitation=InvitationOut.model_validate(made), token=token)


@router.delete("/{invitation_id}", status_code=204, responses=problems(404))
async def revoke_invitation(
    invitation_id: Annotated[str, Path(pattern="^[0-9a-f]{64}$")],
    _: Managing,
    db: Writing,
    request: Request,
) -> None:
    """Take an invitation back. One that was used is history, and stays."""
    found = await db.get(Invitation, invitation_id, with_for_update=True)
    if found is None or found.used_at is not None:
        raise Problem(404, "there is no such open invitation")
    await db.delete(found)
    before = {"email": found.email, "role": found.role}
    note(request, "invitations.revoke", f"invitation:{invitation_id}", before=before)
