"""Queues and workers over HTTP: what they show, and that what is asked happens."""

from __future__ import annotations

import time
from typing import Any

import pytest

from conveyor import Conveyor
from conveyor.brokers.base import Step
from conveyor.limits import Concurrency, Rate
from conveyor.workers import WorkerInfo, orders
from conveyor_console.console import Console
from conveyor_console.history.roster import Roster
from tests.console.conftest import Api, TestClock


@pytest.fixture
async def filled(queue: Conveyor, console: Console) -> Conveyor:
    """Some tasks in two queues."""

    @queue.task(
        name="crm.call",
        queue="crm",
        rate_limit=Rate("50/s", name="crm", key=lambda tenant: tenant),
        concurrency=Concurrency(3),
    )
    async def call(tenant: str) -> None: ...

    await call.enqueue("acme")
    greet = queue.definition("shop.greet")
    for priority in (9, 5, 5):
        await greet.with_options(priority=priority).enqueue("Ada")
    return queue


@pytest.fixture
async def worker(queue: Conveyor, console: Console) -> str:
    """A worker that lives, as far as the store can tell, and has leased a task."""
    broker = (await queue.client()).broker
    said = WorkerInfo(
        id="w1",
        host="alpha",
        pid=7,
        started_at=time.time(),
        concurrency=4,
        running=1,
        rss=1 << 20,
        loop_lag=0.25,
        names=("shop.greet",),
        code_version="abc",
    )
    await broker.renew(["w1"], 60.0, said)
    await queue.definition("shop.greet").enqueue("Ada")
    await broker.step(Step("w1", ["default"], 1))
    return "w1"


async def test_queues_show_what_waits(viewer: Api, filled: Conveyor) -> None:
    first = await viewer.call("GET", "/queues?limit=1")
    second = await viewer.call("GET", f"/queues?limit=1&cursor={first['next_cursor']}")
    assert [first["items"][0]["name"], second["items"][0]["name"]] == ["crm", "default"]
    assert second["next_cursor"] is None
    (default,) = second["items"]
    assert default["by_priority"] == {"5": 2, "9": 1}
    assert (default["queued"], default["running"], default["pause"]) == (3, 0, None)
    assert default["oldest_wait"] >= 0


async def test_a_queue_shows_limits_and_workers(viewer: Api, filled: Conveyor, worker: str) -> None:
    found = await viewer.call("GET", "/queues/crm")
    assert {(one["rate"], one["most"], one["keyed"]) for one in found["limits"]} == {
        ("50/s", None, True),
        (None, 3, False),
    }
    assert found["workers"] == [worker]
    assert (await viewer.call("GET", "/queues/default"))["limits"] == []


async def test_a_queue_is_paused_and_resumed(operator: Api, filled: Conveyor) -> None:
    paused = await operator.call("POST", "/queues/crm/pause", json={"reason": "a move"})
    assert (paused["pause"]["reason"], paused["pause"]["by"]) == ("a move", "operator@example.com")
    assert paused["pause"]["at"] == "2026-11-27T12:00:00Z"
    assert (await operator.call("GET", "/queues/crm"))["pause"] == paused["pause"]
    assert (await operator.call("POST", "/queues/crm/resume"))["pause"] is None
    assert (await operator.call("POST", "/queues/crm/pause"))["pause"]["reason"] == ""


async def test_who_may_not_and_what_is_not(viewer: Api, operator: Api, filled: Conveyor) -> None:
    await viewer.call("POST", "/queues/crm/pause", 403)
    problem = await operator.call("POST", "/queues/crmm/pause", 404)
    assert problem["detail"] == "no task has been in a queue 'crmm' yet; did you mean crm?"
    await operator.call("GET", "/queues/nowhere", 404)
    await operator.call("POST", "/queues/crm/pause", 422, json={"reason": "a\nb"})
    await operator.call("POST", "/queues/crm/pause", 422, json={"why": "x"})
    await operator.call("GET", "/queues?cursor=nonsense", 422)


async def test_workers_show_what_they_do(viewer: Api, worker: str) -> None:
    (found,) = (await viewer.call("GET", "/workers"))["items"]
    assert (found["id"], found["mode"], found["loop_lag"]) == (worker, "working", 0.25)
    assert found["order"] is None
    detail = await viewer.call("GET", f"/workers/{worker}")
    assert detail["names"] == ["shop.greet"]
    (task,) = detail["tasks"]
    assert (task["name"], task["execution"], task["cancelling"]) == ("shop.greet", 1, False)


async def test_workers_are_found_by_the_queues_that_they_serve(
    viewer: Api, queue: Conveyor, worker: str
) -> None:
    mail = WorkerInfo(id="w2", host="beta", pid=8, started_at=time.time(), queues=("mail",))
    await (await queue.client()).broker.renew(["w2"], 60.0, mail)
    for q, ids in (
        ("queue:mail", [worker, "w2"]),
        ("queue:sms", [worker]),  # it serves every queue
        ("-queue:mail", []),
        ("-queue:sms", ["w2"]),
        ("queue:mail task:shop.greet", [worker]),
    ):
        found = await viewer.call("GET", "/workers", params={"q": q})
        assert [one["id"] for one in found["items"]] == ids, q


async def test_workers_that_have_gone_are_known(
    viewer: Api, queue: Conveyor, console: Console, clock: TestClock, worker: str
) -> None:
    await console.rest()
    roster = Roster(queue, console.database, clock)
    await roster.look()
    broker = (await queue.client()).broker
    mail = WorkerInfo(id="w2", host="beta", pid=8, started_at=time.time(), queues=("mail",))
    await broker.renew(["w2"], 60.0, mail)
    clock.advance(6)
    await roster.look()
    await broker.renew(["w1"], 0.0)
    clock.advance(6)
    await roster.look()

    async def seen(q: str = "", **more: Any) -> Any:
        return await viewer.call("GET", "/workers/history", params={"q": q, **more})

    both = (await seen())["items"]
    assert [(one["id"], one["host"], one["queues"]) for one in both] == [
        ("w2", "beta", ["mail"]), (worker, "alpha", [])
    ]  # fmt: skip
    assert both[1]["seen_at"] == "2026-11-27T12:00:06Z"
    first = await seen(limit=1)
    rest = await seen(cursor=first["next_cursor"])
    assert first["items"] + rest["items"] == both
    for q, ids in (("host:al*", [worker]), ("beta", ["w2"]), ("seen>2099-01-01", [])):
        assert [one["id"] for one in (await seen(q))["items"]] == ids
    await viewer.call("GET", "/workers/history", 422, params={"q": "pid:8"})


@pytest.mark.parametrize("action", ["pause", "resume", "drain", "shutdown"])
async def test_a_worker_is_told(operator: Api, queue: Conveyor, worker: str, action: str) -> None:
    body: dict[str, Any] = {"reason": "a full disk"}
    order = await operator.call("POST", f"/workers/{worker}/{action}", 202, json=body)
    assert (order["action"], order["by"]) == (action, "operator@example.com")
    assert (await orders(queue))[worker].reason == "a full disk"
    shown = await operator.call("GET", f"/workers/{worker}")
    assert shown["order"] == order


async def test_nobody_can_be_told_nothing(viewer: Api, operator: Api, worker: str) -> None:
    await viewer.call("POST", f"/workers/{worker}/pause", 403)
    problem = await operator.call("POST", "/workers/w2/pause", 404)
    assert "no worker that lives has the id 'w2'" in problem["detail"]
    await operator.call("GET", "/workers/w2", 404)
