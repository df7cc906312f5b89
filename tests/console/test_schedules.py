"""Schedules over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from conveyor import Conveyor
from conveyor.schedules.publisher import Publisher
from conveyor_console.console import Console
from tests.console.conftest import Api

NIGHTLY: dict[str, Any] = {
    "name": "nightly",
    "task": "shop.greet",
    "args": ["Ada"],
    "cron": "0 3 * * *",
    "tz": "Europe/Berlin",
}


async def test_a_schedule_from_its_making_to_its_end(operator: Api, queue: Conveyor) -> None:
    answer = await operator.http.post(
        "/api/v1/schedules", json={**NIGHTLY, "queue": "night", "priority": "low"}
    )
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["timing"], made["queue"], made["priority"]) == (
        "0 3 * * * Europe/Berlin",
        "night",
        2,
    )
    assert made["source"] == "runtime"
    assert made["next_at"].endswith("Z")
    (listed,) = (await operator.call("GET", "/schedules"))["items"]
    assert listed == made
    assert await operator.call("GET", "/schedules/nightly") == made

    tag = answer.headers["etag"]
    edited = await operator.call(
        "PATCH", "/schedules/nightly", json={"cron": "30 4 * * *"}, headers={"If-Match": tag}
    )
    assert edited["timing"] == "30 4 * * * Europe/Berlin"
    assert edited["version"] > made["version"]
    await operator.call(
        "PATCH", "/schedules/nightly", 412, json={"jitter": 1}, headers={"If-Match": tag}
    )
    await operator.call("PATCH", "/schedules/nightly", 428, json={"jitter": 1})

    paused = await operator.call("POST", "/schedules/nightly/pause", json={"reason": "holidays"})
    assert paused["pause"]["by"] == "operator@example.com"
    assert paused["next_at"] is None
    resumed = await operator.call("POST", "/schedules/nightly/resume")
    assert resumed["pause"] is None
    task_id = (await operator.call("POST", "/schedules/nightly/run", 201))["task_id"]
    assert (await queue.handle(task_id).info()).args == ("Ada",)
    await operator.call("DELETE", "/schedules/nightly", 412, headers={"If-Match": tag})
    await operator.call("DELETE", "/schedules/nightly", 204)
    problem = await operator.call("GET", "/schedules/nightly", 404)
    assert problem["detail"] == "no schedule is named 'nightly'"


async def test_previews_show_what_clocks_do(operator: Api, viewer: Api) -> None:
    await operator.call("POST", "/schedules", 201, json=NIGHTLY)
    fires = (await viewer.call("GET", "/schedules/nightly/preview?count=2"))["items"]
    assert [fire["zone"] for fire in fires] == ["Europe/Berlin"] * 2
    assert fires[0]["local"][11:16] == "03:00"
    assert fires[0]["at"].endswith("Z")
    body = {"cron": "30 2 * * *", "tz": "Europe/Berlin", "count": 100}
    found = (await viewer.call("POST", "/schedules/preview", json=body))["items"]
    assert len(found) == 100
    every = await viewer.call("POST", "/schedules/preview", json={"every": 60, "count": 3})
    assert [fire["note"] for fire in every["items"]] == ["", "", ""]


async def test_bad_input_gets_a_sentence(operator: Api, subtests: pytest.Subtests) -> None:
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"cron": "0 25 * * *"}, 422, "25"),
        ({"tz": "Europe/Berlim"}, 422, "Europe/Berlim"),
        ({"cron": None}, 422, "either cron= or every="),
        ({"every": 5}, 422, "either cron= or every="),
        ({"task": "shop.great"}, 422, "did you mean shop.greet"),
        ({"args": []}, 422, "name"),
        ({"overlap": "sometimes"}, 422, "/overlap"),
        ({"jitter": -1}, 422, "/jitter"),
        ({"queue": "no spaces"}, 422, "no spaces"),
        ({"name": " x"}, 422, "printable characters"),
        ({"name": ""}, 422, "/name"),
        ({"surprise": 1}, 422, "/surprise"),
    ]
    for change, status, words in cases:
        with subtests.test(change=change, status=status, words=words):
            problem = await operator.call("POST", "/schedules", status, json={**NIGHTLY, **change})
            assert words in problem["detail"]
            assert (await operator.call("GET", "/schedules"))["items"] == []


async def test_a_name_is_taken_once(operator: Api) -> None:
    await operator.call("POST", "/schedules", 201, json=NIGHTLY)
    problem = await operator.call("POST", "/schedules", 409, json=NIGHTLY)
    assert "already" in problem["detail"]
    await operator.call("PATCH", "/schedules/nightly", 422, json={}, headers={"If-Match": "*"})
    await operator.call("GET", "/schedules/nightly/preview?count=101", 422)


async def test_a_name_may_have_slashes(operator: Api) -> None:
    await operator.call("POST", "/schedules", 201, json={**NIGHTLY, "name": "a/b c"})
    assert (await operator.call("GET", "/schedules/a%2Fb%20c"))["name"] == "a/b c"
    assert (await operator.call("POST", "/schedules/a/b c/pause"))["pause"] is not None


async def test_what_code_declares_is_deleted_by_force_only(
    operator: Api, viewer: Api, queue: Conveyor, console: Console
) -> None:
    queue.every(60, name="tick", args=["Ada"])(queue.definition("shop.greet"))
    broker = (await queue.client()).broker
    await Publisher(queue, broker, scope="shop:app", born=1.0, dice=lambda: 0.5).once()
    problem = await operator.call("DELETE", "/schedules/tick", 409)
    assert "declared in the code of shop:app" in problem["detail"]
    await viewer.call("DELETE", "/schedules/tick", 403)
    await operator.call("DELETE", "/schedules/tick?force=true", 204)
