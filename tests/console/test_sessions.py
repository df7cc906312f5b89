"""Sign-ins: who gets in, for how long, and what ends it."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from fastapi import FastAPI
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import select, update

from conveyor_console.auth.accounts import normal_email
from conveyor_console.auth.models import RefreshToken, Role, Session, User
from conveyor_console.auth.tokens import digest_of
from conveyor_console.console import Console
from conveyor_console.db import epoch
from tests.console.conftest import PASSWORD, SECRET, Api, TestClock, signed_in

ADA = {"email": "admin@example.com", "password": PASSWORD}


@pytest.fixture
async def granted(nobody: Api, users: dict[Role, str]) -> dict[str, Any]:
    found: dict[str, Any] = await nobody.call("POST", "/auth/login", json=ADA)
    nobody.http.cookies.clear()
    return found


async def test_a_sign_in_says_who_one_is(app: FastAPI, granted: dict[str, Any]) -> None:
    me = await Api(app, granted["access_token"]).call("GET", "/auth/me")
    assert me["user"]["email"] == ADA["email"]
    assert me["user"]["role"] == "admin"
    assert "users:manage" in me["permissions"]
    assert granted["token_type"] == "bearer"
    assert granted["expires_in"] == 900


async def test_addresses_are_the_same_in_any_case(nobody: Api, users: dict[Role, str]) -> None:
    await nobody.call("POST", "/auth/login", json={**ADA, "email": " Admin@Example.COM "})


async def test_one_signs_in_by_the_address_one_registered(
    nobody: Api, console: Console, users: dict[Role, str]
) -> None:
    """Accounts are kept by one spelling of it: domains in letters, characters composed."""
    asked = {"email": "Ada@xn--bcher-kva.example", "password": PASSWORD}
    async with console.database.writing() as db:
        await db.execute(
            update(User)
            .where(User.id == users[Role.ADMIN])
            .values(email=normal_email(asked["email"]))
        )
    await nobody.call("POST", "/auth/login", json=asked)
    await nobody.call("POST", "/auth/login", json={**asked, "email": "ada@bücher.example"})


async def test_what_was_wrong_is_not_said(
    nobody: Api, users: dict[Role, str], subtests: pytest.Subtests
) -> None:
    for body in [
        {**ADA, "password": "not the password"},
        {**ADA, "email": "nobody@example.com"},
        {**ADA, "email": "not an address"},
    ]:
        with subtests.test(body=body):
            problem = await nobody.call("POST", "/auth/login", 401, json=body)
            assert problem["detail"] == "the e-mail address or the password is wrong"


async def test_every_refusal_costs_one_hash(
    nobody: Api, console: Console, users: dict[Role, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long an answer takes says nothing: the one slow thing is done once, whoever asks. The
    clocks of it are in `benchmarks/answers.py`."""
    async with console.database.writing() as db:
        out = update(User).where(User.id == users[Role.VIEWER])
        await db.execute(out.values(disabled_at=console.clock.now()))
    work: list[str] = []
    real = {name: getattr(Argon2Hasher, name) for name in ("hash", "verify")}

    def counted(name: str) -> Any:
        def call(*rest: Any, **more: Any) -> Any:
            work.append(name)
            return real[name](*rest, **more)

        return call

    for name in real:
        monkeypatch.setattr(Argon2Hasher, name, counted(name))
    said = set()
    for email, password in (
        ("nobody@example.com", PASSWORD),
        (ADA["email"], "not the password"),
        ("viewer@example.com", PASSWORD),
        ("viewer@example.com", "not the password"),
        ("not an address", PASSWORD),
        ("nobody@example.com", "x"),
    ):
        work.clear()
        body = {"email": email, "password": password}
        answer = await nobody.http.post("/api/v1/auth/login", json=body)
        told = {k: v for k, v in answer.headers.items() if k not in {"x-request-id", "date"}}
        said.add((answer.status_code, answer.content, tuple(told.items())))
        assert len(work) == 1, (email, work)
    assert len(said) == 1, said


