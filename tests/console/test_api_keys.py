"""API keys: what they may do, whose they are, and that nobody reads them anywhere."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi import FastAPI

from conveyor import Conveyor
from conveyor_console.auth.models import Role
from conveyor_console.auth.tokens import digest_of
from conveyor_console.console import Console
from tests.console.conftest import Api, TestClock

GREET = {"name": "shop.greet", "args": ["x"]}


async def made(api: Api, *scopes: str, **more: Any) -> Any:
    body = {"name": "a program", "scopes": list(scopes), **more}
    return await api.call("POST", "/api-keys", 201, json=body)


async def test_a_key_does_what_its_scopes_say(app: FastAPI, operator: Api, queue: Conveyor) -> None:
    key = await made(operator, "tasks:enqueue")
    assert re.fullmatch(r"cv_live_[a-z2-9]{8}_[\w-]{43}", key["key"])
    program = Api(app, key["key"])
    task = await program.call("POST", "/tasks", 201, json=GREET)
    info = await queue.handle(task["id"]).info()
    assert info.headers["created_by"] == f"operator@example.com (key {key['api_key']['prefix']})"
    problem = await program.call("GET", "/system/info", 403)
    assert "this key" in problem["detail"]
    (listed,) = (await operator.call("GET", "/api-keys"))["items"]
    assert listed["last_used_at"] is not None
    assert listed["prefix"] == key["key"][:16]


async def test_a_key_is_shown_once_and_kept_as_its_digest(
    operator: Api, admin: Api, console: Console
) -> None:
    key = (await made(operator, "tasks:read"))["key"]
    for path in ("/api-keys", "/audit"):
        listed = await admin.call("GET", path, params={"limit": 200})
        assert key not in str(listed)
        assert key[17:] not in str(listed)
    async with console.database.reading() as db:
        connection = await db.connection()
        for table in ("console_api_key", "console_audit", "console_idempotency"):
            rows = (await connection.exec_driver_sql(f"SELECT * FROM {table}")).all()
            assert key[17:] not in str(rows)
            assert table != "console_api_key" or digest_of(key) in str(rows)


async def test_a_key_is_never_more_than_its_owner(operator: Api, subtests: pytest.Subtests) -> None:
    for scopes, words in [
        (["users:manage"], "the role operator does not have users:manage"),
        (["tasks:read", "audit:read"], "audit:read"),
        (["self"], "never a scope"),
        (["everything"], "/scopes/0"),
        ([], "/scopes"),
    ]:
        with subtests.test(scopes=scopes, words=words):
            body = {"name": "a program", "scopes": scopes}
            problem = await operator.call("POST", "/api-keys", 422, json=body)
            assert words in problem["detail"]


async def test_nothing_else_is_taken(operator: Api, subtests: pytest.Subtests) -> None:
    cases: list[dict[str, Any]] = [
        {"user_id": "0192f0c1-0000-7000-8000-000000000000"},
        {"key": "cv_live_aaaaaaaa_x"},
        {"digest": "0" * 64},
        {"days": 0},
        {"name": "a\nb"},
    ]
    for more in cases:
        with subtests.test(more=more):
            body = {"name": "a program", "scopes": ["tasks:read"], **more}
            await operator.call("POST", "/api-keys", 422, json=body)


async def test_a_key_makes_no_keys_and_changes_no_accounts(app: FastAPI, admin: Api) -> None:
    every = [p for p in (await admin.call("GET", "/auth/me"))["permissions"] if p != "self"]
    program = Api(app, (await made(admin, *every))["key"])
    await program.call("GET", "/users")
    body = {"name": "another", "scopes": ["tasks:read"]}
    await program.call("POST", "/api-keys", 403, json=body)
    await program.call("GET", "/api-keys", 403)
    await program.call("GET", "/auth/me", 403)
    await program.call("POST", "/auth/password", 403, json={"current": "x", "new": "y"})


async def test_a_role_taken_away_is_taken_from_its_keys(
    app: FastAPI, admin: Api, operator: Api, users: dict[Role, str]
) -> None:
    program = Api(app, (await made(operator, "tasks:enqueue"))["key"])
    await program.call("POST", "/tasks", 201, json=GREET)
    path, any_version = f"/users/{users[Role.OPERATOR]}", {"If-Match": "*"}
    await admin.call("PATCH", path, json={"role": "viewer"}, headers=any_version)
    await program.call("POST", "/tasks", 403, json=GREET)
    await admin.call("PATCH", path, json={"role": "operator"}, headers=any_version)
    await program.call("POST", "/tasks", 201, json=GREET)
    await admin.call("PATCH", path, json={"disabled": True}, headers=any_version)
    await program.call("POST", "/tasks", 401, json=GREET)
    await admin.call("DELETE", path, 204)
    await program.call("POST", "/tasks", 401, json=GREET)


async def test_a_key_ends(app: FastAPI, operator: Api, clock: TestClock) -> None:
    short, for_ever = await made(operator, "tasks:enqueue", days=1), None
    for_ever = await made(operator, "tasks:enqueue", days=None)
    assert for_ever["api_key"]["expires_at"] is None
    await Api(app, short["key"]).call("POST", "/tasks", 201, json=GREET)
    clock.advance(86_400)
    problem = await Api(app, short["key"]).call("POST", "/tasks", 401, json=GREET)
    assert "expired" in problem["detail"]
    await Api(app, for_ever["key"]).call("POST", "/tasks", 201, json=GREET)


async def test_a_revoked_key_is_refused_at_once(app: FastAPI, operator: Api) -> None:
    key = await made(operator, "tasks:enqueue")
    program = Api(app, key["key"])
    await program.call("POST", "/tasks", 201, json=GREET)
    path = f"/api-keys/{key['api_key']['id']}"
    await operator.call("DELETE", path, 204)
    await program.call("POST", "/tasks", 401, json=GREET)
    await operator.call("DELETE", path, 204)


async def test_keys_of_others_are_out_of_reach(
    operator: Api, viewer: Api, admin: Api, users: dict[Role, str]
) -> None:
    key = (await made(operator, "tasks:read"))["api_key"]
    problem = await viewer.call("DELETE", f"/api-keys/{key['id']}", 404)
    unknown = await viewer.call("DELETE", f"/api-keys/{users[Role.VIEWER]}", 404)
    assert problem["detail"] == unknown["detail"]
    assert (await viewer.call("GET", "/api-keys"))["items"] == []
    for owner in (users[Role.OPERATOR], "all"):
        await viewer.call("GET", "/api-keys", 403, params={"owner": owner})
        seen = (await admin.call("GET", "/api-keys", params={"owner": owner}))["items"]
        assert [one["id"] for one in seen] == [key["id"]]
    assert (await admin.call("GET", "/api-keys"))["items"] == []
    await admin.call("DELETE", f"/api-keys/{key['id']}", 204)


async def test_a_key_that_is_nearly_right_is_nothing(
    app: FastAPI, operator: Api, subtests: pytest.Subtests
) -> None:
    for change in ["prefix", "last", "case", "none"]:
        with subtests.test(change=change):
            key: str = (await made(operator, "tasks:enqueue"))["key"]
            wrong = {
                "prefix": key[:16],
                "last": key[:-1] + ("A" if key[-1] != "A" else "B"),
                "case": key.swapcase(),
                "none": "cv_live_aaaaaaaa_",
            }[change]
            await Api(app, wrong).call("POST", "/tasks", 401, json=GREET)


async def test_keys_are_counted(operator: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conveyor_console.api_keys.router.MOST", 2)
    first = await made(operator, "tasks:read")
    await made(operator, "tasks:read")
    body = {"name": "a third", "scopes": ["tasks:read"]}
    await operator.call("POST", "/api-keys", 409, json=body)
    await operator.call("DELETE", f"/api-keys/{first['api_key']['id']}", 204)
    await made(operator, "tasks:read")
