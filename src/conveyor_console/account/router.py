"""Sign in, stay signed in, sign out; one's own account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.account.schemas import (
    Granted,
    Login,
    Me,
    PasswordChange,
    Refresh,
    Registration,
    SessionOut,
)
from conveyor_console.audit.trail import note
from conveyor_console.auth import accounts, sessions
from conveyor_console.auth.access import (
    ACCESS_COOKIE,
    CSRF_COOKIE,
    REFRESH_COOKIE,
    Myself,
    unauthenticated,
)
from conveyor_console.auth.models import Role, Session, User
from conveyor_console.auth.principals import Principal
from conveyor_console.auth.schemas import UserOut
from conveyor_console.auth.sessions import Grant, Origin, ReusedToken
from conveyor_console.auth.throttle import TooMany
from conveyor_console.auth.tokens import BadToken
from conveyor_console.db import epoch
from conveyor_console.deps import Reading, Writing, changing, console_of
from conveyor_console.kit.openapi import OPEN
from conveyor_console.kit.pages import Cursor, Limit, Page, moment_place, page_of
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.kit.sorting import Order, behind
from conveyor_console.kit.wire import PathId

if TYPE_CHECKING:
    from conveyor_console.console import Console

router = APIRouter(prefix="/auth", tags=["auth"], responses=problems(401, 403, 422))
_REFRESH_PATH = "/api/v1/auth"
_REGISTERING = "register"
_LATEST_FIRST = Order("used", descending=True)


@router.post("/login", responses=problems(429), openapi_extra=OPEN)
async def login(body: Login, request: Request, response: Response) -> Granted:
    """Sign in with e-mail and password."""
    console = console_of(request)
    origin = _origin(request, console)
    account = accounts.asked_email(body.email)
    async with _a_try(console, account, origin):
        async with console.database.reading() as db:
            user = await db.scalar(select(User).where(User.email == account))
        checked = None if user is None else user.password_hash
        good = await console.passwords.matches(body.password, checked)
        if user is None or checked is None or not good or user.disabled_at is not None:
            note(request, "auth.login", _user(user))
            raise unauthenticated("the e-mail address or the password is wrong")
        renewed = await console.passwords.renewed(body.password, checked)
        async with changing(request) as db:
            user = await db.get(User, user.id)
            if user is None or user.disabled_at is not None:  # while the password was checked
                raise unauthenticated("the e-mail address or the password is wrong")
            if renewed is not None and user.password_hash == checked:
                user.password_hash = renewed
            grant = await console.sessions.begin(
                db, user, console.new_id(), origin, console.clock.now()
            )
            note(request, "auth.login", f"session:{grant.session_id}", who=user)
            await console.throttle.succeeded(db, account, origin.ip)
    return _granted(console, response, grant)


@router.post("/register", status_code=201, responses=problems(409, 429), openapi_extra=OPEN)
async def register(body: Registration, request: Request, response: Response) -> Granted:
    """Make an account: while registration is open, or with an invitation."""
    console = console_of(request)
    mode = console.settings.registration
    if mode == "closed" or (mode == "invitation" and not body.invitation):
        raise Problem(403, "registration is by invitation of an administrator")
    email = accounts.normal_email(body.email)
    accounts.check_password(body.password, email)
    origin, now = _origin(request, console), console.clock.now()
    await _may_register(console, origin)
    if body.invitation:  # before the hash, which costs much: anybody can make an invitation up
        async with console.database.reading() as db:
            await accounts.open_invitation(db, body.invitation, email, now)
    hashed = await console.passwords.hash(body.password)
    async with changing(request) as db:
        role = Role.VIEWER
        if body.invitation:
            role = await accounts.accept_invitation(db, body.invitation, email, now)
        user = await accounts.create_user(
            db,
            user_id=console.new_id(),
            email=email,
            password_hash=hashed,
            role=role,
            now=now,
            name=body.name,
        )
        grant = await console.sessions.begin(db, user, console.new_id(), origin, now)
        after = {"email": email, "role": role, "invited": body.invitation is not None}
        note(request, "auth.register", _user(user), after=after, who=user)
    if body.invitation:
        await console.throttle.give_back(_REGISTERING, origin.ip)
    return _granted(console, response, grant)


@router.post("/refresh", openapi_extra=OPEN)
async def refresh(request: Request, response: Response, body: Refresh | None = None) -> Granted:
    """Exchange a refresh token, of the body or the cookie, for its successor."""
    console = console_of(request)
    token = (body and body.refresh_token) or request.cookies.get(REFRESH_COOKIE, "")
    if not token:
        raise unauthenticated("no refresh token: sign in")
    now = console.clock.now()
    try:
        async with changing(request) as db:
            grant = await console.sessions.go_on(db, token, now)
    except ReusedToken as exc:
        async with changing(request) as db:
            target = f"user:{exc.user_id} session:{exc.session_id}"
            note(request, "auth.reuse", target, detail=str(exc))
            await sessions.end(db, "reuse", now, user_id=exc.user_id, session_id=exc.session_id)
        raise unauthenticated(str(exc)) from None
    except BadToken as exc:
        raise unauthenticated(str(exc)) from None
    return _granted(console, response, grant)


@router.post("/logout", status_code=204)
async def logout(myself: Myself, db: Writing, request: Request, response: Response) -> None:
    """End this session."""
    now = console_of(request).clock.now()
    await sessions.end(db, "logout", now, user_id=myself.user_id, session_id=myself.session_id)
    for cookie, path in ((ACCESS_COOKIE, "/"), (CSRF_COOKIE, "/"), (REFRESH_COOKIE, _REFRESH_PATH)):
        response.delete_cookie(cookie, path=path)


@router.get("/me")
async def me(myself: Myself, db: Reading, request: Request) -> Me:
    """Who you are and what you may do."""
    user = await _own(db, myself)
    csrf = myself.session_id and console_of(request).gate.csrf_token(myself.session_id)
    return Me(
        user=UserOut.model_validate(user),
        permissions=sorted(myself.permissions),
        csrf_token=csrf,
    )


@router.post("/password", status_code=204, responses=problems(429))
async def change_password(body: PasswordChange, myself: Myself, request: Request) -> None:
    """Change one's password; every other session of this user ends."""
    console = console_of(request)
    origin = _origin(request, console)
    async with console.database.reading() as db:
        user = await _own(db, myself)
    async with _a_try(console, user.email, origin):
        if not await console.passwords.matches(body.current, user.password_hash):
            raise Problem(403, "the current password is wrong")
        async with console.database.writing() as db:
            await console.throttle.succeeded(db, user.email, origin.ip)
    accounts.check_password(body.new, user.email)
    hashed = await console.passwords.hash(body.new)
    now = console.clock.now()
    async with changing(request) as db:
        note(request, "auth.change_password", _user(user))
        # Changes of users meet at this row first (`users.service`), so none is lost.
        await epoch.advance(db)
        user = await _own(db, myself)
        user.password_hash, user.updated_at = hashed, now
        await sessions.end(db, "password", now, user_id=user.id, but=myself.session_id)


