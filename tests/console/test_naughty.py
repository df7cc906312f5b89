"""Every text comes back as it was sent, or is refused with a sentence: on every kind of store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI

from conveyor import Conveyor, Retry
from conveyor.brokers.url import connect
from conveyor_console.app import create_app
from conveyor_console.auth.models import Role
from conveyor_console.auth.passwords import Passwords
from conveyor_console.console import Console
from conveyor_console.history.queries import whole
from conveyor_console.settings import Settings
from conveyor_console.tasks.showing import whole_of_history
from tests.console.conftest import PASSWORD, QUICK, SECRET, Api, TestClock, signed_in
from tests.console.naughty import CONTROLS, HALF, SPACES, WHOLE, lines_of
from tests.running import at_work
from tests.worker.harness import soon

Taker = Callable[[Api, str], Awaitable[Any]]
ANY = {"If-Match": "*"}


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def broker_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database_kind(broker_kind: str) -> str:
    """Redis is no database: beside it the console has PostgreSQL."""
    return "sqlite" if broker_kind == "sqlite" else "postgres"


@pytest.fixture
async def queue(request: pytest.FixtureRequest, broker_kind: str) -> Conveyor:
    url = str(request.getfixturevalue(f"{broker_kind}_url"))
    broker = connect(url)
    await broker.migrate()
    await broker.close()
    queue = Conveyor(url)

    @queue.task(name="shop.take")
    async def take(*args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    @queue.task(name="shop.fail", retry=Retry(max_attempts=1))
    async def fail(why: str) -> None:
        raise ValueError(why)

    return queue


@pytest.fixture
async def app(queue: Conveyor, migrated_url: str, clock: TestClock) -> AsyncIterator[FastAPI]:
    settings = Settings.model_validate({"database_url": migrated_url, "secret_key": SECRET})
    app = create_app(queue, settings, clock=clock, passwords=Passwords(QUICK))
    async with app.router.lifespan_context(app):
        yield app


class Escaping(Api):
    """A caller that writes half characters as JSON can, which httpx cannot."""

    async def call(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        if "json" in more:
            more["content"] = json.dumps(more.pop("json"))
            more["headers"] = {"Content-Type": "application/json", **more.get("headers", {})}
        return await super().call(method, path, status, **more)


@pytest.fixture
async def admin(app: FastAPI, users: dict[Role, str]) -> Api:
    api = Escaping(app)
    api.http = (await signed_in(app, Role.ADMIN)).http
    return api


# -- one field of one noun each: send a text, return what is read afterwards


async def user_name(api: Api, text: str) -> Any:
    me = (await api.call("GET", "/auth/me"))["user"]["id"]
    await api.call("PATCH", f"/users/{me}", json={"name": text}, headers=ANY)
    return (await api.call("GET", f"/users/{me}"))["name"]


async def key_name(api: Api, text: str) -> Any:
    body = {"name": text, "scopes": ["tasks:read"]}
    made = (await api.call("POST", "/api-keys", 201, json=body))["api_key"]
    (found,) = [k for k in (await api.call("GET", "/api-keys"))["items"] if k["id"] == made["id"]]
    await api.call("DELETE", f"/api-keys/{made['id']}", 204)
    return found["name"]


async def queue_reason(api: Api, text: str) -> Any:
    await api.call("POST", "/queues/default/pause", json={"reason": text})
    return (await api.call("GET", "/queues/default"))["pause"]["reason"]


async def maintenance_reason(api: Api, text: str) -> Any:
    await api.call("POST", "/system/maintenance", json={"reason": text})
    found = (await api.call("GET", "/system/maintenance"))["reason"]
    await api.call("DELETE", "/system/maintenance")
    return found


async def schedule_name(api: Api, text: str) -> Any:
    made = await api.call(
        "POST", "/schedules", 201, json={"name": text, "task": "shop.take", "every": 60}
    )
    path = f"/schedules/{quote(made['name'], safe='')}"
    found = (await api.call("GET", path))["name"]
    await api.call("DELETE", path, 204, headers=ANY)
    return found


async def schedule_reason(api: Api, text: str) -> Any:
    await api.call("POST", "/schedules/nightly/pause", json={"reason": text})
    return (await api.call("GET", "/schedules/nightly"))["pause"]["reason"]


async def limit_reason(api: Api, text: str) -> Any:
    await api.call("POST", "/limits/pause", 204, json={"limit": "shop", "reason": text})
    (found,) = (await api.call("GET", "/limits", params={"limit_name": "shop"}))["items"]
    await api.call("POST", "/limits/resume", 204, json={"limit": "shop"})
    return found["pause"]["reason"]


async def limit_key(api: Api, text: str) -> Any:
    one = {"limit": "shop", "key": text}
    await api.call("POST", "/limits/pause", 204, json=one)
    (found,) = (await api.call("GET", "/limits", params={"limit_name": "shop"}))["items"]
    await api.call("POST", "/limits/resume", 204, json=one)
    return found["key"]


async def strike_reason(api: Api, text: str) -> Any:
    made = await api.call("POST", "/strikes", 201, json={"name": "no.such", "reason": text})
    (found,) = (await api.call("GET", "/strikes"))["items"]
    await api.call("DELETE", f"/strikes/{made['id']}")
    return found["reason"]


async def rule_name(api: Api, text: str) -> Any:
    body = {"name": text, "metric": "queue.depth", "threshold": 1}
    made = await api.call("POST", "/alerts/rules", 201, json=body)
    path = f"/alerts/rules/{made['id']}"
    found = (await api.call("GET", path))["name"]
    await api.call("DELETE", path, 204)
    return found


async def channel_name(api: Api, text: str) -> Any:
    body = {"name": text, "kind": "webhook", "target": "https://example.com/x"}
    made = await api.call("POST", "/alerts/channels", 201, json=body)
    (found,) = (await api.call("GET", "/alerts/channels"))["items"]
    await api.call("DELETE", f"/alerts/channels/{made['id']}", 204)
    return found["name"]


async def webhook_name(api: Api, text: str) -> Any:
    body = {"name": text, "url": "https://example.com/x", "topics": ["task.failed"]}
    made = (await api.call("POST", "/webhooks", 201, json=body))["webhook"]
    found = (await api.call("GET", f"/webhooks/{made['id']}"))["name"]
    await api.call("DELETE", f"/webhooks/{made['id']}", 204)
    return found


async def workflow_reason(api: Api, text: str) -> Any:
    run = await started(api)
    await api.call("POST", f"/workflows/{run}/cancel", json={"reason": text})
    return (await api.call("GET", f"/workflows/{run}"))["reason"]


FIELDS: list[tuple[Taker, int]] = [
    (user_name, 200),
    (key_name, 200),
    (queue_reason, 500),
    (maintenance_reason, 500),
    (schedule_name, 200),
    (schedule_reason, 500),
    (limit_reason, 500),
    (limit_key, 256),
    (strike_reason, 500),
    (rule_name, 100),
    (channel_name, 100),
    (webhook_name, 100),
    (workflow_reason, 500),
]
"""With the longest text that each takes."""
TYPED = (schedule_name, limit_key)
"""What people type again to name a thing: printable text."""


async def started(api: Api, **inputs: Any) -> str:
    node = {"name": "a", "task": "shop.take", "args": [{"$input": "x"}]}
    definition = {"name": "w", "nodes": [node, {"name": "b", "wait_for": "go"}]}
    body = {"definition": definition, "inputs": {"x": 1, **inputs}}
    return str((await api.call("POST", "/workflows", 201, json=body))["id"])


async def test_lines_come_back_unchanged_and_what_is_no_line_is_refused(
    admin: Api, queue: Conveyor
) -> None:
    await admin.call("POST", "/tasks", 201, json={"name": "shop.take", "delay": 3600})
    nightly = {"name": "nightly", "task": "shop.take", "every": 3600}
    await admin.call("POST", "/schedules", 201, json=nightly)
    for take, most in FIELDS:
        for text in [*lines_of(most), SPACES[-1], SPACES[2]]:
            said = printable(text) if take in TYPED else text
            if said:
                assert await take(admin, said) == said, (take, text)
        for text in ("a\0b", "a\r\nSet-Cookie: x=1", HALF[1]):
            with pytest.raises(AssertionError, match=r'"status":422'):
                await take(admin, text)


def printable(text: str) -> str:
    """What a name that people type may hold."""
    return "".join(char for char in text if char.isprintable()).strip()


async def test_arguments_results_and_errors_come_back_unchanged(
    admin: Api, viewer: Api, queue: Conveyor, console: Console
) -> None:
    kwargs = {text: text for text in WHOLE}
    made = await admin.call(
        "POST", "/tasks", 201, json={"name": "shop.take", "args": WHOLE, "kwargs": kwargs}
    )
    failed = await admin.call(
        "POST", "/tasks", 201, json={"name": "shop.fail", "args": ["".join(WHOLE)]}
    )
    run = await started(admin, x=WHOLE)
    async with at_work(queue):

        async def over() -> bool:
            found = [await viewer.call("GET", f"/tasks/{one['id']}") for one in (made, failed)]
            nodes = (await viewer.call("GET", f"/workflows/{run}"))["nodes"]
            return all(one["state"] in {"succeeded", "failed"} for one in [*found, nodes[0]])

        await soon(over)
        signal = {"name": "go", "value": {"said": WHOLE}}
        await admin.call("POST", f"/workflows/{run}/signals", 204, json=signal)

        async def ended() -> bool:
            return str((await viewer.call("GET", f"/workflows/{run}"))["status"]) == "succeeded"

        await soon(ended)
    node = (await viewer.call("GET", f"/workflows/{run}"))["nodes"][0]
    task = await viewer.call("GET", f"/tasks/{made['id']}")
    assert (task["args"], task["kwargs"], task["result"]) == (WHOLE, kwargs, [WHOLE, kwargs])
    task = await viewer.call("GET", f"/tasks/{failed['id']}")
    assert task["error"]["message"] == "".join(WHOLE)
    task = await viewer.call("GET", f"/tasks/{node['task_id']}")
    assert task["args"] == [WHOLE]
    told = await soon(lambda: remembered(console, made["id"]))
    assert json.loads(told.result) == [WHOLE, kwargs]
    assert whole_of_history(told).kwargs == kwargs
    assert whole_of_history(told).args == WHOLE
    for half in HALF:
        for body in (
            {"name": "shop.take", "args": [half]},
            {"name": "shop.take", "kwargs": {half: 1}},
            {"name": "shop.take", "kwargs": {"a": {"b": [half]}}},
        ):
            await refused(admin, "/tasks", body)
        await refused(admin, f"/workflows/{run}/signals", {"name": "go", "value": half}, 409)


async def remembered(console: Console, task_id: str) -> Any:
    """What the history knows of a task, if anything yet."""
    async with console.database.reading() as db:
        return await whole(db, task_id)


async def refused(api: Api, path: str, body: Any, *statuses: int) -> None:
    answer = await sent(api, path, body)
    assert answer.status_code in {422, *statuses}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_keys_of_tasks_and_reasons_come_back_unchanged(
    admin: Api, viewer: Api, queue: Conveyor
) -> None:
    for text in [*lines_of(256), *SPACES, *CONTROLS, *HALF]:
        body = {"name": "shop.take", "delay": 3600, "key": text}
        answer = await sent(admin, "/tasks", body)
        if answer.status_code == 422:
            assert text in {*CONTROLS, *HALF, *SPACES}, (text, answer.text)
            continue
        task = f"/tasks/{answer.json()['id']}"
        assert (await viewer.call("GET", task))["key"] == text
        again = await sent(admin, "/tasks", body)
        assert again.json() == {**answer.json(), "created": False}
    for text in [*lines_of(500), *SPACES, *CONTROLS, *HALF]:
        made = await admin.call("POST", "/tasks", 201, json={"name": "shop.take", "delay": 3600})
        answer = await sent(admin, f"/tasks/{made['id']}/cancel", {"reason": text})
        if answer.status_code == 422:
            assert text in {*CONTROLS, *HALF}, (text, answer.text)
            continue
        found = (await viewer.call("GET", f"/tasks/{made['id']}"))["reason"]
        assert found.endswith(text), (found, text)


async def sent(api: Api, path: str, body: Any) -> Any:
    return await api.http.post(
        f"/api/v1{path}",
        content=json.dumps(body),
        headers={"Content-Type": "application/json"},
    )


async def test_credentials_of_any_text_work_or_are_refused(
    admin: Api, nobody: Api, users: dict[Role, str]
) -> None:
    """A password is bytes to be matched: of any text that JSON can say."""
    for number, text in enumerate([*CONTROLS, *WHOLE[::20]]):
        body = {"email": f"u{number}@example.com", "password": PASSWORD + text}
        answer = await sent(admin, "/users", body)
        assert answer.status_code == 201, answer.text
        await nobody.call("POST", "/auth/login", json=body)
        nobody.http.cookies.clear()
    for text in HALF:
        await refused(admin, "/users", {"email": "h@example.com", "password": PASSWORD + text})
        await refused(nobody, "/auth/login", {"email": "h@example.com", "password": text})
    for text in [*HALF, *CONTROLS]:
        answer = await sent(nobody, "/auth/login", {"email": f"a{text}b", "password": PASSWORD})
        assert answer.status_code in {401, 422, 429}, (text, answer.text)
