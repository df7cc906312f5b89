"""`Idempotency-Key`: one effect, one answer, whatever is repeated and whenever something dies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import select, update

from conveyor import Conveyor
from conveyor.strikes import strikes
from conveyor.workflows import runs
from conveyor_console.auth.models import Role
from conveyor_console.console import Console
from conveyor_console.creating import Creating
from conveyor_console.db.idempotency import IdempotencyRow
from tests.console.conftest import PASSWORD, Api, TestClock

GREET: dict[str, Any] = {"name": "shop.greet", "args": ["Ada"]}
EVE = {"email": "eve@example.com", "password": PASSWORD}
KEY = {"Idempotency-Key": "2b0e7c1a"}
BY_OTHER_MEANS = {
    "/api/v1/tasks": "the header is the task's own key",
    "/api/v1/tasks/bulk": "the header is the tasks' own key",
    "/api/v1/auth/register": "nobody is signed in yet, and an address has one account",
}


async def test_every_route_that_creates_knows_the_header(app: FastAPI) -> None:
    creating = {
        str(route.path): route.original_route
        for route in iter_route_contexts(app.routes)
        if isinstance(route.original_route, APIRoute)
        and route.original_route.status_code == 201
        and route.methods == {"POST"}
    }
    assert creating.keys() >= BY_OTHER_MEANS.keys()
    without = [path for path, route in creating.items() if not isinstance(route, Creating)]
    assert sorted(without) == sorted(BY_OTHER_MEANS)


async def test_a_task_is_enqueued_once(operator: Api, queue: Conveyor) -> None:
    first = await operator.call("POST", "/tasks", 201, json=GREET, headers=KEY)
    second = await operator.call("POST", "/tasks", 201, json=GREET, headers=KEY)
    assert (first["created"], second["created"]) == (True, False)
    assert first["id"] == second["id"]
    other = {**GREET, "args": ["Eve"]}
    await operator.call("POST", "/tasks", 409, json=other, headers=KEY)
    for change in ({"queue": "mail"}, {"name": "shop.fail"}):
        await operator.call("POST", "/tasks", 409, json={**GREET, **change}, headers=KEY)
    assert sum((await (await queue.inspector()).counts()).values()) == 1


async def test_tasks_of_others_do_not_answer(operator: Api, admin: Api) -> None:
    mine = await operator.call("POST", "/tasks", 201, json=GREET, headers=KEY)
    theirs = await admin.call("POST", "/tasks", 201, json=GREET, headers=KEY)
    assert mine["id"] != theirs["id"]


async def test_many_tasks_are_enqueued_once(operator: Api, queue: Conveyor) -> None:
    body = {"tasks": [{**GREET, "args": [str(number)]} for number in range(20)]}
    first = await operator.call("POST", "/tasks/bulk", 201, json=body, headers=KEY)
    second = await operator.call("POST", "/tasks/bulk", 201, json=body, headers=KEY)
    assert [one["id"] for one in first["items"]] == [one["id"] for one in second["items"]]
    other = {"tasks": [{**one, "queue": "mail"} for one in body["tasks"]]}
    await operator.call("POST", "/tasks/bulk", 409, json=other, headers=KEY)
    assert sum((await (await queue.inspector()).counts()).values()) == 20


async def test_two_keys_for_one_task_are_refused(operator: Api) -> None:
    await operator.call("POST", "/tasks", 422, json={**GREET, "key": "a"}, headers=KEY)


async def test_a_header_that_is_no_key_is_refused(
    operator: Api, admin: Api, subtests: pytest.Subtests
) -> None:
    for key in ["", "x" * 256, "ä", "a\tb"]:
        with subtests.test(key=key):
            headers = {"Idempotency-Key": key.encode("latin-1")}
            for api, path, body in ((operator, "/tasks", GREET), (admin, "/users", EVE)):
                answer = await api.http.post(f"/api/v1{path}", json=body, headers=headers)  # type: ignore[arg-type]
                assert answer.status_code == 422, answer.text


async def test_a_repeat_gets_the_same_answer(admin: Api) -> None:
    path = "/api/v1/users"
    first = await admin.http.post(path, json=EVE, headers=KEY)
    second = await admin.http.post(path, json=EVE, headers=KEY)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert first.headers["etag"] == second.headers["etag"]
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    problem = await admin.call(
        "POST", "/users", 409, json={**EVE, "email": "zoe@example.com"}, headers=KEY
    )
    assert "another request" in problem["detail"]
    # Without the header the request is a new one.
    await admin.call("POST", "/users", 409, json=EVE)
    made = await admin.call("GET", "/audit", params={"action": "users.create"})
    assert len(made["items"]) == 1


async def test_a_secret_that_is_shown_once_is_shown_again_but_not_stored(
    operator: Api, console: Console
) -> None:
    body = {"name": "a program", "scopes": ["tasks:read"]}
    first = await operator.call("POST", "/api-keys", 201, json=body, headers=KEY)
    second = await operator.call("POST", "/api-keys", 201, json=body, headers=KEY)
    assert first["key"] == second["key"]
    async with console.database.reading() as db:
        (row,) = (await db.scalars(select(IdempotencyRow))).all()
    assert row.answer is not None
    assert first["key"].encode() not in row.answer


async def test_a_repeat_by_who_no_longer_may_is_refused(
    admin: Api, app: FastAPI, users: dict[Role, str]
) -> None:
    body = {"email": "a@b.org", "role": "admin"}
    root = {"email": "root@example.com", "password": PASSWORD, "role": "admin"}
    await admin.call("POST", "/users", 201, json=root)
    await admin.call("POST", "/invitations", 201, json=body, headers=KEY)
    granted = await Api(app).call("POST", "/auth/login", json={**EVE, "email": root["email"]})
    path, change = f"/users/{users[Role.ADMIN]}", {"role": "viewer"}
    await Api(app, granted["access_token"]).call(
        "PATCH", path, json=change, headers={"If-Match": "*"}
    )
    refused = await admin.call("POST", "/invitations", 403, json=body, headers=KEY)
    assert refused["permission"] == "users:manage"
    logged = await Api(app, granted["access_token"]).call(
        "GET", "/audit", params={"outcome": "refused"}
    )
    assert [one["user_id"] for one in logged["items"]] == [users[Role.ADMIN]]


async def test_keys_are_of_who_sends_them_and_for_one_route(admin: Api, operator: Api) -> None:
    body = {"name": "a program", "scopes": ["tasks:read"]}
    mine = await operator.call("POST", "/api-keys", 201, json=body, headers=KEY)
    theirs = await admin.call("POST", "/api-keys", 201, json=body, headers=KEY)
    assert mine["key"] != theirs["key"]
    await admin.call("POST", "/users", 201, json=EVE, headers=KEY)


async def test_what_failed_may_be_tried_again(admin: Api) -> None:
    await admin.call("POST", "/users", 422, json={**EVE, "password": "short"}, headers=KEY)
    await admin.call("POST", "/invitations", 409, json={"email": "viewer@example.com"}, headers=KEY)
    await admin.call("POST", "/users", 201, json=EVE, headers=KEY)
    await admin.call("POST", "/invitations", 201, json={"email": "a@example.com"}, headers=KEY)


async def test_ten_at_once_have_one_effect(admin: Api) -> None:
    body = {"name": "a program", "scopes": ["tasks:read"]}
    answers = await asyncio.gather(
        *(admin.http.post("/api/v1/api-keys", json=body, headers=KEY) for _ in range(10))
    )
    good = {answer.json()["key"] for answer in answers if answer.status_code == 201}
    assert len(good) == 1
    for answer in answers:
        assert answer.status_code in {201, 409}
        assert answer.status_code == 201 or answer.headers["retry-after"] == "1"
    assert len((await admin.call("GET", "/api-keys"))["items"]) == 1


async def test_a_process_that_died_does_not_hold_a_key_for_ever(
    admin: Api, console: Console, clock: TestClock
) -> None:
    await admin.call("POST", "/users", 201, json=EVE, headers=KEY)
    # As if it had died before it answered, and before it changed anything.
    async with console.database.writing() as db:
        await db.execute(update(IdempotencyRow).values(status=None, answer=None))
    await admin.call("POST", "/users", 409, json=EVE, headers=KEY)
    path = (await admin.call("GET", "/users", params={"q": "eve"}))["items"][0]["id"]
    await admin.call("DELETE", f"/users/{path}", 204)
    clock.advance(61)
    await admin.call("POST", "/users", 201, json=EVE, headers=KEY)


async def test_a_change_whose_answer_cannot_be_kept_is_not_made(
    admin: Api, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are one transaction: a crash between them is no state that there is."""

    async def crash(*_: object) -> bool:
        raise OSError("the machine is gone")

    body = {"name": "a program", "scopes": ["tasks:read"]}
    with monkeypatch.context() as patched:
        patched.setattr("conveyor_console.creating.answered", crash)
        answer = await admin.http.post("/api/v1/api-keys", json=body, headers=KEY)
        assert answer.status_code == 500
    assert (await admin.call("GET", "/api-keys"))["items"] == []
    await admin.call("POST", "/api-keys", 201, json=body, headers=KEY)