async def test_a_disabled_user_is_out_at_once(
    app: FastAPI, console: Console, granted: dict[str, Any], nobody: Api
) -> None:
    ada = Api(app, granted["access_token"])
    await ada.call("GET", "/auth/me")
    async with console.database.writing() as db:
        await db.execute(
            update(User).where(User.email == ADA["email"]).values(disabled_at=console.clock.now())
        )
        await epoch.advance(db)
    await ada.call("GET", "/auth/me", 401)
    await nobody.call("POST", "/auth/login", 401, json=ADA)
    await nobody.call(
        "POST", "/auth/refresh", 401, json={"refresh_token": granted["refresh_token"]}
    )


async def test_a_role_taken_away_bites_at_the_next_request(
    app: FastAPI, console: Console, operator: Api, users: dict[Role, str]
) -> None:
    task = {"name": "shop.greet", "args": ["x"]}
    await operator.call("POST", "/tasks", 201, json=task)
    async with console.database.writing() as db:
        await db.execute(
            update(User).where(User.id == users[Role.OPERATOR]).values(role=Role.VIEWER.value)
        )
        await epoch.advance(db)
    problem = await operator.call("POST", "/tasks", 403, json=task)
    assert problem["permission"] == "tasks:enqueue"


# -- tokens


async def test_an_access_token_expires(
    app: FastAPI, granted: dict[str, Any], clock: TestClock
) -> None:
    ada = Api(app, granted["access_token"])
    clock.advance(899)
    await ada.call("GET", "/auth/me")
    clock.advance(1)
    problem = await ada.call("GET", "/auth/me", 401)
    assert "expired" in problem["detail"]


def _forged(token: str, header: dict[str, Any], key: str = "") -> str:
    """The claims of a token under another header, signed with `key`, or not at all."""
    claims = jwt.decode(token, options={"verify_signature": False})
    if key:
        return jwt.encode(claims, key, "HS256", headers=header)
    parts = [json.dumps(part).encode() for part in (header, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


async def test_a_token_without_a_signature_is_nothing(
    app: FastAPI, granted: dict[str, Any], subtests: pytest.Subtests
) -> None:
    for header in [
        {"alg": "none", "typ": "at+jwt"},
        {"alg": "None", "typ": "at+jwt"},
        {"alg": "NONE", "typ": "at+jwt"},
        {"alg": "HS256", "typ": "at+jwt"},
        {"alg": "RS256", "typ": "at+jwt"},
        {"typ": "at+jwt"},
    ]:
        with subtests.test(header=header):
            await Api(app, _forged(granted["access_token"], header)).call("GET", "/auth/me", 401)


async def test_a_token_of_another_key_or_kind_is_nothing(
    app: FastAPI, granted: dict[str, Any], subtests: pytest.Subtests
) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"typ": "at+jwt"}, "another secret, also long enough for HS256"),
        ({"typ": "JWT"}, SECRET),
        ({"typ": "refresh+jwt"}, SECRET),
        ({"typ": "at+jwt", "kid": "../../../../dev/null"}, "x" * 32),
        ({"typ": "at+jwt", "jwk": {"kty": "oct", "k": "eHh4"}}, "x" * 32),
    ]
    for header, key in cases:
        with subtests.test(header=header, key=key):
            await Api(app, _forged(granted["access_token"], header, key)).call(
                "GET", "/auth/me", 401
            )


async def test_every_claim_counts(
    app: FastAPI, granted: dict[str, Any], subtests: pytest.Subtests
) -> None:
    cases: list[dict[str, Any]] = [
        {"aud": "another"},
        {"iss": "another"},
        {"sub": None},
        {"sid": None},
        {"sid": 7},
        {"exp": None},
        {"exp": "tomorrow"},
        {"jti": None},
    ]
    for change in cases:
        with subtests.test(change=change):
            claims = jwt.decode(granted["access_token"], options={"verify_signature": False})
            changed = {k: v for k, v in {**claims, **change}.items() if v is not None}
            token = jwt.encode(changed, SECRET, "HS256", headers={"typ": "at+jwt"})
            await Api(app, token).call("GET", "/auth/me", 401)


