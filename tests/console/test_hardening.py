"""What attackers try that no single noun is about: logs, headers, other sites, other people."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from conveyor.brokers.url import connect
from conveyor.errors import InvalidOption
from conveyor_console.auth.models import Role
from conveyor_console.auth.throttle import Throttle
from conveyor_console.console import Console
from conveyor_console.settings import Settings, check_address
from tests.console.conftest import PASSWORD, SECRET, Api, TestClock

ADA = {"email": "admin@example.com", "password": PASSWORD}
HERE = "https://console.test"


@pytest.fixture
def database_kind() -> str:
    """None of this depends on the database."""
    return "sqlite"


# -- logs


async def test_a_failure_is_logged_without_what_was_sent(
    app: FastAPI, console: Console, admin: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """A statement that fails is in the log, with its traceback and without its values."""
    async with console.database.writing() as db:
        await db.execute(text("DROP TABLE console_invitation"))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        body = {"email": "wanted@example.com"}
        answer = await admin.http.post("/api/v1/invitations", json=body)
    assert answer.status_code == 500
    assert "console_invitation" not in answer.text
    said = caplog.text
    assert "POST /api/v1/invitations" in said
    assert "wanted@example.com" not in said


async def test_no_secret_gets_into_a_log(
    admin: Api, nobody: Api, users: dict[Role, str], caplog: pytest.LogCaptureFixture
) -> None:
    secrets = [PASSWORD, SECRET]
    with caplog.at_level(logging.INFO):
        granted = await nobody.call("POST", "/auth/login", json=ADA)
        secrets += [granted["access_token"], granted["refresh_token"], granted["csrf_token"]]
        nobody.http.cookies.clear()
        await nobody.call("POST", "/auth/login", 401, json={**ADA, "password": "hunter2-hunter2"})
        made = await admin.call(
            "POST", "/api-keys", 201, json={"name": "k", "scopes": ["tasks:read"]}
        )
        hook = {"name": "h", "url": "https://example.com/x", "topics": ["task.failed"]}
        signed = await admin.call("POST", "/webhooks", 201, json=hook)
        await admin.call("GET", "/auth/me", 401, headers={"Authorization": "Bearer cv_live_x_y"})
        secrets += [made["key"], signed["secret"], "hunter2-hunter2"]
    found = caplog.text
    for value in (await admin.call("GET", "/audit", params={"limit": 200}))["items"]:
        found += str(value)
    for secret in secrets:
        assert secret not in found


async def test_nothing_that_is_sent_begins_a_line_of_a_log_or_a_header(
    admin: Api, nobody: Api, caplog: pytest.LogCaptureFixture
) -> None:
    forged = "x%0d%0aERROR%20forged%1b[31m"
    with caplog.at_level(logging.DEBUG, "conveyor"):
        for path in (f"/api/v1/{forged}", f"/api/v1/users/{forged}", f"/api/v1/tasks?q={forged}"):
            for api in (admin, nobody):
                answer = await api.http.get(path, headers={"X-Request-ID": "a\tb<script>"})
                for name, value in answer.headers.raw:
                    assert b"\n" not in name + value
                assert answer.headers["x-request-id"].isascii()
                assert "<" not in answer.headers["x-request-id"]
    for record in caplog.records:
        assert "\n" not in record.getMessage()
        assert "\x1b" not in record.getMessage()
    for entry in (await admin.call("GET", "/audit", params={"limit": 200}))["items"]:
        assert all(char.isprintable() for char in str(entry["target"]) + str(entry["detail"]))


# -- other sites


@pytest.fixture
def settings(migrated_url: str) -> Settings:
    return Settings.model_validate(
        {
            "database_url": migrated_url,
            "secret_key": SECRET,
            "allowed_hosts": ("console.test",),
            "cors_origins": (HERE,),
            "cookie_secure": True,
        }
    )


async def test_only_listed_sites_may_read_answers(nobody: Api) -> None:
    for origin, good in ((HERE, True), ("https://evil.test", False), ("null", False)):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        before = await nobody.http.options("/api/v1/tasks", headers=asked)
        answer = await nobody.http.get("/livez", headers={"Origin": origin})
        for one in (before, answer):
            allowed = one.headers.get("access-control-allow-origin")
            assert allowed == (origin if good else None), (origin, one.headers)
        assert (before.status_code == 200) is good


async def test_over_https_cookies_and_answers_stay_there(
    nobody: Api, users: dict[Role, str]
) -> None:
    answer = await nobody.http.post("/api/v1/auth/login", json=ADA)
    for cookie in answer.headers.get_list("set-cookie"):
        assert "; Secure" in cookie
    said = answer.headers
    assert said["strict-transport-security"].startswith("max-age=")
    assert said["referrer-policy"] == "same-origin"
    assert said["x-frame-options"] == "DENY"
    assert "camera=()" in said["permissions-policy"]
    policy = dict(
        part.strip().partition(" ")[::2] for part in said["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'self'"
    assert policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in policy.get("script-src", "")


async def test_answers_that_are_refused_early_are_as_careful(app: FastAPI) -> None:
    """413, 421 and 404 pass the same layers."""
    api = Api(app)
    for answer in (
        await api.http.get("/livez", headers={"Host": "evil.test"}),
        await api.http.post("/api/v1/tasks", content=b"x" * (1 << 21)),
        await api.http.get("/nothing"),
    ):
        assert answer.status_code in {404, 413, 421}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-request-id"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


# -- guessing


async def test_guessing_at_many_accounts_gets_slow_too(
    nobody: Api, users: dict[Role, str], console: Console
) -> None:
    """Credential stuffing: one guess for each of many accounts, all from one address."""
    statuses = []
    for number in range(40):
        guess = {"email": f"u{number}@example.com", "password": "a guess"}
        answer = await nobody.http.post("/api/v1/auth/login", json=guess)
        statuses.append(answer.status_code)
    assert statuses[:20] == [401] * 20
    assert statuses[20:] == [429] * 20


async def test_who_guesses_from_everywhere_locks_nobody_out(
    console: Console, clock: TestClock
) -> None:
    throttle = console.throttle
    await throttle.admit("ada", "192.0.2.7")
    async with console.database.writing() as db:
        await throttle.succeeded(db, "ada", "192.0.2.7")
    tries = [await throttle.admit("ada", f"198.51.100.{number}") for number in range(60)]
    assert [wait == 0 for wait in tries] == [True] * 50 + [False] * 10
    another = Throttle(console.database, clock)  # a replica
    assert await another.admit("ada", "192.0.2.7") == 0
    assert await another.admit("ada", "203.0.113.5") > 0
    assert await another.admit("bob", "203.0.113.5") == 0
    clock.advance(900)
    assert await another.admit("ada", "203.0.113.5") == 0


async def test_guesses_at_the_same_moment_are_counted_before_they_are_looked_at(
    nobody: Api, users: dict[Role, str], console: Console, clock: TestClock
) -> None:
    """Thirty-two at once, half of them at another replica, are no more than one after the other."""
    looked_at = 0
    real = console.passwords.matches

    async def matches(password: str, stored: str | None) -> bool:
        nonlocal looked_at
        looked_at += 1
        return await real(password, stored)

    console.passwords.matches = matches  # type: ignore[method-assign]
    other = Throttle(console.database, clock)
    ada = {"email": "admin@example.com", "password": PASSWORD}
    guesses = (
        nobody.http.post("/api/v1/auth/login", json={**ada, "password": f"guess {number}"})
        for number in range(16)
    )
    admitted = asyncio.gather(*(other.admit("admin@example.com", "127.0.0.1") for _ in range(16)))
    answers = await asyncio.gather(*guesses)
    elsewhere = [wait == 0 for wait in await admitted].count(True)
    assert looked_at + elsewhere == 5
    assert [one.status_code for one in answers].count(401) == looked_at
    assert {one.status_code for one in answers} <= {401, 429}
    clock.advance(3)
    # Right ones are given back, and those that are too many for a moment wait for that.
    rights = (nobody.http.post("/api/v1/auth/login", json=ada) for _ in range(24))
    assert {one.status_code for one in await asyncio.gather(*rights)} == {200}


async def test_guessing_a_password_with_a_stolen_session_gets_slow(
    admin: Api, users: dict[Role, str]
) -> None:
    guess = {"current": "a guess", "new": "another one of some length"}
    for _ in range(5):
        await admin.call("POST", "/auth/password", 403, json=guess)
    await admin.call("POST", "/auth/password", 429, json={**guess, "current": PASSWORD})


async def test_a_tokens_last_bits_count(app: FastAPI, admin: Api) -> None:
    token = admin.http.headers["Authorization"].removeprefix("Bearer ")
    head, claims, signature = token.split(".")
    for wrong in (
        token[:-1],
        f"{head}.{claims}.",
        f"{head}.{claims}",
        f"{head}.{claims[:-2]}.{signature}",
        f"{head}.{claims}.{signature}.{signature}",
        f"{token}A",
        f"..{signature}",
        signature,
    ):
        await Api(app, wrong).call("GET", "/auth/me", 401)


# -- listening


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "console.test", ""])
def test_nobody_listens_in_public_with_a_secret_that_nobody_chose(host: str) -> None:
    with pytest.raises(InvalidOption, match="CONVEYOR_SECRET_KEY"):
        check_address(host, Settings.model_validate({"secret_key": None}))
    check_address(host, Settings.model_validate({"secret_key": SECRET}))


@pytest.mark.parametrize("secret", ["", "short", "x" * 31])
def test_a_short_secret_is_none(secret: str) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Settings.model_validate({"secret_key": secret})


# -- a database that is away


async def test_a_database_that_is_away_is_a_503(
    console: Console, admin: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise OperationalError("SELECT", {}, Exception("cannot open"))

    with monkeypatch.context() as patched:
        patched.setattr(console.database, "reading", away)
        answers: list[httpx.Response] = [await admin.http.get("/api/v1/auth/sessions")]
        patched.setattr(console.epoch, "read", _refused)
        answers.append(await admin.http.get("/readyz"))
    for answer in answers:
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) >= 1
    assert (await admin.http.get("/readyz")).status_code == 200


async def _refused(*_: Any) -> Any:
    raise ConnectionRefusedError(111, "refused")


@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_addresses_are_told_without_passwords(scheme: str) -> None:
    """`/system/info` shows where the broker is."""
    assert "hunter2" not in connect(f"{scheme}://ada:hunter2@127.0.0.1:1/0").url
