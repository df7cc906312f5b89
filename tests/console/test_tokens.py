"""Tokens that somebody made, turned round or kept from before: none of them is one of ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI

from conveyor import Conveyor
from conveyor_console.app import create_app
from conveyor_console.auth.models import Role
from conveyor_console.auth.passwords import Passwords
from conveyor_console.kit.outgoing import Outgoing
from conveyor_console.settings import Settings
from tests.console.conftest import PASSWORD, QUICK, SECRET, Api, TestClock
from tests.console.receiver import receiving

ADA = {"email": "admin@example.com", "password": PASSWORD}
NEW_SECRET = "the next secret, which is long enough as well"


@pytest.fixture
def database_kind() -> str:
    """None of this depends on the database."""
    return "sqlite"


@pytest.fixture
async def granted(nobody: Api, users: dict[Role, str]) -> dict[str, Any]:
    found: dict[str, Any] = await nobody.call("POST", "/auth/login", json=ADA)
    nobody.http.cookies.clear()
    return found


def _text(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def _signed(header: dict[str, Any], claims: Any, key: bytes, hashed: str = "sha256") -> str:
    """A token as no library would make it."""
    told = f"{_text(header)}.{_text(claims)}"
    signature = hmac.digest(key, told.encode(), hashed)
    return f"{told}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _forged(access: str, url: str) -> dict[str, str]:
    """Tokens with the claims of a good one."""
    claims = jwt.decode(access, options={"verify_signature": False})
    secret, other = SECRET.encode(), b"x" * 32
    head = {"alg": "HS256", "typ": "at+jwt"}
    key = {"kty": "oct", "k": base64.urlsafe_b64encode(other).decode(), "kid": "a"}
    private = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    forged = {
        "RS256": jwt.encode(claims, private, "RS256", headers={"typ": "at+jwt"}),
        "RS256, signed with the secret": _signed({**head, "alg": "RS256"}, claims, secret),
        "HS384": _signed({**head, "alg": "HS384"}, claims, secret, "sha384"),
        "HS512": _signed({**head, "alg": "HS512"}, claims, secret, "sha512"),
        "HS256 of SHA-512": _signed(head, claims, secret, "sha512"),
        "alg is a list": _signed({**head, "alg": ["HS256"]}, claims, secret),
        "alg in small letters": _signed({**head, "alg": "hs256"}, claims, secret),
        "typ is missing": _signed({"alg": "HS256"}, claims, secret),
        "typ of another kind": _signed({**head, "typ": "rt+jwt"}, claims, secret),
        "claims are a list": _signed(head, [claims], secret),
        "an unknown extension must be understood": _signed(
            {**head, "crit": ["x"], "x": 1}, claims, secret
        ),
        "not before tomorrow": _signed(head, {**claims, "nbf": claims["exp"] * 2}, secret),
        "two audiences, ours not among them": _signed(head, {**claims, "aud": ["a", "b"]}, secret),
        "an empty key": _signed(head, claims, b""),
        "the digest of the secret": _signed(head, claims, hashlib.sha256(secret).digest()),
        "a megabyte": _signed(head, {**claims, "x": "x" * (1 << 20)}, other),
        "deep": f"{_text(head)}.{'W1tb' * 50_000}.AAAA",
    }
    for name in ("jku", "x5u"):
        forged[name] = _signed({**head, name: url, "kid": "a"}, claims, other)
    for name, value in (("jwk", key), ("x5c", ["MIIB"]), ("kid", "' UNION SELECT 'x'--")):
        forged[name] = _signed({**head, name: value}, claims, other)
    for kid in ("../../../../dev/null", "/proc/sys/kernel/randomize_va_space", "|id", url):
        forged[f"kid {kid}"] = _signed({**head, "kid": kid}, claims, b"")
    return forged


async def test_no_header_chooses_the_key_and_no_other_algorithm_counts(
    app: FastAPI, granted: dict[str, Any]
) -> None:
    async with receiving() as keys:
        app.state.console.outgoing = Outgoing(("127.0.0.0/8",), (keys.port,))
        for name, token in _forged(granted["access_token"], keys.url).items():
            answer = await Api(app, token).http.get("/api/v1/auth/me")
            assert answer.status_code == 401, name
            assert len(answer.content) < 1_000, name
        assert not keys.got
    assert not [one for one in app.state.console.tokens._read if one != granted["access_token"]]
    await Api(app, granted["access_token"]).call("GET", "/auth/me")


async def test_each_credential_is_good_for_its_own_purpose_only(
    app: FastAPI, granted: dict[str, Any], admin: Api
) -> None:
    made = await admin.call("POST", "/api-keys", 201, json={"name": "k", "scopes": ["tasks:read"]})
    invited = await admin.call("POST", "/invitations", 201, json={"email": "eve@example.com"})
    others = [granted["refresh_token"], granted["csrf_token"], invited["token"]]
    for token in others:
        await Api(app, token).call("GET", "/tasks", 401)
    cookie = {"Cookie": f"conveyor_access={made['key']}"}
    answer = await Api(app).http.post("/api/v1/tasks", json={"name": "x"}, headers=cookie)
    assert answer.status_code == 403, "a key in a cookie needs a CSRF token that it cannot have"
    for token in (granted["access_token"], granted["csrf_token"], made["key"], invited["token"]):
        await Api(app).call("POST", "/auth/refresh", 401, json={"refresh_token": token})
    for where in ({"token": made["key"]}, {"access_token": granted["access_token"]}):
        await Api(app).call("GET", "/tasks", 401, params=where)


async def test_a_new_secret_ends_access_tokens_and_no_session(
    app: FastAPI, granted: dict[str, Any], queue: Conveyor, settings: Settings, clock: TestClock
) -> None:
    """The former secret opens what was sealed. It signs nothing: it may be the one that leaked."""
    hook = {"name": "h", "url": "https://example.com/x", "topics": ["task.failed"]}
    path = "/webhooks"
    made = await Api(app, granted["access_token"]).call("POST", path, 201, json=hook)
    changed = {"secret_key": NEW_SECRET, "previous_secret_keys": (SECRET,)}
    renewed = Settings.model_validate({**settings.model_dump(), **changed})
    after = create_app(Conveyor(queue.url), renewed, clock=clock, passwords=Passwords(QUICK))
    async with after.router.lifespan_context(after):
        await Api(after, granted["access_token"]).call("GET", "/auth/me", 401)
        asked = {"refresh_token": granted["refresh_token"]}
        again = await Api(after).call("POST", "/auth/refresh", json=asked)
        await Api(app, again["access_token"]).call("GET", "/auth/me", 401)
        ada = Api(after, again["access_token"])
        assert (await ada.call("GET", "/auth/me"))["user"]["email"] == ADA["email"]
        csrf = {"X-CSRF-Token": granted["csrf_token"]}
        cookie = {"Cookie": f"conveyor_access={again['access_token']}", **csrf}
        answer = await Api(after).http.post("/api/v1/auth/logout", headers=cookie)
        assert answer.status_code == 403
        pinged = await ada.call("POST", f"{path}/{made['webhook']['id']}/ping", 201)
        assert pinged["state"] == "pending"
