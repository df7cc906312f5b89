"""What is written down about the API, and what requests meet before they reach a route."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from conveyor_console.auth.access import ACCESS_COOKIE
from conveyor_console.kit.requests import TrustedHosts
from tests.console.authorisation import rows_of
from tests.console.conftest import Api

PROBES = {"/livez", "/readyz", "/metrics"}


@pytest.fixture
def database_kind() -> str:
    """What is written down does not depend on the database."""
    return "sqlite"


def operations(app: FastAPI) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    }


async def test_what_every_request_may_meet_is_written_down_at_every_route(app: FastAPI) -> None:
    for (method, path), operation in operations(app).items():
        said = operation["responses"]
        assert {"400", "408", "413", "421"} <= said.keys(), (method, path)
        assert "503" in said or path == "/livez", (method, path)
        for status, answer in said.items():
            if status >= "400":
                assert list(answer["content"]) == ["application/problem+json"], (method, path)


async def test_who_must_sign_in_is_written_down(app: FastAPI) -> None:
    schema = app.openapi()
    assert schema["components"]["securitySchemes"]["cookie"]["name"] == ACCESS_COOKIE
    assert schema["security"] == [{"bearer": []}, {"cookie": []}]
    said = operations(app)
    for row in rows_of(app):
        if (operation := said.get((row.method, row.path.replace(":path", "")))) is not None:
            assert (operation.get("security") == []) is (row.permission is None), row


async def test_other_hosts_are_not_answered(app: FastAPI, subtests: pytest.Subtests) -> None:
    for hosts, status in [
        (["console.test"], 200),
        (["CONSOLE.test:8000"], 200),
        (["console.test."], 200),
        (["evil.test"], 421),
        (["evil.test:console.test"], 400),
        (["console.test@evil.test"], 400),
        (["console.test/evil"], 400),
        (["evil.console.test"], 421),
        (["console.test", "evil.test"], 400),
        ([], 400),
        ([""], 400),
        (["[::1]"], 421),
        (["console.test\xe9"], 400),
    ]:
        with subtests.test(hosts=hosts, status=status):
            request = httpx.Request("GET", "http://console.test/livez")
            rest = [(name, value) for name, value in request.headers.raw if name.lower() != b"host"]
            request.headers = httpx.Headers(
                [*rest, *((b"Host", host.encode("latin-1")) for host in hosts)]
            )
            answer = await httpx.ASGITransport(app).handle_async_request(request)
            await answer.aread()
            assert answer.status_code == status, answer.text
            if status >= 400:
                assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("host", "good"),
    [("a.example.com", True), ("b.a.example.com", True), ("example.com", False), ("[::1]", True)],
)
async def test_names_below_a_name_can_be_allowed(host: str, good: bool) -> None:
    hosts = TrustedHosts(lambda *_: None, allowed=["*.example.com", "[::1]"])  # type: ignore[arg-type]
    assert (hosts._wrong([host]) is None) is good


async def test_a_method_that_is_not_there_is_told_which_are(app: FastAPI, admin: Api) -> None:
    """`/tasks/bulk` is no task with a wrong id, and `/schedules/x/pause` no schedule."""
    for template, methods in app.openapi()["paths"].items():
        allowed = {method.upper() for method in methods}
        path = re.sub(r"\{[^}]*\}", "x", template)
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - allowed:
            answer = await admin.http.request(method, path, headers={"If-Match": "*"}, json={})
            assert answer.status_code == 405, (method, path, answer.text)
            assert set(answer.headers["allow"].split(", ")) == allowed, (method, path)


async def test_a_slash_within_a_name_is_written_as_such(admin: Api) -> None:
    """A schedule may be called like what one does to another."""
    for name in ("often/pause", "a/b/run", "preview"):
        made = {"name": name, "task": "shop.greet", "args": ["x"], "every": 60}
        await admin.call("POST", "/schedules", 201, json=made)
        path = quote(name, safe="") if "/" in name else f"%70{name[1:]}"
        assert (await admin.call("GET", f"/schedules/{path}"))["name"] == name
        await admin.call("DELETE", f"/schedules/{name}", 405)
        await admin.call("DELETE", f"/schedules/{path}", 204)


async def test_no_body_takes_what_it_does_not_name(app: FastAPI) -> None:
    """Mass assignment: a field more, as `role` or `owner_id`, is refused everywhere."""
    models = app.openapi()["components"]["schemas"]

    def check(schema: Any) -> None:
        if isinstance(schema, list):
            for one in schema:
                check(one)
        elif isinstance(schema, dict):
            if "$ref" in schema:
                model = models[schema["$ref"].rpartition("/")[2]]
                if model.get("type") == "object":
                    assert model.get("additionalProperties") is False, schema
                check(model.get("properties", {}))
            for inner in schema.values():
                check(inner)

    found = [one["requestBody"] for one in operations(app).values() if "requestBody" in one]
    assert len(found) > 30
    check(found)


async def test_every_list_has_an_end(app: FastAPI) -> None:
    """Whoever asks for a page gets 200 items at most (the walk along the audit log counts rows)."""
    for (method, path), operation in operations(app).items():
        for parameter in operation.get("parameters", ()):
            if parameter["name"] == "limit" and path != "/api/v1/audit/verify":
                assert parameter["schema"]["maximum"] <= 200, (method, path)