async def test_other_credentials_are_refused_with_a_sentence(
    app: FastAPI, subtests: pytest.Subtests
) -> None:
    for header in ["Basic YTpi", "Bearer", "Bearer ", "Bearer a.b", "cv_x"]:
        with subtests.test(header=header):
            answer = await Api(app).http.get("/api/v1/auth/me", headers={"Authorization": header})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"


# -- refreshing


async def _refresh(api: Api, token: str, status: int = 200) -> dict[str, Any]:
    found: dict[str, Any] = await api.call(
        "POST", "/auth/refresh", status, json={"refresh_token": token}
    )
    api.http.cookies.clear()
    return found


async def test_a_refresh_token_is_used_once(
    nobody: Api, granted: dict[str, Any], clock: TestClock, app: FastAPI
) -> None:
    second = await _refresh(nobody, granted["refresh_token"])
    assert second["refresh_token"] != granted["refresh_token"]
    clock.advance(60)
    third = await _refresh(nobody, second["refresh_token"])
    # The first one again, long after: somebody has a copy, so nobody has a session any more.
    await _refresh(nobody, granted["refresh_token"], 401)
    await _refresh(nobody, third["refresh_token"], 401)
    await Api(app, third["access_token"]).call("GET", "/auth/me", 401)


async def test_two_tabs_that_refresh_together_get_the_same_successor(
    nobody: Api, granted: dict[str, Any], clock: TestClock
) -> None:
    first = await _refresh(nobody, granted["refresh_token"])
    clock.advance(9)
    again = await _refresh(nobody, granted["refresh_token"])
    assert again["refresh_token"] == first["refresh_token"]
    await _refresh(nobody, first["refresh_token"])


async def test_a_session_ends_when_it_is_not_used(
    nobody: Api, granted: dict[str, Any], clock: TestClock
) -> None:
    clock.advance(14 * 86_400)
    await _refresh(nobody, granted["refresh_token"], 401)


async def test_a_session_ends_however_often_it_is_used(
    nobody: Api, granted: dict[str, Any], clock: TestClock
) -> None:
    token = granted["refresh_token"]
    for _ in range(5):
        clock.advance(5 * 86_400)
        token = (await _refresh(nobody, token))["refresh_token"]
    clock.advance(5 * 86_400)
    await _refresh(nobody, token, 401)


async def test_no_token_is_stored(console: Console, granted: dict[str, Any]) -> None:
    async with console.database.reading() as db:
        stored = (await db.execute(select(Session))).scalars().all()
        assert [row.id for row in stored]
        rows = await (await db.connection()).exec_driver_sql("SELECT * FROM console_refresh_token")
        text = str(rows.all())
    assert granted["refresh_token"] not in text
    assert digest_of(granted["refresh_token"]) in text


# -- cookies


async def test_a_cookie_needs_its_csrf_token_for_changes(
    nobody: Api, users: dict[Role, str]
) -> None:
    granted = await nobody.call("POST", "/auth/login", json=ADA)
    me = await nobody.call("GET", "/auth/me")
    assert me["csrf_token"] == granted["csrf_token"]
    await nobody.call("POST", "/auth/logout", 403)
    await nobody.call("POST", "/auth/logout", 403, headers={"X-CSRF-Token": "0" * 64})
    await nobody.call("POST", "/auth/logout", 204, headers={"X-CSRF-Token": me["csrf_token"]})
    await nobody.call("GET", "/auth/me", 401)


