"""A database server that is frozen (SIGSTOP: connections stay open, nothing answers): everything
ends in a stated time, and goes on when it thaws."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from conveyor import Conveyor
from conveyor_console.app import create_app
from conveyor_console.auth.accounts import create_user
from conveyor_console.auth.models import Role
from conveyor_console.auth.passwords import Passwords
from conveyor_console.console import Console
from conveyor_console.settings import Settings
from conveyor_console.system import router as system
from tests.console.conftest import PASSWORD, QUICK, SECRET, migrate, signed_in
from tests.console.history_kit import migrated, shop
from tests.console.streaming import Reader, reading
from tests.running import at_work, ended
from tests.servers import PostgresServer
from tests.worker.harness import soon

pytestmark = [pytest.mark.postgres, pytest.mark.rounds]
STATED = 4.0
"""Of the settings of this test; and what closing a dead connection takes."""
CLOSING = 3.0


@pytest.fixture
def frozen() -> Iterator[PostgresServer]:
    """A server of its own: it is frozen."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
async def queue(frozen: PostgresServer) -> Conveyor:
    url = frozen.create_database()
    await migrated(url)
    return shop(f"{url}?timeout=1")


@pytest.fixture
async def app(queue: Conveyor, frozen: PostgresServer) -> AsyncIterator[FastAPI]:
    url = frozen.create_database()
    migrate(url)
    settings = Settings.model_validate(
        {
            "database_url": url, "secret_key": SECRET, "database_seconds": 1,
            "request_seconds": STATED,
        }
    )  # fmt: skip
    app = create_app(queue, settings, passwords=Passwords(QUICK))
    async with app.router.lifespan_context(app):
        yield app


async def test_nothing_hangs_on_a_frozen_server_and_all_goes_on_when_it_thaws(
    app: FastAPI, frozen: PostgresServer, monkeypatch: pytest.MonkeyPatch, queue: Conveyor
) -> None:
    console: Console = app.state.console
    monkeypatch.setattr(system, "READY_SECONDS", 0.5)
    async with console.database.writing() as db:
        hashed = await console.passwords.hash(PASSWORD)
        await create_user(
            db, user_id=console.new_id(), email="admin@example.com", password_hash=hashed,
            role=Role.ADMIN, now=console.clock.now(),
        )  # fmt: skip
    admin = await signed_in(app, Role.ADMIN)
    token = admin.http.headers["Authorization"].removeprefix("Bearer ")
    async with reading(app, token, "?topics=tasks") as reader:
        await reader.until("hello")
        await _work(admin.http, queue, reader)
        frozen.pause()
        try:
            await _all_is_answered(admin.http)
        finally:
            frozen.resume()
        await _work(admin.http, queue, reader)
    await _is_recorded_and_sealed(admin.http)


async def _all_is_answered(http: httpx.AsyncClient) -> None:
    login = {"email": "admin@example.com", "password": PASSWORD}
    asked: list[tuple[str, str, Any]] = [
        ("GET", "/api/v1/users", None),
        ("GET", "/api/v1/tasks", None),
        ("GET", "/api/v1/queues", None),
        ("POST", "/api/v1/tasks", {"name": "shop.greet", "args": ["Ada"]}),
        ("POST", "/api/v1/auth/login", login),
        ("GET", "/readyz", None),
        ("GET", "/metrics", None),
    ]

    async def ask(method: str, path: str, body: Any) -> tuple[str, httpx.Response, float]:
        began = time.monotonic()
        answer = await http.request(method, path, json=body)
        return path, answer, time.monotonic() - began

    async with asyncio.timeout(3 * (STATED + CLOSING)):
        answers = asyncio.gather(*(ask(*one) for one in asked * 8))
        async with asyncio.timeout(1):
            assert (await http.get("/livez")).status_code == 200
        for path, answer, seconds in await answers:
            assert answer.status_code == 503, (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json", path
            assert int(answer.headers["Retry-After"]) > 0, path
            assert seconds < STATED + CLOSING, (path, seconds)
            if path == "/readyz":
                assert seconds < 2, seconds
                assert "does not answer" in answer.json()["detail"]


async def _work(http: httpx.AsyncClient, queue: Conveyor, reader: Reader) -> None:
    """Enqueue, run, and see it on the stream."""

    async def ready() -> bool | None:
        return (await http.get("/readyz")).status_code == 200 or None

    await soon(ready, 20)
    sent = await http.post("/api/v1/tasks", json={"name": "shop.greet", "args": ["Ada"]})
    assert sent.status_code == 201, sent.text
    async with at_work(queue):
        await ended(queue.handle(sent.json()["id"]))
    await reader.until("tasks")


async def _is_recorded_and_sealed(http: httpx.AsyncClient) -> None:
    rule = {"name": "ever", "metric": "queue.depth", "threshold": -1, "for_seconds": 0}
    assert (await http.post("/api/v1/alerts/rules", json=rule)).status_code == 201
    hook = {"name": "h", "url": "http://127.0.0.1/", "topics": ["task.failed"]}
    assert (await http.post("/api/v1/webhooks", json=hook)).status_code == 422
    hook = {"name": "h", "url": "http://localhost/", "topics": ["task.failed"]}
    made = (await http.post("/api/v1/webhooks", json=hook)).json()["webhook"]["id"]
    assert (await http.post(f"/api/v1/webhooks/{made}/ping")).status_code == 201

    async def followed() -> bool | None:
        tasks = (await http.get("/api/v1/tasks?q=state:succeeded")).json()["items"]
        alerts = (await http.get("/api/v1/alerts")).json()["items"]
        pings = (await http.get(f"/api/v1/webhooks/{made}/deliveries")).json()["items"]
        chain = (await http.get("/api/v1/audit/verify")).json()
        entries = (await http.get("/api/v1/audit")).json()["items"]
        sealed = chain["checked"] == len(entries)
        return (len(tasks) >= 2 and alerts and pings[0]["attempts"] and sealed) or None

    await soon(followed, 20)
