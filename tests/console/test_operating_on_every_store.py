"""The operating nouns over every kind of store, with what nobody would type."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI

from conveyor import Conveyor
from conveyor.brokers.url import connect
from conveyor_console.app import create_app
from conveyor_console.auth.models import Role
from conveyor_console.auth.passwords import Passwords
from conveyor_console.console import Console
from conveyor_console.db import schema
from conveyor_console.settings import Settings
from tests.console.conftest import QUICK, SECRET, Api, TestClock

DEEP: list[Any] = []
for _ in range(200):
    DEEP = [DEEP]
NAUGHTY: list[Any] = [
    "\0",
    "\ud800",
    "a\nb",
    "🦆" * 50,
    "%00%0a",
    "../..",
    "'; DROP TABLE x;--",
    "<script>",
    "${x}{{x}}",
    "𝒳\u202e\ufeff",
    " ",
    2**70,
    -(2**70),
    1e308,
    True,
    None,
    DEEP,
    {"$input": "x"},
]
BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/queues/default/pause", {"reason": "x"}),
    ("POST", "/schedules", {"name": "x", "task": "shop.greet", "args": ["x"], "every": 60}),
    (
        "POST",
        "/schedules",
        {"name": "y", "task": "shop.greet", "kwargs": {"name": "x"}, "every": 9},
    ),
    ("POST", "/schedules", {"name": "z", "task": "x", "cron": "x", "tz": "x", "queue": "x"}),
    ("POST", "/schedules/preview", {"cron": "x", "tz": "x"}),
    ("POST", "/schedules/preview", {"every": "x", "count": "x"}),
    ("POST", "/workflows", {"definition": "x"}),
    ("POST", "/workflows", {"definition": {"name": "x", "nodes": "x"}}),
    ("POST", "/workflows", {"definition": {"name": "x", "nodes": [{"name": "x", "task": "x"}]}}),
    (
        "POST",
        "/workflows",
        {
            "definition": {
                "name": "w",
                "nodes": [{"name": "a", "task": "shop.greet", "args": [{"$input": "who"}]}],
            },
            "inputs": {"who": "x"},
        },
    ),
    ("POST", "/limits/pause", {"limit": "x", "key": "x", "reason": "x"}),
    ("POST", "/limits/pause", {"limit": "x", "until": "x", "seconds": "x"}),
    ("POST", "/limits/resume", {"limit": "x", "key": "x"}),
    ("POST", "/limits/tune", {"limit": "x", "rate": "x", "most": "x"}),
    ("POST", "/strikes", {"name": "x", "queue": "x", "reason": "x"}),
    ("POST", "/strikes", {"where": ["x"]}),
    ("POST", "/strikes", {"where": ["a == x"], "until": "x"}),
    ("POST", "/system/maintenance", {"reason": "x"}),
]
PATHS = [
    "/queues/{}",
    "/workers/{}",
    "/workers/{}/pause",
    "/schedules/{}",
    "/schedules/{}/preview",
    "/schedules/{}/run",
    "/workflows/{}",
    "/workflows/{}/why?node={}",
    "/limits?limit_name={}",
    "/limits?cursor={}",
    "/queues?cursor={}",
    "/workers?cursor={}&limit={}",
    "/workflows?cursor={}",
    "/workflows?status={}",
    "/strikes?cursor={}",
    "/strikes/{}",
]

ADDRESSES = ("%00", "%ff", "%0a", "%F0%9F%A6%86", "..%2f..", "%ED%A0%80", "'", "x" * 5_000)


@pytest.fixture
async def app(broker_url: str, tmp_path: Any, clock: TestClock) -> AsyncIterator[FastAPI]:
    queue = Conveyor(broker_url)

    @queue.task(name="shop.greet")
    async def greet(name: Any) -> Any:
        return name

    broker = connect(broker_url)
    await broker.migrate()
    await broker.close()
    settings = Settings.model_validate(
        {
            "database_url": f"sqlite:///{tmp_path / 'console.db'}",
            "secret_key": SECRET,
            "allowed_hosts": ("console.test",),
        }
    )
    app = create_app(queue, settings, clock=clock, passwords=Passwords(QUICK))
    await schema.upgrade(app.state.console.database)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def console(app: FastAPI) -> Console:
    found: Console = app.state.console
    return found


def with_one(body: Any, value: Any) -> list[Any]:
    """Every copy of a body in which one `x` is another value."""
    if body == "x":
        return [value]
    if isinstance(body, dict):
        return [{**body, k: new} for k, v in body.items() for new in with_one(v, value)]
    if isinstance(body, list):
        return [
            [*body[:n], new, *body[n + 1 :]]
            for n, v in enumerate(body)
            for new in with_one(v, value)
        ]
    return []


@pytest.mark.unmeasured
async def test_no_text_breaks_a_store(admin: Api, console: Console, users: dict[Role, str]) -> None:
    await console.queue.definition("shop.greet").enqueue("Ada")
    wrong = []
    for method, path, body in BODIES:
        for value in NAUGHTY:
            for sent in with_one(body, value):
                answer = await admin.http.request(
                    method,
                    f"/api/v1{path}",
                    content=json.dumps(sent),
                    headers={"Content-Type": "application/json"},
                )
                if answer.status_code >= 500:
                    wrong.append((path, repr(sent)[:200], answer.text))
                if path == "/system/maintenance":
                    await admin.call("DELETE", path)
    assert not wrong
    for path in ("/queues", "/schedules", "/workflows", "/limits", "/strikes", "/system/doctor"):
        await admin.call("GET", path)


@pytest.mark.unmeasured
async def test_no_address_breaks_a_store(admin: Api) -> None:
    wrong = []
    for path in PATHS:
        for value in ADDRESSES:
            for method in ("GET", "POST", "DELETE", "PATCH"):
                answer = await admin.http.request(method, f"/api/v1{path.format(value, value)}")
                if answer.status_code >= 500:
                    wrong.append((method, path, value, answer.text))
    assert not wrong


async def test_depth_by_priority_and_limits_on_this_store(admin: Api, console: Console) -> None:
    greet = console.queue.definition("shop.greet")
    for priority in (9, 5, 5):
        await greet.with_options(priority=priority).enqueue("Ada")
    (found,) = (await admin.call("GET", "/queues"))["items"]
    assert found["by_priority"] == {"5": 2, "9": 1}
    await admin.call("POST", "/limits/pause", 204, json={"limit": "smtp", "seconds": 60})
    (paused,) = (await admin.call("GET", "/limits"))["items"]
    assert paused["pause"]["by"] == "admin@example.com"
    assert (await admin.call("GET", "/system/doctor"))["healthy"]
