"""The audit log: everything is in it, nothing secret is, and nobody changes it unseen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from starlette.types import Message, Receive, Scope, Send

from conveyor_console.audit import recording, seal
from conveyor_console.audit.recording import UNAUDITED, Recorded, Refusals
from conveyor_console.audit.trail import printable, without_secrets
from conveyor_console.auth.models import Role
from conveyor_console.console import Console
from conveyor_console.kit.pages import cursor_at
from tests.console.conftest import PASSWORD, Api, TestClock

pytestmark = pytest.mark.rounds

VERA = {"email": "viewer@example.com", "password": PASSWORD}


async def entries(admin: Api, **params: Any) -> list[dict[str, Any]]:
    page = await admin.call("GET", "/audit", params={"limit": 200, **params})
    found: list[dict[str, Any]] = page["items"]
    return found


async def sealed(console: Console) -> None:
    """Wait until the running sealer has sealed everything."""
    async with asyncio.timeout(10):
        while True:
            async with console.database.reading() as db:
                query = text("SELECT count(*) FROM console_audit WHERE seq IS NULL")
                if not (await db.execute(query)).scalar():
                    return
            console.sealer.wake()
            await asyncio.sleep(0)


async def test_a_change_is_recorded_with_who_and_what(
    admin: Api, users: dict[Role, str], clock: TestClock
) -> None:
    target = users[Role.VIEWER]
    await admin.call(
        "PATCH",
        f"/users/{target}",
        json={"role": "operator", "name": "Vera"},
        headers={"If-Match": "*", "X-Request-ID": "req-7"},
    )
    (entry,) = await entries(admin, action="users.change")
    assert entry["actor"] == "admin@example.com"
    assert entry["user_id"] == users[Role.ADMIN]
    assert entry["target"] == f"user:{target}"
    assert entry["before"] == {"role": "viewer", "name": ""}
    assert entry["after"] == {"role": "operator", "name": "Vera"}
    assert (entry["outcome"], entry["ip"], entry["request_id"]) == ("done", "127.0.0.1", "req-7")
    assert entry["at"] == clock.now().isoformat().replace("+00:00", "Z")
    for same in ({"request_id": "req-7"}, {"target": f"user:{target}", "action": "users.*"}):
        assert [one["id"] for one in await entries(admin, **same)] == [entry["id"]]


async def test_a_change_that_failed_is_not_recorded(admin: Api, users: dict[Role, str]) -> None:
    body = {"role": "viewer"}
    path, headers = f"/users/{users[Role.ADMIN]}", {"If-Match": "*"}
    await admin.call("PATCH", path, 409, json=body, headers=headers)
    assert await entries(admin, action="users.change") == []


async def test_what_is_refused_is_recorded(viewer: Api, nobody: Api, admin: Api) -> None:
    await viewer.call("GET", "/users", 403)
    await nobody.call("POST", "/tasks", 401, json={"name": "shop.greet"})
    await nobody.call("POST", "/auth/login", 401, json={**VERA, "password": "a guess"})
    login, task, users = await entries(admin, outcome="refused")
    assert (users["action"], users["status"], users["actor"]) == (
        "users.list_users",
        403,
        "viewer@example.com",
    )
    assert "users:manage" in users["detail"]
    assert (task["action"], task["status"], task["actor"]) == ("tasks.enqueue", 401, "")
    assert login["action"] == "auth.login"
    assert login["target"].startswith("user:")
    assert "a guess" not in str(login)


async def test_sign_ins_and_what_ends_them_are_recorded(
    nobody: Api, admin: Api, users: dict[Role, str], clock: TestClock
) -> None:
    granted = await nobody.call("POST", "/auth/login", json=VERA)
    nobody.http.cookies.clear()
    old = {"refresh_token": granted["refresh_token"]}
    await nobody.call("POST", "/auth/refresh", json=old)
    nobody.http.cookies.clear()
    clock.advance(60)
    await nobody.call("POST", "/auth/refresh", 401, json=old)
    found = [
        (one["action"], one["outcome"])
        for one in await entries(admin, action="auth.*")
        if users[Role.VIEWER] in (one["user_id"] or one["target"])
    ]
    assert found == [("auth.reuse", "done"), ("auth.login", "done")]


async def test_an_enqueue_is_recorded_on_the_task_alone(operator: Api, admin: Api) -> None:
    task = {"name": "shop.greet", "args": ["x"]}
    await operator.call("POST", "/tasks", 201, json=task)
    await operator.call("POST", "/tasks/bulk", 201, json={"tasks": [task] * 3})
    (entry,) = await entries(admin, action="tasks.*")
    assert (entry["action"], entry["detail"]) == ("tasks.enqueue_many", "3 tasks")


async def test_every_route_that_changes_something_leaves_a_row(
    app: FastAPI, console: Console, admin: Api
) -> None:
    """Whatever its handler notes or forgets: the layer around the app writes the row."""
    routes = [
        route
        for route in iter_route_contexts(app.routes)
        if isinstance(route.original_route, APIRoute)
        and not (route.methods or set()) <= recording.SAFE
    ]
    listed = {(m, r.original_route.path) for r in routes for m in r.methods or ()}  # type: ignore[attr-defined]
    assert UNAUDITED.keys() <= listed
    assert len(UNAUDITED) < 10
    assert all(UNAUDITED.values())
    for number, route in enumerate(routes):
        method = next(iter(route.methods or ()))
        await _answered_by_a_handler_that_notes_nothing(console, route, method, f"r{number}")
        found = await entries(admin, request_id=f"r{number}")
        exempt = (method, route.original_route.path) in UNAUDITED  # type: ignore[attr-defined]
        assert len(found) == (0 if exempt else 1), (method, route.path)


async def _answered_by_a_handler_that_notes_nothing(
    console: Console, route: Any, method: str, request_id: str
) -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = route.original_route
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def unused(*_: Message) -> Any:
        return None

    scope = {
        "type": "http",
        "method": method,
        "path": route.path,
        "headers": [(b"x-request-id", request_id.encode()), (b"host", b"console.test")],
        "query_string": b"",
        "client": ("127.0.0.1", 1),
    }
    await Recorded(handler, auditor=console.auditor)(scope, unused, unused)


async def test_routes_note_what_they_did_in_their_transaction(
    app: FastAPI, admin: Api, operator: Api, users: dict[Role, str]
) -> None:
    """By real requests, one of each."""
    key = await admin.call("POST", "/api-keys", 201, json={"name": "k", "scopes": ["tasks:read"]})
    await admin.call("DELETE", f"/api-keys/{key['api_key']['id']}", 204)
    eve = {"email": "eve@example.com", "password": PASSWORD}
    user = await admin.call("POST", "/users", 201, json=eve)
    await admin.call("DELETE", f"/users/{user['id']}", 204)
    invited = await admin.call("POST", "/invitations", 201, json={"email": "a@example.com"})
    await admin.call("DELETE", f"/invitations/{invited['invitation']['id']}", 204)
    (session,) = (await operator.call("GET", "/auth/sessions"))["items"]
    change = {"current": PASSWORD, "new": "another one of some length"}
    await operator.call("POST", "/auth/password", 204, json=change)
    await operator.call("DELETE", f"/auth/sessions/{session['id']}", 204)
    await admin.call("POST", "/auth/logout", 204)
    again = await Api(app).call(
        "POST", "/auth/login", json={"email": "admin@example.com", "password": PASSWORD}
    )
    found = [one["action"] for one in await entries(Api(app, again["access_token"]))]
    assert found[::-1][2:] == [
        "api-keys.create",
        "api-keys.revoke",
        "users.create",
        "users.delete",
        "invitations.create",
        "invitations.revoke",
        "auth.change_password",
        "auth.end_session",
        "auth.logout",
        "auth.login",
    ]


async def test_the_list_is_filtered_and_comes_in_pages(
    admin: Api, users: dict[Role, str], clock: TestClock
) -> None:
    for number in range(5):
        body = {"email": f"a{number}@example.com"}
        await admin.call("POST", "/invitations", 201, json=body)
        clock.advance(10)
    seen, cursor = [], None
    while True:
        params = {
            "limit": 2,
            "action": "invitations.create",
            **({"cursor": cursor} if cursor else {}),
        }
        page = await admin.call("GET", "/audit", params=params)
        seen += [one["after"]["email"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"a{number}@example.com" for number in (4, 3, 2, 1, 0)]
    since = page["items"][0]["at"]
    assert len(await entries(admin, since=since, action="invitations.*")) == 5
    assert len(await entries(admin, until=since, action="invitations.*")) == 0
    await admin.call("GET", "/audit", 422, params={"since": "yesterday"})
    await admin.call("GET", "/audit", 422, params={"action": "a\0"})


async def test_entries_are_chained_at_once(admin: Api, console: Console) -> None:
    await sealed(console)
    found = await admin.call("GET", "/audit/verify")
    assert (found["intact"], found["unsealed"], found["next_after"]) == (True, 0, None)
    assert found["checked"] == found["last_seq"] >= 1
    newest = (await entries(admin))[0]
    assert (newest["seq"], newest["hash"]) == (found["last_seq"], found["last_hash"])
    part = await admin.call("GET", "/audit/verify", params={"limit": 1})
    assert part["checked"] == part["next_after"] == 1


async def test_the_database_refuses_changes_of_the_log(admin: Api, console: Console) -> None:
    await sealed(console)
    for statement in (
        "UPDATE console_audit SET actor = 'somebody else'",
        "UPDATE console_audit SET seq = seq + 1000",
        "UPDATE console_audit SET hash = 'x'",
        "DELETE FROM console_audit",
    ):
        with pytest.raises(DBAPIError, match="append-only"):
            async with console.database.writing() as db:
                await db.execute(text(statement))


async def _without_triggers(console: Console, statement: str) -> None:
    """Tamper as somebody could who owns the database."""
    async with console.database.writing() as db:
        for name in ("written", "sealed", "kept"):
            on = "" if console.database.is_sqlite else " ON console_audit"
            await db.execute(text(f"DROP TRIGGER IF EXISTS console_audit_{name}{on}"))
        await db.execute(text(statement))


@pytest.mark.parametrize(
    ("statement", "place", "why"),
    [
        ("UPDATE console_audit SET actor = 'eve' WHERE seq = 2", 2, "changed"),
        ("UPDATE console_audit SET after = '{}' WHERE seq = 3", 3, "changed"),
        ("UPDATE console_audit SET at = '2026-11-27 11:00:00+00:00' WHERE seq = 2", 2, "changed"),
        ("UPDATE console_audit SET hash = 'x' WHERE seq = 3", 3, "changed"),
        ("DELETE FROM console_audit WHERE seq = 2", 2, "taken out"),
        ("DELETE FROM console_audit WHERE seq = 1", 1, "taken out"),
    ],
)
async def test_tampering_is_found(
    admin: Api, console: Console, statement: str, place: int, why: str
) -> None:
    for number in range(4):
        await admin.call("POST", "/invitations", 201, json={"email": f"a{number}@example.com"})
    await sealed(console)
    assert (await admin.call("GET", "/audit/verify"))["intact"]
    await _without_triggers(console, statement)
    found = await admin.call("GET", "/audit/verify")
    assert (found["intact"], found["broken_at"]) == (False, place)
    assert why in found["why"]


async def test_an_anchor_shows_that_the_end_was_cut_off(admin: Api, console: Console) -> None:
    await admin.call("POST", "/invitations", 201, json={"email": "a@example.com"})
    await sealed(console)
    found = await admin.call("GET", "/audit/verify")
    anchor = f"{found['last_seq']}:{found['last_hash']}"
    assert (await admin.call("GET", "/audit/verify", params={"anchor": anchor}))["intact"]
    await _without_triggers(console, f"DELETE FROM console_audit WHERE seq = {found['last_seq']}")
    assert (await admin.call("GET", "/audit/verify"))["intact"]
    cut = await admin.call("GET", "/audit/verify", params={"anchor": anchor})
    assert (cut["intact"], cut["broken_at"]) == (False, found["last_seq"])
    behind = {"after": found["last_seq"]}
    assert not (await admin.call("GET", "/audit/verify", params=behind))["intact"]


async def test_two_sealers_make_one_chain(admin: Api, console: Console) -> None:
    others = [seal.Sealer(console.database, console.clock, console.new_id()) for _ in range(3)]

    async def work(sealer: seal.Sealer) -> None:
        for _ in range(10):
            await sealer.once()

    async def write() -> None:
        for number in range(10):
            await admin.call("POST", "/invitations", 201, json={"email": f"a{number}@example.com"})

    await asyncio.gather(write(), *(work(sealer) for sealer in others))
    await sealed(console) if not await _held_by_another(console) else await others[0].once()
    found = await admin.call("GET", "/audit/verify")
    assert found["intact"]


async def _held_by_another(console: Console) -> bool:
    return await console.sealer.once() == 0


async def test_secrets_are_blanked_by_name() -> None:
    value = {
        "name": "x",
        "smtp": {"host": "h"},
        "list": [{"api_token": "t", "Password": "p"}],
        "client_secret": "s",
        "authorization": "a",
    }
    assert without_secrets(value) == {
        "name": "x",
        "smtp": "•••",
        "list": [{"api_token": "•••", "Password": "•••"}],
        "client_secret": "•••",
        "authorization": "•••",
    }


def test_what_is_written_is_one_printable_line() -> None:
    assert printable("a\r\nb\x1b[31m\0\ud800\u2028", 100) == (
        "a\\r\\nb\\x1b[31m\\x00\\ud800\\u2028"
    )
    assert printable("x" * 400, 300) == "x" * 300
    assert len(printable("\n" * 300, 300)) == 300


def test_a_flood_of_refusals_is_counted_and_not_written(clock: TestClock) -> None:
    refusals = Refusals(clock)
    counted = [refusals.count("203.0.113.7") for _ in range(100)]
    assert counted.count(0) == Refusals.PER_NETWORK
    assert counted.count(None) == 40
    assert refusals.count("203.0.113.8") == 0
    clock.advance(60)
    assert refusals.count("203.0.113.7") == 40
    assert refusals.count("203.0.113.7") == 0


async def test_a_log_that_cannot_be_written_changes_no_answer(
    viewer: Api, console: Console, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError("the disk is full")

    monkeypatch.setattr(recording, "entry", broken)
    await viewer.call("GET", "/users", 403)
    assert "could not be written to the audit log" in caplog.text


async def test_the_ends_of_the_calendar_are_moments(admin: Api) -> None:
    first, last = "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"
    found = await admin.call("GET", "/audit", params={"since": first, "until": last})
    assert found["items"]
    assert not (await admin.call("GET", "/audit", params={"since": last}))["items"]
    for at in (first, last):
        await admin.call("GET", "/invitations", 422, params={"cursor": cursor_at([at, "x"])})
