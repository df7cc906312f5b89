"""What two that ask at the same moment get: one of them its change, the other a clear answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import event, func, select

from conveyor import Conveyor
from conveyor_console.auth.models import ApiKey, RefreshToken, Role, User
from conveyor_console.auth.principals import Principal
from conveyor_console.console import Console
from tests.console.conftest import PASSWORD, Api

pytestmark = pytest.mark.rounds

RULE: dict[str, Any] = {"name": "deep", "metric": "queue.depth", "threshold": 1}
CHANNEL: dict[str, Any] = {"name": "c", "kind": "webhook", "target": "https://example.com/"}
HOOK: dict[str, Any] = {"name": "h", "url": "https://example.com/"}


async def test_a_role_that_was_looked_up_before_it_changed_is_not_remembered(
    app: FastAPI, console: Console, admin: Api, operator: Api, users: dict[Role, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    principals = console.gate._principals
    real = principals._of_session
    looked_up, go_on = asyncio.Event(), asyncio.Event()

    async def slow(session_id: str) -> Principal:
        found = await real(session_id)
        if not looked_up.is_set():
            looked_up.set()
            await go_on.wait()
        return found

    path = f"/users/{users[Role.OPERATOR]}"
    tag = (await admin.http.get(f"/api/v1{path}")).headers["ETag"]
    principals._known.clear()
    monkeypatch.setattr(principals, "_of_session", slow)
    asked = asyncio.create_task(operator.call("GET", "/auth/me"))
    await looked_up.wait()
    body = {"role": "viewer"}
    await admin.call("PATCH", path, json=body, headers={"If-Match": tag})
    await admin.call("GET", path)
    go_on.set()
    await asked
    await operator.call("POST", "/dead-letters/requeue", 403, json={"ids": []})


async def _statuses(
    api: Api, method: str, path: str, bodies: list[dict[str, Any]], **more: Any
) -> list[int]:
    asked = (api.http.request(method, f"/api/v1{path}", json=body, **more) for body in bodies)
    return sorted(answer.status_code for answer in await asyncio.gather(*asked))


async def test_of_edits_at_the_same_moment_one_counts(admin: Api) -> None:
    hook = {**HOOK, "topics": ["task.failed"]}
    made = await admin.call("POST", "/webhooks", 201, json=hook)
    hook_path = f"/webhooks/{made['webhook']['id']}"
    paths = {hook_path: hook}
    for path, body in (("/alerts/rules", RULE), ("/alerts/channels", CHANNEL)):
        made = await admin.call("POST", path, 201, json=body)
        paths[f"{path}/{made['id']}"] = body
    headers = {"If-Match": '"1"'}
    for path, body in paths.items():
        bodies = [{**body, "name": f"n{place}"} for place in range(4)]
        found = await _statuses(admin, "PUT", path, bodies, headers=headers)
        assert found == [200, 412, 412, 412], path
    rotations = [{"overlap_seconds": 60}] * 4
    assert await _statuses(admin, "POST", f"{hook_path}/rotate", rotations) == [200] * 4


async def test_of_those_that_want_one_name_one_has_it(admin: Api) -> None:
    for path, body in (("/alerts/rules", RULE), ("/alerts/channels", CHANNEL)):
        assert await _statuses(admin, "POST", path, [body] * 4) == [201, 409, 409, 409]


async def test_passwords_that_change_at_the_same_moment(
    admin: Api, operator: Api, users: dict[Role, str]
) -> None:
    path = f"/users/{users[Role.OPERATOR]}"
    new = {"current": PASSWORD, "new": "another one of some length"}
    answers = await asyncio.gather(
        *(operator.http.post("/api/v1/auth/password", json=new) for _ in range(3)),
        *(
            admin.http.patch(
                f"/api/v1{path}", json={"name": f"n{place}"}, headers={"If-Match": "*"}
            )
            for place in range(3)
        ),
    )
    assert {answer.status_code for answer in answers[3:]} == {200}
    assert {answer.status_code for answer in answers[:3]} <= {204, 403}
    assert 204 in {answer.status_code for answer in answers[:3]}


# -- fifty at the same moment (`python -m benchmarks.races` does each two hundred times)

FIFTY = 50


async def _at_once(
    apis: list[Api], method: str, path: str, body: dict[str, Any], **more: Any
) -> Counter[int]:
    """What becomes of a request that everybody makes at the same moment."""
    asked = (api.http.request(method, f"/api/v1{path}", json=body, **more) for api in apis)
    answers = await asyncio.gather(*asked)
    assert all(answer.status_code < 500 or answer.status_code == 503 for answer in answers)
    return Counter(answer.status_code for answer in answers)


async def _count(console: Console, what: Any) -> int:
    async with console.database.reading() as db:
        return int(await db.scalar(select(func.count()).select_from(what)) or 0)


async def test_fifty_refreshes_of_one_token_make_one_successor(
    app: FastAPI, console: Console, nobody: Api, users: dict[Role, str]
) -> None:
    body = {"email": "admin@example.com", "password": PASSWORD}
    granted = await nobody.call("POST", "/auth/login", json=body)
    asked = {"refresh_token": granted["refresh_token"]}
    answers = await asyncio.gather(
        *(Api(app).call("POST", "/auth/refresh", json=asked) for _ in range(FIFTY))
    )
    assert len({one["refresh_token"] for one in answers}) == 1
    assert await _count(console, RefreshToken) == 2


async def test_fifty_under_one_idempotency_key_make_one(
    admin: Api, console: Console, queue: Conveyor
) -> None:
    once = {"Idempotency-Key": "one"}
    body = {"name": "a key", "scopes": ["tasks:read"]}
    found = await _at_once([admin] * FIFTY, "POST", "/api-keys", body, headers=once)
    assert found.keys() <= {201, 409}
    assert found[201] >= 1
    assert await _count(console, ApiKey) == 1
    task = {"name": "shop.greet", "args": ["x"]}
    found = await _at_once([admin] * FIFTY, "POST", "/tasks", task, headers=once)
    assert found == {201: FIFTY}
    assert sum((await (await queue.inspector()).counts()).values()) == 1


async def test_fifty_who_want_one_address_or_use_one_invitation(
    app: FastAPI, admin: Api, console: Console
) -> None:
    eve = {"email": "eve@example.com", "password": PASSWORD}
    found = await _at_once([admin] * FIFTY, "POST", "/users", eve)
    assert (found[201], found.keys() <= {201, 409, 503}) == (1, True), found
    zoe = {"email": "zoe@example.com"}
    token = (await admin.call("POST", "/invitations", 201, json=zoe))["token"]
    account = {**zoe, "password": PASSWORD, "invitation": token}
    all_of_them = [Api(app) for _ in range(FIFTY)]
    found = await _at_once(all_of_them, "POST", "/auth/register", account)
    assert (found[201], found.keys() <= {201, 403, 409, 429, 503}) == (1, True), found
    assert await _count(console, User) == len(Role) + 2


async def test_of_fifty_changes_of_a_role_one_counts_and_an_administrator_stays(
    app: FastAPI, admin: Api, console: Console, users: dict[Role, str]
) -> None:
    path = f"/users/{users[Role.VIEWER]}"
    tag = (await admin.http.get(f"/api/v1{path}")).headers["ETag"]
    found = await _at_once(
        [admin] * FIFTY, "PATCH", path, {"role": "admin"}, headers={"If-Match": tag}
    )
    assert found == {200: 1, 412: FIFTY - 1}
    both = [users[Role.VIEWER], users[Role.ADMIN]] * (FIFTY // 2)
    demoted, any_version = {"role": "viewer"}, {"If-Match": "*"}
    answers = await asyncio.gather(
        *(
            admin.http.patch(f"/api/v1/users/{one}", json=demoted, headers=any_version)
            for one in both
        )
    )
    assert {answer.status_code for answer in answers} <= {200, 403, 409}
    assert await _count(console, select(User).where(User.role == "admin").subquery()) == 1


@pytest.mark.parametrize("database_kind", ["postgres"])
async def test_what_locks_users_and_theirs_locks_in_one_order(
    app: FastAPI, console: Console, admin: Api, operator: Api, users: dict[Role, str]
) -> None:
    """The epoch, then users, sessions and keys: else two that wait for each other are a 503."""
    places = ("console_epoch", "console_user", "console_session", "console_refresh_token")
    taken: list[list[str]] = []

    def begun(connection: Any) -> None:
        taken.append([])
        connection.info["order"] = taken[-1]  # the parts have transactions of their own meanwhile

    def noted(connection: Any, _: Any, statement: str, *__: Any) -> None:
        words = " ".join(statement.split())
        if words.startswith(("UPDATE", "DELETE")) or "FOR UPDATE" in words:
            connection.info["order"].append(
                next((one for one in (*places, "console_api_key") if one in words), "")
            )

    engine = console.database.engine.sync_engine
    event.listen(engine, "begin", begun)
    event.listen(engine, "before_cursor_execute", noted)
    key = {"name": "k", "scopes": ["tasks:read"]}
    made = (await operator.call("POST", "/api-keys", 201, json=key))["api_key"]["id"]
    body = {"email": "operator@example.com", "password": PASSWORD}
    granted = await Api(app).call("POST", "/auth/login", json=body)
    refresh = {"refresh_token": granted["refresh_token"]}
    await Api(app).call("POST", "/auth/refresh", json=refresh)
    found = await Api(app, granted["access_token"]).call("GET", "/auth/sessions")
    ending = next(one["id"] for one in found["items"] if not one["current"])
    any_version = {"If-Match": "*"}
    taken.clear()
    await operator.call("DELETE", f"/api-keys/{made}", 204)
    new = {"current": PASSWORD, "new": "another one of some length"}
    await Api(app, granted["access_token"]).call("DELETE", f"/auth/sessions/{ending}", 204)
    granted = await Api(app).call("POST", "/auth/login", json=body)
    mine = Api(app, granted["access_token"])
    await mine.call("POST", "/auth/refresh", json={"refresh_token": granted["refresh_token"]})
    await mine.call("POST", "/auth/password", 204, json=new)
    path = f"/users/{users[Role.OPERATOR]}"
    await admin.call("PATCH", path, json={"disabled": True}, headers=any_version)
    await admin.call("DELETE", path, 204)
    body = {"email": "viewer@example.com", "password": PASSWORD}
    granted = await Api(app).call("POST", "/auth/login", json=body)
    await Api(app, granted["access_token"]).call("POST", "/auth/logout", 204)
    orders = [[one for one in order if one] for order in taken]
    assert sum(order[:1] == ["console_epoch"] for order in orders) == 6
    for order in orders:
        assert "console_epoch" not in order[1:] or order[0] == "console_epoch", order
        tokens = [place for place in order if place in places[2:]]
        assert tokens == sorted(tokens, key=places.index), order
