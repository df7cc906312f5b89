"""Lists in the orders that they offer: every page once, and cursors that know their order."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI

from conveyor import Conveyor
from conveyor.inspect import QueueInfo
from conveyor_console.console import Console
from conveyor_console.kit.listing import Asked
from conveyor_console.kit.problems import Problem
from conveyor_console.queues.service import LISTING
from tests.console.conftest import Api
from tests.console.history_kit import shop
from tests.running import at_work


@pytest.fixture
def queue(sqlite_url: str) -> Conveyor:
    return shop(sqlite_url)


async def pages(api: Api, path: str, field: str, limit: int = 2, **params: Any) -> list[Any]:
    """Everything in a list, page by page."""
    seen: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = await api.call("GET", path, params={"limit": limit, **params, **cursor})
        assert len(page["items"]) <= limit
        seen += [one[field] for one in page["items"]]
        if page["next_cursor"] is None:
            return seen
        cursor = {"cursor": page["next_cursor"]}


async def _both_ways(api: Api, path: str, field: str, keys: list[str], **params: Any) -> None:
    """Each order is the other's reverse, says everything once, and refuses the other's cursor."""
    for key in keys:
        up = await pages(api, path, field, sort=key, **params)
        down = await pages(api, path, field, sort=f"-{key}", **params)
        assert up == down[::-1], (path, key)
        assert len(set(up)) == len(up) > 2, (path, key)
        first = await api.call("GET", path, params={"limit": 1, "sort": key, **params})
        other = {"cursor": first["next_cursor"], "sort": f"-{key}", **params}
        await api.call("GET", path, 422, params=other)
    await api.call("GET", path, 422, params={"sort": "password_hash", **params})


async def test_lists_have_orders(
    admin: Api, app: FastAPI, console: Console, queue: Conveyor
) -> None:
    await console.rest()
    for place in range(3):
        body = {"name": f"k{place % 2}", "scopes": ["tasks:read"]}
        await admin.call("POST", "/api-keys", 201, json=body)
    greet = queue.definitions["shop.greet"]
    for place, name in enumerate(("mail", "default", "ads")):
        for _ in range(place):
            await greet.with_options(queue=name).enqueue("x")
        every = {"name": name, "task": "shop.greet", "args": ["x"], "every": 60 * (place + 1)}
        await admin.call("POST", "/schedules", 201, json=every)
        await greet.with_options(queue=name, delay=60).enqueue("x")
    await _both_ways(admin, "/users", "email", ["created", "email"])
    await _both_ways(admin, "/api-keys", "id", ["created", "name"])
    await _both_ways(admin, "/audit", "id", ["at"])
    keys = ["name", "queued", "scheduled", "running"]  # `wait` grows while one looks
    await _both_ways(admin, "/queues", "name", keys)
    await _both_ways(admin, "/schedules", "name", ["name", "task", "next", "last", "fired"])
    assert await pages(admin, "/queues", "name", sort="-queued") == ["ads", "default", "mail"]
    assert await pages(admin, "/queues", "name", q="queued>0 -queue:a*") == ["default"]
    assert await pages(admin, "/schedules", "name", q="schedule:*a* paused:no") == [
        "ads", "default", "mail",
    ]  # fmt: skip
    problem = await admin.call("GET", "/queues", 422, params={"q": "state:x"})
    assert "there is no field 'state'" in problem["detail"]
    async with at_work(queue) as work:
        (worker,) = (await admin.call("GET", "/workers", params={"sort": "-rss"}))["items"]
        assert await pages(admin, "/workers", "id", q="mode:working queue:mail") == [worker["id"]]
        assert await pages(admin, "/workers", "id", q="-queue:mail") == []
        assert await pages(admin, "/workers", "id", q="mode:paused") == []
        await work.stop()


def test_waits_that_grow_between_pages_lose_no_queue() -> None:
    def at(now: float) -> list[QueueInfo]:
        begins = (("a", 1.0), ("b", 2.0), ("c", 3.0))
        return [QueueInfo(name=n, waits_since=s, oldest_wait=now - s) for n, s in begins]

    for sort, expected in (("wait", ["c", "b", "a"]), ("-wait", ["a", "b", "c"])):
        seen, cursor = [], None
        for now in (10.0, 20.0, 30.0):
            page, cursor = LISTING.page(at(now), Asked("", sort, cursor, 1), 0.0)
            seen += [one.name for one in page]
        assert (seen, cursor) == (expected, None)


def test_a_cursor_that_was_tampered_with_is_refused() -> None:
    rows = [QueueInfo(name=name, waits_since=at) for name, at in (("a", 1.0), ("b", None))]
    page, cursor = LISTING.page(rows, Asked("", "wait", None, 1), 0.0)
    assert [one.name for one in page] == ["b"]
    rest, end = LISTING.page(rows, Asked("", "wait", cursor, 1), 0.0)
    assert ([one.name for one in rest], end) == (["a"], None)
    for value in ("x", '"x"', "[]", "{}"):
        from conveyor_console.kit.sorting import Order, Place, cursor_in

        bad = cursor_in(Order("wait", False), Place(value, "b"))
        with pytest.raises(Problem):
            LISTING.page(rows, Asked("", "wait", bad, 1), 0.0)


async def test_names_of_four_bytes_a_letter_fit_into_cursors(admin: Api) -> None:
    names = [letter + "\N{HONEYBEE}" * 199 for letter in "ab"]
    for name in names:
        await admin.call("POST", "/api-keys", 201, json={"name": name, "scopes": ["tasks:read"]})
    found = await admin.call("GET", "/api-keys", params={"sort": "name", "limit": 1})
    rest = {"sort": "name", "cursor": found["next_cursor"]}
    found["items"] += (await admin.call("GET", "/api-keys", params=rest))["items"]
    assert [one["name"] for one in found["items"]] == names
