"""Metrics: who may read them, and what they say; and what happens when too much is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from conveyor import Conveyor
from conveyor.inspect import Event
from conveyor_console.console import Console
from conveyor_console.kit.overload import MOST_SLOW, Delays, InFlight
from conveyor_console.metrics.measuring import OTHER, Measurements
from tests.console.conftest import Api, TestClock

GREET: dict[str, Any] = {"name": "shop.greet", "args": ["Ada"]}


async def _scraped(api: Api) -> dict[str, float]:
    answer = await api.http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_metrics_say_how_the_queue_stands(
    viewer: Api, operator: Api, console: Console, clock: TestClock
) -> None:
    await operator.call("POST", "/tasks/bulk", 201, json={"tasks": [GREET] * 3})
    found = await _scraped(viewer)
    assert found["conveyor_queue_tasks[('queue', 'default'), ('state', 'queued')]"] == 3
    assert found["conveyor_workers[]"] == 0
    assert found["conveyor_event_streams[]"] == 0
    assert found["conveyor_alerts_open[]"] == 0
    assert "conveyor_queue_oldest_wait_seconds[('queue', 'default')]" in found
    bulk = "[('method', 'POST'), ('route', '/tasks/bulk'), ('status', '2xx')]"
    assert found[f"conveyor_http_request_duration_seconds_count{bulk}"] == 1


async def test_metrics_need_a_permission_unless_opened_on_this_machine(
    nobody: Api, console: Console
) -> None:
    assert (await nobody.http.get("/metrics")).status_code == 401
    console.settings = console.settings.model_copy(update={"metrics_open": True})
    assert (await nobody.http.get("/metrics")).status_code == 200
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    assert (await nobody.http.get("/metrics", headers=forwarded)).status_code == 401


async def test_paths_and_methods_make_no_series_of_their_own(viewer: Api, console: Console) -> None:
    for number in range(5):
        await viewer.http.request(f"M{number}", f"/api/v1/nothing/{number}")
        await viewer.http.get(f"/api/v1/alerts/0190a{number}")
    series = console.part(Measurements)._children
    assert len([key for key in series if key[1] == "unmatched"]) == 1
    assert len([key for key in series if "alert" in key[1]]) == 1


async def test_queues_without_end_are_one_series(console: Console) -> None:
    measurements = console.part(Measurements)
    measurements._count(
        [Event("1", 0, "x", f"q{number}", "succeeded", 1) for number in range(300)]
        + [Event("1", 0, "x", "q0", "queued", 1), Event("1", 0, "x", "q0", "running", 1)]
    )
    assert measurements.queue("q299") == OTHER
    value = measurements.registry.get_sample_value
    name = "conveyor_executions_total"
    assert value(name, {"queue": OTHER, "outcome": "succeeded"}) == 100
    assert value(name, {"queue": "q0", "outcome": "returned"}) == 1


async def test_what_is_too_much_is_refused_at_once(app: FastAPI, queue: Conveyor) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        await leave.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    limiter = InFlight(slow, most=2, exempt={"/livez"})
    answers: list[int] = []

    async def ask(path: str) -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answers.append(message["status"])
                if message["status"] == 503:
                    assert dict(message["headers"])[b"retry-after"] == b"1"

        await limiter({"type": "http", "path": path}, None, send)  # type: ignore[arg-type]

    inside = [asyncio.create_task(ask("/x")) for _ in range(2)]
    await entered.wait()
    await ask("/x")
    assert answers == [503]
    probe = asyncio.create_task(ask("/livez"))
    leave.set()
    await asyncio.gather(*inside, probe)
    await ask("/x")
    assert answers == [503, 200, 200, 200, 200]
    assert (limiter.now, limiter.refused) == (0, 1)


async def test_fewer_are_let_in_while_requests_wait() -> None:
    now, takes = 0.0, 0.02

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal now
        now += takes

    limiter = InFlight(app, most=100, clock=lambda: now)

    async def serve(times: int) -> float:
        for _ in range(times):
            await limiter({"type": "http", "path": "/"}, None, None)  # type: ignore[arg-type]
        return limiter.limit

    assert await serve(8) == 100
    takes = 1.0
    assert await serve(8) == 90
    assert await serve(8 * 100) == 8
    takes = 0.02
    assert await serve(8 * 10) == 18
    assert await serve(8 * 200) == 100


async def test_what_is_slow_by_nature_does_not_count_as_waiting() -> None:
    delays = Delays()
    assert [delays.of("report", 2.0) for _ in range(3)] == [0, 0, 0]
    assert delays.of("task", 0.01) == 0
    assert delays.of("task", 0.5) == pytest.approx(0.49)
    assert delays.of("report", 1.5) == 0
    assert delays.of("report", 2.0) == pytest.approx(0.5)


async def test_sign_ins_and_tasks_do_not_keep_each_other_out() -> None:
    leave = asyncio.Event()
    answers: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await leave.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask(path: str) -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answers.append(message["status"])

        await limiter({"type": "http", "path": path}, None, send)  # type: ignore[arg-type]

    limiter = InFlight(app, most=1, slow={"/login"})
    async with asyncio.TaskGroup() as group:
        for _ in range(MOST_SLOW + 2):
            group.create_task(ask("/login"))
        for _ in range(3):
            group.create_task(ask("/tasks"))
        await asyncio.sleep(0)
        leave.set()
    assert sorted(answers) == [200] * (MOST_SLOW + 1) + [503] * 4


async def test_who_sends_a_body_slowly_blocks_nobody() -> None:
    asked, body = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def receive() -> Any:
        asked.set()
        await body.wait()
        return {"type": "http.request"}

    limiter = InFlight(app, most=1)
    slow = asyncio.create_task(limiter({"type": "http", "path": "/"}, receive, None))  # type: ignore[arg-type]
    await asked.wait()
    assert limiter.now == 0
    body.set()
    await slow
    assert limiter.now == 0


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_probes_answer_without_an_account(nobody: Api, path: str) -> None:
    assert (await nobody.http.get(path)).status_code == 200