async def test_cookies_are_out_of_reach_of_scripts_and_other_sites(
    nobody: Api, users: dict[Role, str]
) -> None:
    answer = await nobody.http.post("/api/v1/auth/login", json=ADA)
    cookies = {c.partition("=")[0]: c for c in answer.headers.get_list("set-cookie")}
    for name in ("conveyor_access", "conveyor_refresh"):
        assert "HttpOnly" in cookies[name]
        assert "SameSite=strict" in cookies[name]
    assert "Path=/api/v1/auth" in cookies["conveyor_refresh"]
    assert "HttpOnly" not in cookies["conveyor_csrf"]


# -- one's own account


async def test_a_new_password_ends_the_other_sessions(
    app: FastAPI, nobody: Api, granted: dict[str, Any], admin: Api
) -> None:
    ada = Api(app, granted["access_token"])
    change = {"current": PASSWORD, "new": "another one of some length"}
    await ada.call("POST", "/auth/password", 403, json={**change, "current": "wrong"})
    await ada.call("POST", "/auth/password", 422, json={**change, "new": "short"})
    await ada.call("POST", "/auth/password", 422, json={**change, "new": "password1234"})
    await ada.call("POST", "/auth/password", 204, json=change)
    await ada.call("GET", "/auth/me")
    await admin.call("GET", "/auth/me", 401)
    await nobody.call("POST", "/auth/login", 401, json=ADA)
    await nobody.call("POST", "/auth/login", json={**ADA, "password": change["new"]})


async def test_sessions_can_be_seen_and_ended(
    app: FastAPI, granted: dict[str, Any], admin: Api, viewer: Api
) -> None:
    ada = Api(app, granted["access_token"])
    page = await ada.call("GET", "/auth/sessions?limit=1")
    rest = await ada.call("GET", "/auth/sessions", params={"cursor": page["next_cursor"]})
    mine = page["items"] + rest["items"]
    assert (len(page["items"]), len(mine), rest["next_cursor"]) == (1, 2, None)
    assert [one["current"] for one in mine].count(True) == 1
    (other,) = [one["id"] for one in mine if not one["current"]]
    await viewer.call("DELETE", f"/auth/sessions/{other}", 404)
    await ada.call("DELETE", f"/auth/sessions/{other}", 204)
    await admin.call("GET", "/auth/me", 401)
    await ada.call("GET", "/auth/me")


# -- guessing


async def test_guessing_gets_slower_and_locks_nobody_out(
    nobody: Api, users: dict[Role, str], clock: TestClock
) -> None:
    wrong = {**ADA, "password": "a guess"}
    for _ in range(5):
        await nobody.call("POST", "/auth/login", 401, json=wrong)
    answer = await nobody.http.post("/api/v1/auth/login", json=ADA)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    clock.advance(2)
    await nobody.call("POST", "/auth/login", json=ADA)
    nobody.http.cookies.clear()
    await nobody.call("POST", "/auth/login", 401, json=wrong)


async def test_a_forwarded_address_of_nobody_we_trust_changes_nothing(
    nobody: Api, users: dict[Role, str]
) -> None:
    for number in range(5):
        await nobody.call(
            "POST",
            "/auth/login",
            401,
            json={**ADA, "password": "a guess"},
            headers={"X-Forwarded-For": f"203.0.113.{number}"},
        )
    await nobody.call(
        "POST", "/auth/login", 429, json=ADA, headers={"X-Forwarded-For": "203.0.113.99"}
    )


async def test_sessions_that_are_over_are_forgotten_at_the_next_sign_in(
    operator: Api, admin: Api, app: FastAPI, console: Console, clock: TestClock
) -> None:
    clock.advance(console.settings.session_seconds)
    await signed_in(app, Role.OPERATOR)
    async with console.database.reading() as db:
        sessions = (await db.scalars(select(Session))).all()
        tokens = (await db.scalars(select(RefreshToken))).all()
    assert len(sessions) == 2  # the new one, and that of the administrator, who stays away
    assert {one.session_id for one in tokens} == {one.id for one in sessions}