@router.get("/sessions")
async def list_sessions(
    myself: Myself, db: Reading, request: Request, *, cursor: Cursor = None, limit: Limit = 50
) -> Page[SessionOut]:
    """One's own living sessions, the latest first."""
    at = (Session.last_used_at, Session.id)
    mine = (
        select(Session)
        .where(Session.user_id == myself.user_id, Session.revoked_at.is_(None))
        .where(Session.expires_at > console_of(request).clock.now())
    )
    wanted = behind(mine, _LATEST_FIRST, at, moment_place(cursor)).limit(limit + 1)
    found = (await db.scalars(wanted)).all()
    rows, more = page_of(found, limit, lambda one: [one.last_used_at.isoformat(), one.id])
    items = [
        SessionOut.model_validate(one).model_copy(update={"current": one.id == myself.session_id})
        for one in rows
    ]
    return Page(items=items, next_cursor=more)


@router.delete("/sessions/{session_id}", status_code=204, responses=problems(404))
async def end_session(session_id: PathId, myself: Myself, db: Writing, request: Request) -> None:
    """End one of one's own sessions."""
    now = console_of(request).clock.now()
    ended = await sessions.end(db, "ended", now, user_id=myself.user_id, session_id=session_id)
    if not ended:
        raise Problem(404, "you have no such session")


@asynccontextmanager
async def _a_try(console: Console, account: str, origin: Origin) -> AsyncIterator[None]:
    """Look at a password within. Raises `Problem` 429 when there were too many guesses."""
    try:
        async with console.throttle.trying(account, origin.ip):
            yield
    except TooMany as exc:
        raise _too_many("failed sign-ins", exc) from None


async def _may_register(console: Console, origin: Origin) -> None:
    """Count a registration. Raises `Problem` 429 when there were too many from here."""
    try:
        await console.throttle.spend(_REGISTERING, origin.ip)
    except TooMany as exc:
        raise _too_many("registrations from this address", exc) from None


def _too_many(of_what: str, exc: TooMany) -> Problem:
    seconds = int(exc.seconds) + 1
    detail = f"too many {of_what}: try again in {seconds} s"
    return Problem(429, detail, headers={"Retry-After": str(seconds)})


async def _own(db: AsyncSession, myself: Principal) -> User:
    """Return who asks. Raises `Problem` 401 when they were deleted since they were let in."""
    user = await db.get(User, myself.user_id)
    if user is None:
        raise unauthenticated("this account is gone")
    return user


def _user(user: User | None) -> str:
    return "" if user is None else f"user:{user.id}"


def _origin(request: Request, console: Console) -> Origin:
    return Origin(console.addresses.of(request), request.headers.get("user-agent", ""))


def _granted(console: Console, response: Response, grant: Grant) -> Granted:
    """Answer with the tokens, in the body and as cookies."""
    csrf = console.gate.csrf_token(grant.session_id)
    seconds = int((grant.expires_at - console.clock.now()).total_seconds())
    access_seconds = console.settings.access_seconds
    for name, value, path, age, hidden in (
        (ACCESS_COOKIE, grant.access, "/", access_seconds, True),
        (REFRESH_COOKIE, grant.refresh, _REFRESH_PATH, seconds, True),
        (CSRF_COOKIE, csrf, "/", seconds, False),
    ):
        response.set_cookie(
            name,
            value,
            max_age=age,
            path=path,
            secure=console.settings.cookie_secure,
            httponly=hidden,
            samesite="strict",
        )
    return Granted(
        access_token=grant.access,
        expires_in=access_seconds,
        refresh_token=grant.refresh,
        csrf_token=csrf,
        user=UserOut.model_validate(grant.user),
    )
