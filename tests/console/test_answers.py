"""What answers are made of: kinds that no program runs, and headers that no caller wrote."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from conveyor import Conveyor
from conveyor_console.auth.models import Role
from tests.console.authorisation import rows_of
from tests.console.conftest import Api, signed_in
from tests.console.stored_texts import FIELDS, living_worker
from tests.console.test_every_operation import filled
from tests.worker.harness import ROOT

MARK = "mark\u00e9\"';,=<b> \\mark"
"""Printable, on one line: what ends a quoted header, an attribute, a cookie."""
SIGNS = (b"mark", "mark\u00e9".encode(), b"<b>", b"mark%C3")
KINDS = {
    "application/json",
    "application/problem+json",
    "text/event-stream",
    "text/plain",
}
"""No text/html, which browsers run, and no text/csv, which spreadsheets do: a new kind needs a
look at what may stand in it."""
HEADERS = {
    "allow",
    "cache-control",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-opener-policy",
    "etag",
    "permissions-policy",
    "referrer-policy",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "www-authenticate",
    "x-content-type-options",
    "x-frame-options",
    "x-request-id",
}
"""No Content-Disposition, Location or Link yet: who adds one says here how texts in it are written,
and sends MARK through it."""


@pytest.fixture
def database_kind() -> str:
    """Headers do not depend on the database."""
    return "sqlite"


@pytest.fixture
def queue(sqlite_url: str) -> Conveyor:
    queue = Conveyor(sqlite_url)

    @queue.task(name="shop.take")
    async def take(*args: object, **kwargs: object) -> None: ...

    return queue


async def test_no_answer_is_run_by_who_opens_it(app: FastAPI) -> None:
    found = {
        kind
        for methods in app.openapi()["paths"].values()
        for operation in methods.values()
        for answer in operation["responses"].values()
        for kind in answer.get("content", ())
    }
    assert found <= KINDS, found - KINDS


async def test_no_text_of_a_caller_gets_into_a_header(
    app: FastAPI, admin: Api, queue: Conveyor
) -> None:
    seen: set[str] = set()

    async def look(answer: httpx.Response) -> None:
        assert not answer.is_redirect, answer.request.url
        for name, value in answer.headers.raw:
            assert not any(sign in value for sign in SIGNS), (answer.request.url, name, value)
            seen.add(name.decode().lower())
        kind = answer.headers.get("content-type", "").partition(";")[0]
        assert kind in KINDS or not await answer.aread(), (answer.request.url, kind)

    admin.http.event_hooks["response"] = [look]
    await admin.call("POST", "/tasks", 201, json={"name": "shop.take", "delay": 3600})
    nightly = {"name": "nightly", "task": "shop.take", "every": 3600}
    await admin.call("POST", "/schedules", 201, json=nightly)
    await living_worker(queue)
    for row in FIELDS:
        assert await row.take(admin, MARK), row.take
    await everywhere(app, admin)
    assert seen <= HEADERS, seen - HEADERS
    assert {"etag", "x-request-id"} <= seen


async def everywhere(app: FastAPI, admin: Api) -> None:
    """Say it in the place of each id, in the query, and in headers that answers repeat."""
    said = {"X-Request-ID": MARK, "Idempotency-Key": MARK, "Origin": MARK, "If-Match": MARK}
    headers = [(name.encode(), value.encode()) for name, value in said.items()]
    for row in rows_of(app):
        if row.path not in {"/api/v1/events", "/api/v1/auth/logout"}:
            path = filled(row.path, quote(MARK, safe=""))
            for query in ("", f"?q={quote(MARK)}&cursor={quote(MARK)}&sort={quote(MARK)}"):
                for body in (None, json.dumps({"name": MARK, MARK: MARK})):
                    await admin.http.request(
                        row.method, path + query, content=body,
                        headers=[*headers, (b"content-type", b"application/json")],
                    )  # fmt: skip


async def test_the_stream_says_nothing_of_its_caller_either(
    app: FastAPI, users: dict[Role, str]
) -> None:
    viewer = await signed_in(app, Role.VIEWER)
    answer = await viewer.http.get(f"/api/v1/events?topics={quote(MARK)}")
    assert answer.status_code == 422
    assert not any(sign in value for _, value in answer.headers.raw for sign in SIGNS)


SHOWN = {
    "Granted access_token", "Granted refresh_token", "Granted csrf_token", "Me csrf_token",
    "Invited token", "KeyMade key", "WebhookMade secret",
}  # fmt: skip
"""What is secret, and shown to who makes it: once, or to the one whose it is."""
SAID = {
    "AuditOut hash", "Verified last_hash", "Verified unsealed", "Granted token_type",
    "KeyMade api_key", "LimitOut key", "TaskOut key", "TaskWhole key",
}  # fmt: skip
"""What only sounds like it."""


async def test_secrets_are_shown_once(app: FastAPI) -> None:
    whole = app.openapi()
    models = whole["components"]["schemas"]
    asked = json.dumps(
        [one.get("requestBody") for methods in whole["paths"].values() for one in methods.values()]
    )
    found = {
        f"{name} {field}"
        for name, model in models.items()
        if f'/{name}"' not in asked
        for field in model.get("properties", {})
        if re.search("secret|token|passw|digest|hash|sealed|(^|_)key$", field)
    }
    assert found == SHOWN | SAID


def test_no_template_of_a_user_is_run() -> None:
    """Texts of people are values; nothing here would read one as a program."""
    for path in (ROOT / "src/conveyor_console").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) (jinja2|mako)\b", text, re.MULTILINE), path
