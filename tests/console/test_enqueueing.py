"""Tasks by HTTP: what is stored, what is refused, and that nothing is half done."""

from __future__ import annotations

from typing import Any

import pytest

from conveyor import Conveyor
from conveyor_console.console import Console
from conveyor_console.settings import Settings
from tests.console.conftest import Api

GREET: dict[str, Any] = {"name": "shop.greet", "args": ["Ada"], "kwargs": {"loud": True}}


async def test_a_task_is_there_when_this_answers(operator: Api, queue: Conveyor) -> None:
    body = {**GREET, "queue": "mail", "priority": "high", "delay": 60}
    answer = await operator.call("POST", "/tasks", 201, json=body)
    info = await queue.handle(answer["id"]).info()
    assert (info.name, info.args, info.kwargs) == ("shop.greet", ("Ada",), {"loud": True})
    assert (info.queue, info.priority, info.state.value) == ("mail", 7, "scheduled")
    assert info.headers["created_by"] == "operator@example.com"


async def test_a_key_has_one_task(operator: Api) -> None:
    first = await operator.call("POST", "/tasks", 201, json={**GREET, "key": "ada"})
    second = await operator.call("POST", "/tasks", 201, json={**GREET, "key": "ada"})
    assert second == {"id": first["id"], "created": False}
    problem = await operator.call(
        "POST", "/tasks", 409, json={**GREET, "args": ["Eve"], "key": "ada"}
    )
    assert first["id"] in problem["detail"]


async def test_bad_input_gets_a_sentence_and_nothing_is_stored(
    operator: Api, queue: Conveyor, subtests: pytest.Subtests
) -> None:
    for body, words in [
        ({**GREET, "name": "shop.great"}, "did you mean shop.greet"),
        ({**GREET, "args": [7]}, "Expected `str`, got `int`"),
        ({**GREET, "args": []}, "name"),
        ({**GREET, "kwargs": {"lout": True}}, "lout"),
        ({**GREET, "priority": 10}, "/priority"),
        ({**GREET, "priority": "urgent"}, "/priority"),
        ({**GREET, "delay": -1}, "/delay"),
        ({**GREET, "queue": "no spaces"}, "no spaces"),
        ({**GREET, "delay": 1, "at": "2027-01-01T00:00:00Z"}, "delay"),
        ({**GREET, "state": "succeeded"}, "/state"),
        ({"args": []}, "/name"),
        ([], "body"),
    ]:
        with subtests.test(body=body, words=words):
            problem = await operator.call("POST", "/tasks", 422, json=body)
            assert words in problem["detail"]
            assert not any((await (await queue.inspector()).counts()).values())


async def test_a_body_that_is_no_json_is_the_callers_mistake(
    operator: Api, subtests: pytest.Subtests
) -> None:
    for text in ["{", "", "\x00", '{"name": NaN}', "[" * 100_000, '{"name": "\\ud800"}']:
        with subtests.test(text=text):
            answer = await operator.http.post(
                "/api/v1/tasks", content=text, headers={"Content-Type": "application/json"}
            )
            assert 400 <= answer.status_code < 500, answer.text
            assert answer.headers["content-type"] == "application/problem+json"


async def test_many_are_stored_in_order_or_not_at_all(operator: Api, queue: Conveyor) -> None:
    many = [{**GREET, "args": [str(number)]} for number in range(1_500)]
    answer = await operator.call("POST", "/tasks/bulk", 201, json={"tasks": many})
    assert len(answer["items"]) == 1_500
    last = await queue.handle(answer["items"][-1]["id"]).info()
    assert last.args == ("1499",)
    wrong = [*many, {**GREET, "args": [7]}]
    await operator.call("POST", "/tasks/bulk", 422, json={"tasks": wrong})
    assert sum((await (await queue.inspector()).counts()).values()) == 1_500


async def test_a_viewer_looks_only(viewer: Api, nobody: Api) -> None:
    await viewer.call("POST", "/tasks", 403, json=GREET)
    await nobody.call("POST", "/tasks", 401, json=GREET)


async def test_a_body_has_a_limit(operator: Api, settings: Settings) -> None:
    text = "x" * settings.max_body
    problem = await operator.call("POST", "/tasks", 413, json={**GREET, "args": [text]})
    assert "1,048,576 bytes" in problem["detail"]

    async def drops() -> Any:
        for _ in range(20):
            yield b"x" * (settings.max_body // 10)

    answer = await operator.http.post("/api/v1/tasks", content=drops())
    assert answer.status_code == 413


async def test_a_payload_has_a_limit(operator: Api) -> None:
    problem = await operator.call("POST", "/tasks", 413, json={**GREET, "args": ["x" * 300_000]})
    assert "KiB" in problem["detail"] or "bytes" in problem["detail"]


async def test_other_hosts_and_paths_are_refused(
    nobody: Api, console: Console, operator: Api
) -> None:
    answer = await nobody.http.get("/livez", headers={"Host": "evil.example"})
    assert answer.status_code == 421
    problem = await operator.call("GET", "/nothing", 404)
    assert problem["instance"] == "/api/v1/nothing"
    await operator.call("DELETE", "/tasks", 405)


async def test_answers_make_browsers_careful(nobody: Api) -> None:
    answer = await nobody.http.get("/api/v1/auth/me")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "unsafe-inline" not in answer.headers["content-security-policy"].split("style-src")[0]
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


async def test_probes_answer_without_a_sign_in(nobody: Api) -> None:
    assert (await nobody.http.get("/livez")).json() == {"status": "alive"}
    assert (await nobody.http.get("/readyz")).json() == {"status": "ready"}
    await nobody.call("GET", "/system/info", 401)
    assert (await nobody.http.get("/api/openapi.json")).status_code == 401
