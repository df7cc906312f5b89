"""Every operation with values that nobody meant: what comes back is what is written down.

`make fuzz` does this at length, from outside; here each value of each operation is tried once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI

from conveyor_console.auth.models import Role
from tests.console.conftest import Api, TestClock, signed_in

ID = "01930000-0000-7000-8000-000000000000"
ODD: list[Any] = [
    None, True, -1, 2**70, 1e308, "", "x", "a\0b", "\ud800", "🦆" * 3_000, [], {"x": {}},
    "2026-02-30T00:00:00Z", ID,
]  # fmt: skip
ODD_TEXTS = [
    "",
    "%00",
    "%0A",
    "-1",
    "99999999999999999999",
    "%F0%9F%A6%86",
    "%ED%A0%80",
    "x" * 3_000,
]
ENDS_ITSELF = {"/api/v1/events", "/api/v1/auth/logout"}


@pytest.fixture
def database_kind() -> str:
    """PostgreSQL is the stricter one."""
    return "postgres"


def resolved(schema: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """A schema without its reference; of several the first that is more than null."""
    while True:
        if "$ref" in schema:
            schema = whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        elif "anyOf" in schema and "properties" not in schema:
            schema = next(one for one in schema["anyOf"] if one.get("type") != "null")
        else:
            return schema


def good(schema: dict[str, Any], whole: dict[str, Any]) -> Any:
    """A value that fits a schema, more or less."""
    schema = resolved(schema, whole)
    for name in ("default", "const"):
        if schema.get(name) is not None:
            return schema[name]
    if found := schema.get("enum") or schema.get("examples"):
        return found[0]
    kind = schema.get("type")
    if kind == "object":
        needed = schema.get("required", ())
        return {name: good(schema["properties"][name], whole) for name in needed}
    if kind == "array":
        return [good(schema.get("items", {}), whole)][: max(1, schema.get("minItems", 0))]
    if kind in {"integer", "number"}:
        return schema.get("minimum", 1)
    return {"boolean": True, "string": "x" * max(1, schema.get("minLength", 1))}.get(kind or "", 1)


def bodies(schema: dict[str, Any], whole: dict[str, Any]) -> Iterator[Any]:
    """Bodies of which one field is odd, and some that are no body at all."""
    plain = good(schema, whole)
    yield plain
    yield from ODD
    for name, field in resolved(schema, whole).get("properties", {}).items():
        several = resolved(field, whole).get("type") == "array"
        for value in ODD:
            yield {**plain, name: [value] if several and value is not None else value}
    yield {**plain, "role": "admin", "owner_id": ID, "state": "succeeded", "is_admin": True}


def requests(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any], Any]]:
    """Every operation with every odd thing: method, path, what is written down, body or None."""
    whole = app.openapi()
    for template, operations in whole["paths"].items():
        for method, operation in operations.items():
            if template in ENDS_ITSELF:
                continue
            for path in addresses(template, operation.get("parameters", ())):
                yield method, path, operation["responses"], None
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                for body in bodies(schema, whole):
                    yield method, filled(template, ID), operation["responses"], body


def filled(template: str, value: str) -> str:
    return re.sub(r"\{[^}]*\}", value, template)


def addresses(template: str, parameters: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A path with each parameter odd in turn."""
    yield filled(template, ID)
    for parameter in parameters:
        for text in ODD_TEXTS:
            if parameter["in"] == "query":
                yield f"{filled(template, ID)}?{quote(parameter['name'])}={text}"
            elif parameter["in"] == "path" and text:
                yield filled(template, text)


@pytest.mark.slow
@pytest.mark.unmeasured
async def test_every_answer_is_one_that_is_written_down(
    app: FastAPI, admin: Api, clock: TestClock
) -> None:
    wrong, count, statuses = [], 0, set()
    for method, path, said, body in requests(app):
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json", "If-Match": "*"}
        answer = await admin.http.request(method, path, content=content, headers=headers)
        count += 1
        clock.advance(60)  # nobody is slowed down
        status = str(answer.status_code)
        statuses.add(status)
        kind = answer.headers.get("content-type", "").partition(";")[0]
        documented = said.get(status, {}).get("content", {})
        if status not in said or status >= "500" or (answer.content and kind not in documented):
            wrong.append((method, path[:80], str(body)[:80], status, kind, answer.text[:200]))
        if status == "401":
            admin = await signed_in(app, Role.ADMIN)
    assert not wrong, wrong[:10]
    assert count > 2_000
    assert {"200", "201", "204", "404", "409", "422"} <= statuses
