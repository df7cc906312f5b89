"""What two that ask at the same moment get: one of them its change, the other a clear answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI

from conveyor_console.auth.models import Role
from conveyor_console.auth.principals import Principal
from conveyor_console.console import Console
from tests.console.conftest import PASSWORD, Api

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
    assert answers[0].status_code == 204 or answers[1].status_code == 204
