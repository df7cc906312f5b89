"""Every text comes back as it was sent, or is refused with a sentence: on every kind of store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI

from conveyor import Conveyor, Retry
from conveyor.brokers.url import connect
from conveyor_console.alerts.alerting import Alerting
from conveyor_console.app import create_app
from conveyor_console.auth.models import Role
from conveyor_console.auth.passwords import Passwords
from conveyor_console.console import Console
from conveyor_console.history.queries import whole
from conveyor_console.settings import Settings
from conveyor_console.tasks.showing import whole_of_history
from tests.console.conftest import PASSWORD, QUICK, SECRET, Api, TestClock, signed_in
from tests.console.naughty import CONTROLS, HALF, SPACES, WHOLE, lines_of
from tests.console.stored_texts import ELSEWHERE, FIELDS, living_worker, named, texts_of
from tests.running import at_work
from tests.worker.harness import soon

pytestmark = pytest.mark.unmeasured


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
    settings = Settings.model_validate(
        {"database_url": migrated_url, "secret_key": SECRET, "registration": "open"}
    )
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


async def started(api: Api, **inputs: Any) -> str:
    node = {"name": "a", "task": "shop.take", "args": [{"$input": "x"}]}
    definition = {"name": "w", "nodes": [node, {"name": "b", "wait_for": "go"}]}
    body = {"definition": definition, "inputs": {"x": 1, **inputs}}
    return str((await api.call("POST", "/workflows", 201, json=body))["id"])


def test_every_text_of_every_body_has_a_row() -> None:
    """A new field fails here until it is sent and read back, or somebody says why not."""
    app = create_app(Conveyor("sqlite:///:memory:"), Settings())
    assert named() == texts_of(app.openapi())
    tests = [why for why in ELSEWHERE.values() if why.startswith("test_")]
    assert all(callable(globals()[name]) for name in tests)


@pytest.mark.slow
async def test_lines_come_back_unchanged_and_what_is_no_line_is_refused(
    admin: Api, queue: Conveyor, broker_kind: str
) -> None:
    await admin.call("POST", "/tasks", 201, json={"name": "shop.take", "delay": 3600})
    nightly = {"name": "nightly", "task": "shop.take", "every": 3600}
    await admin.call("POST", "/schedules", 201, json=nightly)
    await living_worker(queue)
    # Beside Redis the console has PostgreSQL, as beside PostgreSQL.
    for row in (one for one in FIELDS if one.in_queue or broker_kind != "redis"):
        for text in [*lines_of(row.most), SPACES[-1], SPACES[2]]:
            said = printable(text) if row.typed else text
            if said:
                found = await row.take(admin, said)
                assert found == [said] * len(found), (row.take, text)
                assert found
        for text in ("a\0b", "a\r\nSet-Cookie: x=1", HALF[1]) if row.one_line else ():
            with pytest.raises(AssertionError, match=r'"status":422'):
                assert not await row.take(admin, text), row.take


def printable(text: str) -> str:
    """What a name that people type may hold."""
    return "".join(char for char in text if char.isprintable()).strip()


@pytest.mark.rounds
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
    edited: dict[str, Any] = {"args": [], "kwargs": {"why": "".join(WHOLE)}}
    other = await admin.call("POST", f"/tasks/{failed['id']}/retry-edited", 201, json=edited)
    again = await viewer.call("GET", f"/tasks/{other['id']}")
    assert again["kwargs"] == edited["kwargs"]
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


async def test_notes_come_back_unchanged(admin: Api, console: Console) -> None:
    part = console.part(Alerting)
    texts = lines_of(500)
    rule = {"metric": "queue.depth", "threshold": -1, "for_seconds": 0}
    for number in range(len(texts)):
        await admin.call("POST", "/alerts/rules", 201, json=rule | {"name": f"r{number}"})
    await part.round()
    alerts = (await admin.call("GET", "/alerts?status=firing"))["items"]
    for alert, text in zip(alerts, texts, strict=True):
        path = f"/alerts/{alert['id']}"
        await admin.call("POST", f"{path}/acknowledge", 422, json={"note": f"{text[:9]}\0"})
        await admin.call("POST", f"{path}/acknowledge", json={"note": text})
        assert (await admin.call("GET", path))["note"] == text


ADDRESSES = {
    "Ada.Lovelace+x@Example.COM": "ada.lovelace+x@example.com",
    "!#$%&'*+-/=?^_`{|}~@example.com": "!#$%&'*+-/=?^_`{|}~@example.com",
    "用户@例え.example": "用户@例え.example",
    "e\u0301va@b\u00fccher.example": "\u00e9va@b\u00fccher.example",
    "o'brien@xn--bcher-kva.example": "o'brien@b\u00fccher.example",
}
"""By the one spelling that an account has."""


async def test_who_registers_is_called_as_they_say(admin: Api, nobody: Api) -> None:
    texts = lines_of(200)
    for number, text in enumerate(texts):
        email = {"email": f"r{number}@example.com"}
        body = {**email, "password": PASSWORD, "name": text}
        made = await nobody.call("POST", "/auth/register", 201, json=body)
        nobody.http.cookies.clear()
        assert (await admin.call("GET", f"/users/{made['user']['id']}"))["name"] == text
    for email_text, kept in ADDRESSES.items():
        made = await admin.call("POST", "/invitations", 201, json={"email": email_text})
        assert made["invitation"]["email"] == kept
        body = {"email": email_text, "password": PASSWORD}
        answer = await admin.call("POST", "/users", 201, json=body)
        assert answer["email"] == kept
        await nobody.call("POST", "/auth/login", json=body)
        nobody.http.cookies.clear()
    for text in [*HALF, *CONTROLS, *WHOLE[:40]]:
        for path in ("/auth/register", "/invitations", "/users"):
            body = {"email": f"{text}@ex ample.com"}
            if path != "/invitations":
                body["password"] = PASSWORD
            await refused(admin, path, body)


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
