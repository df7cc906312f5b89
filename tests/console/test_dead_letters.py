"""Dead letters over HTTP: by what killed them, one by one, by filter."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI

from conveyor import Conveyor, Retry
from conveyor.inspect import State
from conveyor_console.console import Console
from conveyor_console.history.retention import verify_letters
from tests.console.conftest import Api
from tests.console.history_kit import counted, letters, shop
from tests.running import at_work, ended, reached


@pytest.fixture
def queue(sqlite_url: str) -> Conveyor:
    return shop(sqlite_url)


@pytest.fixture
async def ids(queue: Conveyor, app: FastAPI, console: Console) -> list[str]:
    """Three with one error, two with another, one that was cancelled."""
    await console.rest()
    fail, reject = queue.definitions["shop.fail"], queue.definitions["shop.reject"]
    handles = [await fail.enqueue(f"no {word}") for word in ("money", "money", "money")]
    handles += [await reject.with_options(queue="mail").enqueue() for _ in range(2)]
    async with at_work(queue, queues=("default", "mail")):
        for handle in handles:
            await ended(handle)
    late = await fail.with_options(delay=3_600).enqueue("late")
    await late.cancel("no need")
    await console.recorder.catch_up()
    return [handle.id for handle in (*handles, late)]


async def found(api: Api, q: str) -> list[str]:
    answer = await api.call("GET", "/dead-letters", params={"q": q})
    return [item["task_id"] for item in answer["items"]]


async def test_they_have_orders(viewer: Api, ids: list[str]) -> None:
    async def ordered(sort: str, **more: Any) -> Any:
        return await viewer.call("GET", "/dead-letters", params={"sort": sort, **more})

    up: list[str] = []
    for key in ("died", "id"):
        up = [one["task_id"] for one in (await ordered(key))["items"]]
        assert [one["task_id"] for one in (await ordered(f"-{key}"))["items"]] == up[::-1]
        assert sorted(up) == sorted(ids)
        first = await ordered(key, limit=2)
        rest = await ordered(key, limit=4, cursor=first["next_cursor"])
        assert [one["task_id"] for one in first["items"] + rest["items"]] == up
    assert up[-1] == ids[5]


async def test_they_are_grouped_by_what_killed_them(viewer: Api, ids: list[str]) -> None:
    answer = await viewer.call("GET", "/dead-letters/groups")
    groups = [(g["number"], g["error_type"], g["task_id"]) for g in answer["items"]]
    assert groups == [
        (1, None, ids[5]),
        (2, "conveyor.Reject", ids[4]),
        (3, "ValueError", ids[2]),
    ]
    for group in answer["items"]:
        listed = await found(viewer, f"fingerprint:{group['fingerprint']}")
        assert len(listed) == group["number"]
        assert listed[0] == group["task_id"]
    first = await viewer.call("GET", "/dead-letters/groups", params={"limit": 2})
    rest = await viewer.call(
        "GET", "/dead-letters/groups", params={"limit": 2, "cursor": first["next_cursor"]}
    )
    assert [*first["items"], *rest["items"]] == answer["items"]
    few = await viewer.call("GET", "/dead-letters/groups", params={"q": "queue:mail"})
    assert [group["number"] for group in few["items"]] == [2]


async def test_they_are_filtered(viewer: Api, ids: list[str]) -> None:
    assert await found(viewer, "") == ids[::-1]
    assert await found(viewer, "queue:mail") == ids[3:5][::-1]
    assert await found(viewer, "task:shop.f* state:failed") == ids[:3][::-1]
    assert await found(viewer, "error:MONEY") == ids[:3][::-1]
    assert await found(viewer, "reason:need") == [ids[5]]
    assert await found(viewer, "age>365d") == []
    assert await found(viewer, "attempts<99999999999") == ids[::-1]
    assert await found(viewer, "-money") == ids[3:][::-1]
    await viewer.call("GET", "/dead-letters", 422, params={"q": "args.x:1"})


async def test_one_that_lives_again_by_now_is_left_alone(
    operator: Api, queue: Conveyor, app: FastAPI, console: Console
) -> None:
    """It waits for its next try: a requeue that read it while it was dead must not hurry it."""
    await console.rest()

    @queue.task(name="shop.patient", retry=Retry(max_attempts=2, base=3_600, cap=3_600))
    async def patient() -> None:
        raise ValueError("not yet")

    handle = await patient.enqueue()
    await handle.cancel("a mistake")
    await console.recorder.catch_up()
    await (await queue.client()).broker.requeue([handle.id])
    async with at_work(queue):
        await reached(handle, State.SCHEDULED)
    await operator.call("POST", f"/dead-letters/{handle.id}/requeue", 404)
    changed = await operator.call("POST", "/dead-letters/requeue", json={"ids": [handle.id]})
    assert (changed["changed"], changed["unchanged"]) == (0, 1)
    problem = await operator.call("POST", f"/tasks/{handle.id}/retry", 409)
    assert problem["detail"].endswith(f"task {handle.id} is scheduled")
    assert await handle.status() is State.SCHEDULED


async def test_one_is_requeued(
    operator: Api, viewer: Api, ids: list[str], queue: Conveyor, console: Console
) -> None:
    await viewer.call("POST", f"/dead-letters/{ids[0]}/requeue", 403)
    await operator.call("POST", f"/dead-letters/{ids[0]}/requeue", 204)
    assert ids[0] not in await found(viewer, "")
    assert (await queue.handle(ids[0]).status()).value == "queued"
    await operator.call("POST", f"/dead-letters/{ids[0]}/requeue", 404)
    listed = await viewer.call("GET", "/tasks", params={"q": f"id:{ids[0]}"})
    assert [item["state"] for item in listed["items"]] == ["queued"]
    await console.recorder.catch_up()
    assert await counted(console) == {"failed": 4, "cancelled": 1}
    async with at_work(queue):
        await ended(queue.handle(ids[0]))
    await console.recorder.catch_up()
    assert ids[0] in await letters(console)


async def test_many_are_requeued_or_discarded(
    operator: Api, ids: list[str], queue: Conveyor, console: Console
) -> None:
    body: dict[str, Any] = {"ids": [ids[0], ids[1], "00000000-0000-7000-8000-000000000000"]}
    answer = await operator.call("POST", "/dead-letters/requeue", json=body)
    assert answer == {"changed": 2, "unchanged": 1, "more": False}
    answer = await operator.call("POST", "/dead-letters/discard", json={"q": "queue:mail"})
    assert answer == {"changed": 2, "unchanged": 0, "more": False}
    assert await letters(console) == {ids[2], ids[5]}
    for body in ({}, {"ids": [], "q": ""}, {"ids": ["x"]}, {"q": "nothing:x"}):
        await operator.call("POST", "/dead-letters/discard", 422, json=body)
    answer = await operator.call("POST", "/dead-letters/discard", json={"q": ""})
    assert answer["changed"] == 2
    await operator.call("DELETE", f"/dead-letters/{ids[2]}", 404)
    task = await operator.call("GET", f"/tasks/{ids[2]}")
    assert task["state"] == "failed"


async def test_what_was_discarded_elsewhere_leaves_the_list(
    ids: list[str], queue: Conveyor, console: Console
) -> None:
    broker = (await queue.client()).broker
    await broker.discard(ids[:2])
    await broker.requeue([ids[2]])
    after: str | None = ""
    while after is not None:
        after = await verify_letters(console.database, broker.inspector, after, most=2)
    assert await letters(console) == set(ids[3:])
