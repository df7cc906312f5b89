"""Bodies that nobody means well: bombs, trickles, numbers and names that no reader expects."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Message

from conveyor import Conveyor
from conveyor_console.kit.problems import MOST_ERRORS
from conveyor_console.kit.requests import BodyLimit
from tests.console.conftest import Api

_BODY = (1 << 20) - 1_000
"""Bytes: what is just not too large."""
LIST = b'{"name":"shop.greet","args":['
BOMBS: dict[str, bytes] = {
    "gzip": gzip.compress(b"[" + b"0," * 20_000_000 + b"0]"),
    "lists in lists": b"[" * (_BODY // 2) + b"]" * (_BODY // 2),
    "lists in lists in a task": LIST + b"[" * 5_000 + b"]" * 5_000 + b"]}",
    "objects in objects": b'{"a":' * (_BODY // 6) + b"1" + b"}" * (_BODY // 6),
    "never closed": b"[" * _BODY,
    "a number of a million digits": LIST + b"9" * (_BODY - 50) + b"]}",
    "a number of 4,000 digits": LIST + b"9" * 4_000 + b"]}",
    "a number that is infinite": b'{"name":"shop.greet","args":["x"],"delay":1e400}',
    "half a million items": LIST + b"0," * (_BODY // 2 - 50) + b"0]}",
    "eighty thousand unknown fields": json.dumps(
        dict.fromkeys(map(str, range(80_000)), 0)
    ).encode(),
    "unknown fields in each of many": json.dumps(
        {"tasks": [dict.fromkeys(map(str, range(60)), 0)] * 1_000}
    ).encode(),
    "many that are none": json.dumps({"tasks": [0] * 300_000}).encode(),
    "no text": b'{"name":"shop.greet","args":["\xff"]}',
    "two bodies": b'{"name":"shop.greet"}{"name":"shop.greet"}',
    "half": b'{"name":"shop.gre',
    "nothing": b"",
}


@pytest.fixture
def database_kind() -> str:
    """None of this reaches the database."""
    return "sqlite"


async def test_bombs_are_refused_in_a_few_words_and_little_memory(
    operator: Api, nobody: Api, queue: Conveyor
) -> None:
    for name, body in BOMBS.items():
        headers = {"Content-Type": "application/json"}
        if name == "gzip":
            headers["Content-Encoding"] = "gzip"
            tracemalloc.start()
        for api, path in ((nobody, "/auth/login"), (operator, "/tasks"), (operator, "/tasks/bulk")):
            answer = await api.http.post(f"/api/v1{path}", content=body, headers=headers)
            assert answer.status_code in {400, 413, 422}, (name, path, answer.text[:300])
            assert len(answer.content) < 64_000, (name, path)
            assert len(answer.json().get("errors", ())) <= MOST_ERRORS
        if name == "gzip":
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
            tracemalloc.stop()
    assert sum((await (await queue.inspector()).counts()).values()) == 0


async def test_what_comes_in_pieces_is_counted(nobody: Api) -> None:
    """Without a length, or with one that is not true, what comes is what counts."""
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b" " * 65_536

    for headers in ({}, {"Content-Length": "10"}, {"Content-Length": "-1"}):
        sent = 0
        said = {"Content-Type": "application/json", **headers}
        answer = await nobody.http.post("/api/v1/auth/login", content=pieces(), headers=said)
        assert answer.status_code == 413, answer.text
        assert sent <= (1 << 20) + 2 * 65_536


async def test_of_two_fields_with_one_name_the_last_counts(operator: Api, queue: Conveyor) -> None:
    """There is one reader, so nobody can show one of them to a check and the other to the queue."""
    body = b'{"name":"no.such","name":"shop.greet","args":["a"],"args":["b"]}'
    headers = {"Content-Type": "application/json"}
    answer = await operator.http.post("/api/v1/tasks", content=body, headers=headers)
    assert answer.status_code == 201
    info = await queue.handle(answer.json()["id"]).info()
    assert (info.name, info.args) == ("shop.greet", ("b",))


async def test_a_body_that_trickles_in_is_not_waited_for(app: FastAPI) -> None:
    """Whoever keeps a request open takes the place of another."""
    patient = BodyLimit(app, of=lambda _: 1 << 20, patience=0.05)
    pieces = [b'{"email"', b': "a']
    said: list[Message] = []

    async def receive() -> Message:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        said.append(message)

    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": "/api/v1/auth/login", "query_string": b"",
        "raw_path": b"/api/v1/auth/login", "root_path": "", "scheme": "http", "app": app,
        "client": ("127.0.0.1", 1), "server": ("console.test", 80), "http_version": "1.1",
        "headers": [(b"host", b"console.test"), (b"content-type", b"application/json")],
    }  # fmt: skip
    await patient(scope, receive, send)
    assert said[0]["status"] == 408
    assert dict(said[0]["headers"])[b"connection"] == b"close"


async def test_a_number_is_no_moment(admin: Api) -> None:
    """Whether it counts seconds or milliseconds is anybody's guess, written as a text too."""
    for text in ("0.5", "1764201600", " -3 ", "1e9", "20261127"):
        await admin.call("GET", "/audit", 422, params={"until": text})
        await admin.call("GET", "/analytics/throughput", 422, params={"from": text})
        body: dict[str, Any] = {"name": "shop.greet", "args": ["x"], "at": text}
        await admin.call("POST", "/tasks", 422, json=body)
    await admin.call("GET", "/audit", params={"until": "2026-11-27T12:00:00Z"})


async def test_of_which_fields_one_is_given_is_written_down(app: FastAPI) -> None:
    models = app.openapi()["components"]["schemas"]
    ways = {
        name: sorted(next(iter(way["required"])) for way in model["oneOf"])
        for name, model in models.items()
        if "properties" in model and "oneOf" in model
    }
    assert ways == {
        "Chosen": ["ids", "q"],
        "NewSchedule": ["cron", "every"],
        "Preview": ["cron", "every"],
        "Reschedule": ["at", "delay"],
    }
