"""The public API as a user types it, for mypy and pyright: `test_typing.py` runs them."""

from __future__ import annotations

from datetime import datetime
from typing import assert_type

from conveyor import Conveyor, Retry, current_task
from conveyor.workflows import Node, Results, step

app = Conveyor("sqlite://")


@app.task(queue="media", priority="high", retry=Retry(max_attempts=5), timeout=30)
async def thumbnail(path: str, *, width: int = 320) -> dict[str, int]:
    """An async task."""
    current_task().progress(1, 2, path)
    return {"width": width}


@app.task
def add(a: int, b: int = 2) -> int:
    """A sync task without parentheses."""
    return a + b


@app.schedule("0 9 * * MON-FRI", tz="Europe/Berlin", overlap="skip", catch_up="last", jitter=0)
@app.every(1.0, args=["ops"])
@app.task()
async def report(whom: str = "boss") -> str:
    """A scheduled task keeps its types."""
    assert_type(current_task().scheduled_for, datetime | None)
    return whom


async def use() -> None:
    assert_type(await (await report.enqueue("ada")).result(), str)
    assert_type((await app.schedules.create("s", report, cron="@daily")).next_at, float | None)
    handle = await thumbnail.enqueue("a.png", width=640)
    assert_type(await handle.result(timeout=30), dict[str, int])
    assert_type(await thumbnail("a.png"), dict[str, int])
    assert_type(add(1), int)
    later = await add.with_options(delay=60, priority=9, key="k").enqueue(1, b=3)
    assert_type(await later.result(), int)
    for each in await app.enqueue_many(add.bind(i) for i in range(3)):
        assert_type(await each.result(), int)
    assert_type(add.enqueue_sync(1).result_sync(), int)


@app.task
async def total(sizes: Results[dict[str, int]]) -> int:
    """A reducer."""
    return sum([size["width"] async for size in sizes])


async def use_workflows() -> None:
    flow = app.workflow("media")
    sum_ = flow.add(add, 1, b=2)
    assert_type(sum_.result, int)
    small = flow.add(thumbnail, "a.png", width=sum_.result)
    with flow.when(small.result["width"] > 3):
        assert_type(flow.add(add, small.result["width"]).after(sum_, mode="optional"), Node[int])
    mapped = flow.map(thumbnail, ["a.png", "b.png"], window=10)
    assert_type(mapped.result, list[dict[str, int]])
    assert_type(mapped.reduce(total).result, int)
    assert_type([node.result for node in flow.group([add.bind(1)])], list[int])
    handle = await flow.enqueue()
    assert_type(await handle.status(), str)


async def charge(amount: int) -> str:
    """A step."""
    return str(amount)


async def use_steps() -> None:
    assert_type(await step("charge", charge, 3), str)
    assert_type(await step("add", len, "abc"), int)
