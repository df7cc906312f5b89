"""Access tokens (JWT, RFC 7519) and refresh tokens (opaque, rotated, by digest)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import NamedTuple

import jwt

ISSUER, AUDIENCE, KIND = "conveyor", "conveyor-console", "at+jwt"
"""`typ` of an access token (RFC 9068 §2.1): no other token is taken for one."""
ALGORITHM = "HS256"
_MOST = 10_000
"""Tokens to remember."""


class BadToken(Exception):
    """Not a token of ours, or no longer one."""


class Access(NamedTuple):
    """What an access token says. It names no role: that is read at every request."""

    user_id: str
    session_id: str
    expires: float
    """Epoch seconds."""


class Tokens:
    """Makes and reads tokens with one secret."""

    def __init__(self, secret: bytes, access_seconds: int) -> None:
        self._secret = secret
        self._access = timedelta(seconds=access_seconds)
        self._read: dict[str, Access] = {}
        """Tokens that were checked: their signature does not change, only the time does."""

    def access(self, user_id: str, session_id: str, now: datetime) -> str:
        """Make an access token."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id,
            "sid": session_id,
            "iat": now,
            "exp": now + self._access,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._secret, ALGORITHM, headers={"typ": KIND})

    def read_access(self, token: str, now: datetime) -> Access:
        """Check an access token. Raises `BadToken`."""
        found = self._read.get(token)
        if found is None:
            found = self._checked(token)
            if len(self._read) >= _MOST:
                self._read.clear()
            self._read[token] = found
        if found.expires <= now.timestamp():
            raise BadToken("the token has expired")
        return found

    def _checked(self, token: str) -> Access:
        try:
            decoded = jwt.decode_complete(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                # The time is that of the given clock: see `read_access`.
                options={
                    "require": ["exp", "iat", "sub", "sid", "jti"],
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
        except (jwt.InvalidTokenError, ValueError) as exc:
            raise BadToken(str(exc)) from None
        claims = decoded["payload"]
        user, session, expires = claims["sub"], claims["sid"], claims["exp"]
        if decoded["header"].get("typ") != KIND or not isinstance(session, str):
            raise BadToken("not an access token")
        if not isinstance(expires, int | float):
            raise BadToken("not an access token")
        return Access(user, session, expires)

    def first_refresh(self) -> str:
        """Make the first refresh token of a session."""
        return secrets.token_urlsafe(32)

    def next_refresh(self, token: str) -> str:
        """Return the one successor of a refresh token: two that refresh at the same moment get the
        same one, and no plain token is ever stored."""
        digest = hmac.digest(self._secret, b"refresh:" + token.encode(), "sha256")
        return _text(digest)


def _text(value: bytes) -> str:
    """Write bytes so that they fit into headers, cookies and URLs."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def digest_of(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
