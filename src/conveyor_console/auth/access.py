"""The gate in front of every route: who asks, may they, and did they mean it."""

from __future__ import annotations

import hmac
from typing import Annotated, Any

from fastapi import Depends, Request

from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal, Principals
from conveyor_console.auth.tokens import BadToken
from conveyor_console.kit.clock import Clock
from conveyor_console.kit.problems import Problem

ACCESS_COOKIE, REFRESH_COOKIE, CSRF_COOKIE = "conveyor_access", "conveyor_refresh", "conveyor_csrf"
CSRF_HEADER = "X-CSRF-Token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def unauthenticated(detail: str) -> Problem:
    """The answer to somebody we do not know (RFC 6750 §3)."""
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})


class Gate:
    """Lets requests in."""

    def __init__(self, principals: Principals, secret: bytes, clock: Clock) -> None:
        self._principals = principals
        self._secret = secret
        self._clock = clock

    async def principal(self, request: Request) -> Principal:
        """Return who asks. Raises `Problem` 401, and 403 for a cookie without its CSRF token."""
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        by_cookie = not scheme
        if by_cookie:
            credential = request.cookies.get(ACCESS_COOKIE, "")
        elif scheme.lower() != "bearer":
            raise unauthenticated(f"Authorization: {scheme[:20]} is not known here, use Bearer")
        if not credential.strip():
            raise unauthenticated("sign in, or send an API key as Authorization: Bearer cv_…")
        try:
            found = await self._principals.of(credential.strip(), self._clock.now())
        except BadToken as exc:
            raise unauthenticated(f"the token is not valid: {exc}") from None
        if by_cookie and request.method not in _SAFE:
            self._check_csrf(request, found.session_id or "")
        return found

    def csrf_token(self, session_id: str) -> str:
        """Return what a page of this session must send along with every change."""
        return hmac.new(self._secret, b"csrf:" + session_id.encode(), "sha256").hexdigest()

    def _check_csrf(self, request: Request, session_id: str) -> None:
        sent = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(sent.encode(), self.csrf_token(session_id).encode()):
            raise Problem(403, f"the header {CSRF_HEADER} is missing or not that of this session")


class Needs:
    """A dependency: the caller must have this permission. `Needs(...)` in a route's signature, or
    `Allowed[...]`'s metadata, is also what the authorisation matrix is made from."""

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, request: Request) -> Principal:
        """Return who asks. Raises `Problem` 401 and 403."""
        gate: Gate = request.app.state.console.gate
        principal = await gate.principal(request)
        request.state.principal, request.state.needed = principal, self.permission
        must_have(principal, self.permission)
        return principal


def must_have(principal: Principal, permission: Permission) -> None:
    """Raise `Problem` 403 for somebody without a permission."""
    if permission not in principal.permissions:
        raise Problem(
            403,
            f"this needs the permission {permission.value}, which {_who(principal)} does not have",
            permission=permission.value,
        )


def _who(principal: Principal) -> str:
    return "this key" if principal.key_id else f"the role {principal.role.value}"


def needs(permission: Permission) -> Any:
    """Make the dependency for a route that does not look at who asks."""
    return Depends(Needs(permission))


Myself = Annotated[Principal, Depends(Needs(Permission.SELF))]