async def test_a_key_is_forgotten_after_a_day(
    admin: Api, clock: TestClock, users: dict[Role, str], app: FastAPI
) -> None:
    body = {"name": "a program", "scopes": ["users:manage"]}
    program = Api(app, (await admin.call("POST", "/api-keys", 201, json=body))["key"])
    first = await program.call("POST", "/invitations", 201, json={"email": "a@b.org"}, headers=KEY)
    clock.advance(86_400)
    second = await program.call("POST", "/invitations", 201, json={"email": "a@b.org"}, headers=KEY)
    assert first["token"] != second["token"]


async def test_an_effect_in_the_queue_whose_answer_was_lost_is_one_effect(
    operator: Api, queue: Conveyor, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    await console.rest()
    greet = queue.definitions["shop.greet"]
    waiting, dead = await greet.enqueue("now"), await greet.with_options(delay=60).enqueue("late")
    await dead.cancel("no need")
    await queue.schedules.create("hourly", greet.bind("Ada"), every=3_600)
    node = {"name": "hello", "task": "shop.greet", "args": ["Ada"]}
    requests = (
        (f"/tasks/{dead.id}/retry-edited", {"args": ["other"]}),
        (f"/tasks/{waiting.id}/reschedule", {"delay": 60}),
        ("/schedules/hourly/run", None),
        (
            "/schedules",
            {"name": "nightly", "task": "shop.greet", "args": ["Ada"], "cron": "@daily"},
        ),
        ("/workflows", {"definition": {"name": "one", "nodes": [node]}}),
        ("/strikes", {"queue": "mail"}),
    )

    async def crash(*_: object) -> bool:
        raise OSError("the machine is gone")

    after = (0, 0, 0, 0)

    async def there() -> tuple[int, int, int, int]:
        counts = await (await queue.inspector()).counts()
        made = (await strikes(queue), await runs(queue), await queue.schedules.list())
        return sum(counts.values()), len(made[0]), len(made[1]), len(made[2])

    for path, body in requests:
        with monkeypatch.context() as patched:
            patched.setattr("conveyor_console.creating.answered", crash)
            await operator.call("POST", path, 500, json=body, headers=KEY)
        after = await there()
        first = await operator.call("POST", path, 201, json=body, headers=KEY)
        assert await operator.call("POST", path, 201, json=body, headers=KEY) == first
        assert await there() == after
    assert after == (6, 1, 1, 2)


async def test_a_name_that_somebody_else_took_meanwhile_stays_taken(
    operator: Api, queue: Conveyor, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: object) -> bool:
        raise OSError("the machine is gone")

    body = {"name": "nightly", "task": "shop.greet", "args": ["Ada"], "cron": "@daily"}
    with monkeypatch.context() as patched:
        patched.setattr("conveyor_console.creating.answered", crash)
        await operator.call("POST", "/schedules", 500, json=body, headers=KEY)
    await operator.call("DELETE", "/schedules/nightly", 204)
    await operator.call("POST", "/schedules", 201, json=body)
    await operator.call("POST", "/schedules", 409, json=body, headers=KEY)
    assert len(await queue.schedules.list()) == 1


async def test_a_move_that_was_cut_off_in_the_middle_is_ended_by_its_repeat(
    operator: Api, queue: Conveyor, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    await console.rest()
    waiting = await queue.definitions["shop.greet"].enqueue("now")
    path, body = f"/tasks/{waiting.id}/reschedule", {"delay": 60}

    async def crash(*_: object, **__: object) -> None:
        raise OSError("the machine is gone")

    with monkeypatch.context() as patched:
        patched.setattr(queue, "dispatch", crash)
        await operator.call("POST", path, 500, json=body, headers=KEY)
    assert (await waiting.status()).value == "cancelled"
    await operator.call("POST", path, 409, json=body, headers={"Idempotency-Key": "another"})
    made = await operator.call("POST", path, 201, json=body, headers=KEY)
    assert (await queue.handle(made["id"]).info()).state.value == "scheduled"
