"""Accounts: the first administrator, registration, invitations, passwords."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from importlib import resources

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor.errors import InvalidOption
from conveyor_console.auth.models import Invitation, Role, User
from conveyor_console.auth.passwords import LONGEST, SHORTEST, Passwords
from conveyor_console.auth.permissions import Permission, allowed
from conveyor_console.auth.tokens import digest_of
from conveyor_console.kit.problems import Problem

INVITED_FOR = timedelta(days=7)


def normal_email(text: str) -> str:
    """Return an address as accounts are kept by. Raises `InvalidOption`."""
    try:
        found = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError as exc:
        raise InvalidOption(f"{text[:254]!r} is not an e-mail address: {exc}") from None
    return found.normalized.lower()


def asked_email(text: str) -> str:
    """Return the address under which whoever signs in may be kept: what is no address is nobody's
    and is refused like any other."""
    try:
        return normal_email(text.strip())
    except InvalidOption:
        return text.strip().lower()


def weakness(password: str, email: str) -> str | None:
    """Say what is wrong with a new password, None when nothing (NIST SP 800-63B §5.1.1.2: length
    and a list of what everybody tries, no rules about characters)."""
    if len(password) < SHORTEST:
        return f"use {SHORTEST} characters or more"
    if len(password) > LONGEST:
        return f"use {LONGEST} characters at most"
    folded = password.casefold()
    if folded in common_passwords():
        return "this password is in every list that attackers try first"
    if len(set(password)) < 4 or email.partition("@")[0].casefold() == folded:
        return "this password is too easy to guess"
    return None


def check_password(password: str, email: str) -> None:
    """Raise `Problem` 422 for a new password that is too weak."""
    weak = weakness(password, email)
    if weak is not None:
        raise Problem(422, weak, errors=[{"in": "body", "pointer": "/password", "detail": weak}])


@cache
def common_passwords() -> frozenset[str]:
    """Return the passwords that nobody may have."""
    text = resources.files("conveyor_console.auth").joinpath("common_passwords.txt")
    return frozenset(text.read_text(encoding="utf-8").split())


async def create_user(
    db: AsyncSession,
    *,
    user_id: str,
    email: str,
    password_hash: str,
    role: Role,
    now: datetime,
    name: str = "",
) -> User:
    """Add a user. Raises `Problem` 409 when the address has an account."""
    user = User(
        id=user_id,
        email=email,
        name=name,
        password_hash=password_hash,
        role=role.value,
        created_at=now,
        updated_at=now,
    )
    db.add(user)
    try:
        await db.flush()
    except IntegrityError:
        raise Problem(409, f"{email} has an account already") from None
    return user


async def first_administrator(
    db: AsyncSession,
    passwords: Passwords,
    *,
    user_id: str,
    email: str,
    password: str,
    now: datetime,
) -> User | None:
    """Make the first administrator; None when there are users already. Raises `InvalidOption`."""
    if await db.scalar(select(func.count()).select_from(User)):
        return None
    address = normal_email(email)
    weak = weakness(password, address)
    if weak is not None:
        raise InvalidOption(f"CONVEYOR_ADMIN_PASSWORD: {weak}")
    hashed = await passwords.hash(password)
    return await create_user(
        db, user_id=user_id, email=address, password_hash=hashed, role=Role.ADMIN, now=now
    )


async def accept_invitation(db: AsyncSession, token: str, email: str, now: datetime) -> Role:
    """Use an invitation up; returns the role it gives. Raises `Problem` 403."""
    found = await open_invitation(db, token, email, now, lock=True)
    found.used_at = now
    return Role(found.role)


async def open_invitation(
    db: AsyncSession, token: str, email: str, now: datetime, *, lock: bool = False
) -> Invitation:
    """Return an invitation that can be used. Raises `Problem` 403."""
    found = await db.get(Invitation, digest_of(token), with_for_update=lock or None)
    if found is None or found.used_at is not None or found.expires_at <= now:
        raise Problem(403, "this invitation is not valid (any more): ask for a new one")
    if found.email != email:
        raise Problem(403, "this invitation is for another address")
    host = None if found.invited_by is None else await db.get(User, found.invited_by)
    if host is None or host.disabled_at is not None or not may_invite(Role(host.role)):
        raise Problem(403, "this invitation is not valid any more: who made it may invite nobody")
    return found


def may_invite(role: Role) -> bool:
    """Whether users of this role invite others."""
    return Permission.USERS_MANAGE in allowed(role)
