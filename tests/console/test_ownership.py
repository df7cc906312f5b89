"""Things of one user are not there for another, and nobody writes what is only read: generated from
the app, so that a new route with an id must say whose things it is about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI

from conveyor_console.auth.accounts import create_user
from conveyor_console.auth.models import Role
from conveyor_console.console import Console
from tests.console.authorisation import rows_of
from tests.console.conftest import PASSWORD, Api, signed_in
from tests.console.test_every_operation import filled, good, resolved

API = "/api/v1"
ANY = {"If-Match": "*"}
VIEW: dict[str, Any] = {"of": "tasks", "name": "mine", "q": "", "sort": None}


@pytest.fixture
def database_kind() -> str:
    """Whose a thing is does not depend on the database."""
    return "sqlite"


async def a_key(api: Api) -> str:
    made = await api.call("POST", "/api-keys", 201, json={"name": "k", "scopes": ["tasks:read"]})
    return str(made["api_key"]["id"])


async def a_session(api: Api) -> str:
    return str((await api.call("GET", "/auth/sessions"))["items"][0]["id"])


async def a_view(api: Api) -> str:
    return str((await api.call("POST", "/saved-views", 201, json=VIEW))["id"])


OWNED: dict[str, Callable[[Api], Awaitable[str]]] = {
    "/api-keys/{key_id}": a_key,
    "/auth/sessions/{session_id}": a_session,
    "/saved-views/{view_id}": a_view,
}
"""Things of one user, up to their id, and how one of its owner is made."""
SHARED = {
    "/alerts/channels/{channel_id}",
    "/alerts/metrics/{name}",
    "/alerts/rules/{rule_id}",
    "/alerts/{alert_id}",
    "/bulk-actions/{action_id}",
    "/dead-letters/{task_id}",
    "/invitations/{invitation_id}",
    "/queues/{name}",
    "/schedules/{name:path}",
    "/strikes/{strike_id}",
    "/system/backups/{name}",
    "/tasks/{task_id}",
    "/users/{user_id}",
    "/webhooks/{webhook_id}",
    "/workers/{worker_id}",
    "/workflows/{run_id}",
}
"""Things of the installation: whoever has the permission of the route may have each of them."""


def things(app: FastAPI) -> Iterator[tuple[str, str, str]]:
    """Each route with an id, as method, path, and its path up to the first id."""
    for row in rows_of(app):
        if "{" in row.path:
            path = row.path.removeprefix(API)
            yield row.method, path, path.partition("}")[0] + "}"


async def test_every_route_with_an_id_says_whose_things_these_are(app: FastAPI) -> None:
    assert {thing for _, _, thing in things(app)} == SHARED | OWNED.keys(), (
        "a new thing with an id: is it of one user (OWNED) or of the installation (SHARED)?"
    )


async def neighbour_of(app: FastAPI, console: Console, role: Role) -> Api:
    """Another user of the same role."""
    email = f"other.{role.value}@example.com"
    hashed = await console.passwords.hash(PASSWORD)
    async with console.database.writing() as db:
        await create_user(
            db, user_id=console.new_id(), email=email, password_hash=hashed, role=role,
            now=console.clock.now(),
        )  # fmt: skip
    body = {"email": email, "password": PASSWORD}
    return Api(app, (await Api(app).call("POST", "/auth/login", json=body))["access_token"])


async def own(api: Api) -> list[Any]:
    """All that one has, without when it was used."""
    views = (await api.call("GET", "/saved-views"))["items"]
    keys = (await api.call("GET", "/api-keys"))["items"]
    sessions = await api.call("GET", "/auth/sessions")
    return [views, keys, [one["id"] for one in sessions["items"]]]


async def test_things_of_another_user_are_not_there(
    app: FastAPI, console: Console, users: dict[Role, str]
) -> None:
    called = 0
    for role in Role:
        owner, other = await signed_in(app, role), await neighbour_of(app, console, role)
        ids = {thing: await make(owner) for thing, make in OWNED.items()}
        before = await own(owner)
        for method, path, thing in things(app):
            # Administrators see and revoke the keys of all: what leaks must end.
            if thing not in OWNED or (role is Role.ADMIN and thing.startswith("/api-keys")):
                continue
            there = path.replace(thing, filled(thing, ids[thing]))
            nowhere = path.replace(thing, filled(thing, console.new_id()))
            for body in (None, VIEW):
                answer, unknown = [
                    await other.http.request(method, f"{API}{one}", json=body, headers=ANY)
                    for one in (there, nowhere)
                ]
                called += 1
                told = answer.json()
                if answer.status_code == 422:
                    assert told["errors"][0]["in"] == "body", (method, path, told)
                    continue
                assert answer.status_code in {403, 404}, (method, path, answer.text)
                same = ("status", "title", "detail")
                assert [told[one] for one in same] == [unknown.json()[one] for one in same]
        assert await own(owner) == before
        for mine, theirs in zip(await own(other), before, strict=True):
            assert not {str(one) for one in mine} & {str(one) for one in theirs}
    assert called > 20


async def test_a_cursor_of_another_user_leads_to_ones_own_things(
    app: FastAPI, console: Console, operator: Api
) -> None:
    other = await neighbour_of(app, console, Role.OPERATOR)
    for number in range(2):
        await operator.call("POST", "/saved-views", 201, json={**VIEW, "name": f"view {number}"})
        await a_key(operator)
    await other.call("POST", "/saved-views", 201, json={**VIEW, "name": "view 9"})
    for path, most in (("/saved-views", 1), ("/api-keys", 0)):
        page = await operator.call("GET", path, params={"limit": 1})
        cursor = {"cursor": page["next_cursor"]}
        assert len((await other.call("GET", path, params=cursor))["items"]) == most
        assert len((await operator.call("GET", path, params=cursor))["items"]) == 1


# -- what is only read

HOOK = {"name": "h", "url": "https://example.com/x", "topics": ["task.failed"]}
CHANNEL = {"name": "c", "kind": "webhook", "target": "https://example.com/y"}
RULE = {"name": "r", "metric": "queue.depth", "threshold": 1}
EVERY = {"name": "nightly", "task": "shop.greet", "args": ["x"], "every": 60}
PERSON = {"email": "new@example.com", "password": PASSWORD}
CHANGED: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {
    "PUT /alerts/channels/{channel_id}": (CHANNEL, {**CHANNEL, "enabled": False}),
    "PUT /alerts/metrics/{name}": (None, {"value": 1.5}),
    "PUT /alerts/rules/{rule_id}": (RULE, {**RULE, "threshold": 2}),
    "PATCH /schedules/{name}": (EVERY, {"every": 90}),
    "PUT /saved-views/{view_id}": (VIEW, {**VIEW, "name": "changed"}),
    "PATCH /users/{user_id}": (PERSON, {"name": "changed"}),
    "PUT /webhooks/{webhook_id}": (HOOK, {**HOOK, "enabled": False}),
}
"""Every edit: what makes a thing, and a change of it."""
MOVES = {"version", "updated_at", "edited_at", "next_at", "timing"}
"""What only the server writes, at an edit; `timing` says `every` in words."""


async def test_what_is_only_read_stays_as_it_is(app: FastAPI, admin: Api) -> None:
    whole = app.openapi()
    edits = {
        f"{method.upper()} {path.removeprefix(API)}": operation
        for path, methods in whole["paths"].items()
        for method, operation in methods.items()
        if method in {"put", "patch"}
    }
    assert edits.keys() == CHANGED.keys(), "a new edit: say how a thing is made and changed"
    for edit, operation in edits.items():
        method, template = edit.split(" ")
        made, change = CHANGED[edit]
        path, before = await thing_at(admin, template, made)
        asked = properties(operation["requestBody"], whole)
        answered = properties(operation["responses"]["200"], whole)
        only_read = answered.keys() - asked.keys()
        assert only_read or edit == "PUT /alerts/metrics/{name}", edit
        for name in [*only_read, "id", "user_id", "created_at", "password_hash", "digest"]:
            if name in asked:
                continue
            value = good(answered.get(name, {"type": "string"}), whole)
            body = {**change, name: value}
            said = await admin.call(method, path, 422, json=body, headers=ANY)
            assert [one["pointer"] for one in said["errors"]] == [f"/{name}"], (edit, said)
        after = await admin.call(method, path, json=change, headers=ANY)
        if before is not None:
            moved = {one for one in only_read if after[one] != before[one]}
            assert moved <= MOVES, (edit, moved)
            wanted = {
                name: value for name, value in change.items() if value != (made or {}).get(name)
            }
            assert {name: after[name] for name in wanted} == wanted


async def thing_at(api: Api, template: str, made: dict[str, Any] | None) -> tuple[str, Any]:
    """Make a thing; its path and what its list says of it."""
    collection, _, parameter = template.rpartition("/")
    if made is None:
        return f"{collection}/shop.waiting", None
    await api.call("POST", collection, 201, json=made)
    listed = (await api.call("GET", collection, params={"limit": 200}))["items"]
    known = "email" if "email" in made else "name"
    (found,) = [one for one in listed if one[known] == made[known]]
    address = found["name"] if parameter == "{name}" else found["id"]
    return f"{collection}/{quote(address, safe='')}", found


def properties(part: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    schema = resolved(part["content"]["application/json"]["schema"], whole)
    found: dict[str, Any] = schema["properties"]
    return found
