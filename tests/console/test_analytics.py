"""The past in numbers: sums of sums, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI

from conveyor import Conveyor
from conveyor_console.console import Console
from conveyor_console.history.buckets import bucket_of, percentile, upper_bound
from conveyor_console.history.models import Failure
from conveyor_console.history.rollups import Sums
from tests.console.conftest import Api
from tests.console.history_kit import shop
from tests.running import at_work, ended

WIDE = {"from": "2020-01-01T00:00:00Z", "to": "2030-01-01T00:00:00Z", "bucket": 86_400 * 28}


@pytest.fixture
def queue(sqlite_url: str) -> Conveyor:
    return shop(sqlite_url)


@pytest.fixture
async def worked(queue: Conveyor, app: FastAPI, console: Console) -> None:
    await console.rest()
    names = queue.definitions
    handles: list[Any] = [await names["shop.greet"].enqueue("x") for _ in range(6)]
    handles += [await names["shop.fail"].enqueue("no money") for _ in range(2)]
    handles += [await names["shop.recover"].with_options(queue="mail").enqueue(1)]
    async with at_work(queue, queues=("default", "mail")):
        for handle in handles:
            await ended(handle)
    await console.recorder.catch_up()


@pytest.mark.usefixtures("worked")
async def test_throughput(viewer: Api) -> None:
    answer = await viewer.call("GET", "/analytics/throughput", params=WIDE)
    total = answer["total"]
    assert (total["succeeded"], total["failed"], total["executions"], total["errors"]) == (
        7,
        2,
        14,
        7,
    )
    assert total["success_rate"] == pytest.approx(7 / 9)
    assert 0 < total["run"]["p50"] <= total["run"]["p99"] < 60
    assert 0 < total["wait"]["p50"] < 60
    assert sum(point["executions"] for point in answer["points"]) == 14
    for asked, number in (({"queue": "mail"}, 2), ({"task": "shop.fail"}, 6), ({"task": "x"}, 0)):
        few = await viewer.call("GET", "/analytics/throughput", params={**WIDE, **asked})
        assert few["total"]["executions"] == number


@pytest.mark.usefixtures("worked")
async def test_by_task_and_queue(viewer: Api) -> None:
    answer = await viewer.call("GET", "/analytics/tasks", params=WIDE)
    rows = [(row["name"], row["executions"], row["success_rate"]) for row in answer["items"]]
    assert rows == [("shop.fail", 6, 0.0), ("shop.greet", 6, 1.0), ("shop.recover", 2, 1.0)]
    answer = await viewer.call("GET", "/analytics/queues", params=WIDE)
    assert [row["name"] for row in answer["items"]] == ["default", "mail"]


@pytest.mark.usefixtures("worked")
async def test_failures_by_kind(viewer: Api) -> None:
    answer = await viewer.call("GET", "/analytics/failures", params=WIDE)
    first, second = answer["items"]
    assert (first["number"], first["error_type"], first["names"], first["queues"]) == (
        6,
        "ValueError",
        ["shop.fail"],
        ["default"],
    )
    assert (second["number"], second["queues"]) == (1, ["mail"])
    answer = await viewer.call("GET", "/analytics/failures", params={**WIDE, "queue": "mail"})
    assert len(answer["items"]) == 1
    minutes = {"from": "2026-11-27T11:20:00Z", "to": "2026-11-27T11:40:00.2Z", "bucket": 60}
    answer = await viewer.call("GET", "/analytics/failures", params=minutes)
    assert (answer["start"], answer["end"]) == ("2026-11-27T11:00:00Z", "2026-11-27T12:00:00Z")
    answer = await viewer.call("GET", "/analytics/throughput", params=minutes)
    assert (answer["start"], answer["end"]) == ("2026-11-27T11:20:00Z", "2026-11-27T11:41:00Z")


@pytest.mark.usefixtures("worked")
async def test_peak_hours(viewer: Api) -> None:
    answer = await viewer.call("GET", "/analytics/peak-hours", params=WIDE)
    assert sum(hour["executions"] for hour in answer["items"]) == 14
    assert all(0 <= hour["weekday"] < 7 and 0 <= hour["hour"] < 24 for hour in answer["items"])


async def test_what_cannot_be_asked(viewer: Api, subtests: pytest.Subtests) -> None:
    for params in [
        {"bucket": 61},
        {"bucket": 5_400},
        {"bucket": 60, "from": "2026-01-01"},
        {"from": "2027-01-01"},
        {"from": "0001-01-01T00:00:00+23:59"},
        {"to": "9999-12-31T23:59:59"},
        {"to": "soon"},
    ]:
        with subtests.test(params=params):
            await viewer.call("GET", "/analytics/throughput", 422, params=params)


async def test_minutes_and_hours_agree(viewer: Api, console: Console) -> None:
    from conveyor.core.task import State, TaskInfo

    start = console.clock.now().timestamp() - 7_200
    sums = Sums()
    for second in range(0, 7_200, 10):
        info = TaskInfo(
            id="x",
            name="n ☃",
            queue="q",
            priority=5,
            state=State.SUCCEEDED,
            enqueued_at=0,
            finished_at=start + second,
        )
        sums.end(info)
    async with console.database.writing() as db:
        await sums.add(db)
    for bucket, points in ((60, 120), (600, 12), (3_600, 2)):
        params = {"bucket": bucket, "from": "2026-11-27T10:00:00Z", "to": "2026-11-27T12:00:00Z"}
        answer = await viewer.call("GET", "/analytics/throughput", params=params)
        assert answer["total"]["succeeded"] == 720
        assert len(answer["points"]) == points
        assert answer["points"][0]["at"] == "2026-11-27T10:00:00Z"


def test_buckets_are_exact_to_nine_percent() -> None:
    for exponent in range(-40, 70):
        seconds = 1.17**exponent
        bucket = bucket_of(seconds)
        assert upper_bound(bucket - 1) < seconds <= upper_bound(bucket) * (1 + 1e-9)
        middle = percentile({bucket: 1}, 0.5)
        assert middle is not None
        assert abs(middle / seconds - 1) < 0.095
    assert bucket_of(0.0) == 0
    assert bucket_of(1e30) == 160
    assert percentile({}, 0.5) is None
    assert percentile({1: 98, 9: 2}, 0.5) == percentile({1: 1}, 0.5)
    assert percentile({1: 98, 9: 2}, 0.99) == percentile({9: 1}, 0.5)


async def test_every_kind_of_error_has_its_latest_message(viewer: Api, console: Console) -> None:
    rows = [
        Failure(
            hour=480_000 + hour, fingerprint=kind, queue="q", name="n", number=number,
            error_type=kind.upper(), error=f"{kind} {hour}", task_id=f"{kind}{hour:05}",
        )
        for kind, hours, number in (("rare", 1, 5_999), ("zeal", 6_000, 1))
        for hour in range(hours)
    ]  # fmt: skip
    async with console.database.writing() as db:
        db.add_all(rows)
    found = (await viewer.call("GET", "/analytics/failures", params=WIDE))["items"]
    assert [(one["fingerprint"], one["error_type"], one["error"]) for one in found] == [
        ("zeal", "ZEAL", "zeal 5999"),
        ("rare", "RARE", "rare 0"),
    ]
