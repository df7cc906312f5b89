"""Event streams: what they tell, where they go on, and when they end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import update

from conveyor import Conveyor
from conveyor_console.auth.models import Role, User
from conveyor_console.console import Console
from conveyor_console.db import epoch
from conveyor_console.live import frames, notices
from conveyor_console.live.feed import MOST_AT_ONCE, Feed
from conveyor_console.live.streams import HEARTBEAT, MOST_FRAMES, STALLED, Stream
from tests.console.conftest import Api, TestClock
from tests.console.streaming import PATIENCE, Reader, reading

pytestmark = pytest.mark.rounds

GREET: dict[str, Any] = {"name": "shop.greet", "args": ["Ada"]}


@pytest.fixture
def token(viewer: Api) -> str:
    return viewer.http.headers["authorization"].removeprefix("Bearer ")


async def test_changes_of_tasks_are_told_together(app: FastAPI, token: str, operator: Api) -> None:
    async with reading(app, token, "?topics=tasks") as reader:
        await reader.until("hello")
        await operator.call("POST", "/tasks/bulk", 201, json={"tasks": [GREET] * 3})
        told = (await reader.until("tasks"))["data"]
    assert told["counts"] == {"queued": 3}
    assert told["queues"] == {"default": {"queued": 3}}
    assert [task["state"] for task in told["tasks"]] == ["queued"] * 3


async def test_a_stream_goes_on_where_it_was_left(
    app: FastAPI, token: str, operator: Api, console: Console
) -> None:
    async with reading(app, token, "?topics=tasks,alerts") as reader:
        place = (await reader.until("hello"))["id"]
    first = await operator.call("POST", "/tasks", 201, json=GREET)
    await _read_on(console)
    async with reading(app, token, "?topics=tasks,alerts", **{"Last-Event-ID": place}) as reader:
        told = await reader.until("tasks")
        assert [task["id"] for task in told["data"]["tasks"]] == [first["id"]]
        second = await operator.call("POST", "/tasks", 201, json=GREET)
        told = await reader.until("tasks")
        assert [task["id"] for task in told["data"]["tasks"]] == [second["id"]]


async def test_what_the_console_does_is_told(app: FastAPI, admin: Api, clock: TestClock) -> None:
    token = admin.http.headers["authorization"].removeprefix("Bearer ")
    new = {"name": "nightly", "task": "shop.greet", "args": ["Ada"], "every": 3_600}
    async with reading(app, token, "?topics=schedules,system,workflows") as reader:
        await reader.until("hello")
        clock.advance(1)
        await admin.call("POST", "/schedules", 201, json=new)
        await admin.call("POST", "/schedules/nightly/pause", json={"reason": "a holiday"})
        await admin.call("POST", "/system/maintenance")
        clock.advance(1)
        told = [(await reader.until("schedules"))["data"] for _ in range(2)]
        end = (await reader.until("system"))["data"]
    assert [one["type"] for one in told] == ["schedules.create", "schedules.pause"]
    said = {"target": "schedule:nightly", "by": "admin@example.com", "detail": "a holiday"}
    assert told[1]["data"] == said
    assert end["type"] == "system.maintenance"


async def test_more_notices_at_once_than_a_page_are_all_told(
    console: Console, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "PAGE", 3)
    follower = notices.Follower(clock.now())
    clock.advance(1)
    wanted: list[int] = []
    for count in (0, 8, 2, 3):
        for _ in range(count):
            wanted.append(len(wanted))
            await _notice(console, clock, "alerts.firing", {"n": wanted[-1]})
        async with console.database.reading() as db:
            told = [one.data["n"] for one in await follower.read(db)]
        assert told == wanted[len(wanted) - count :]


async def test_notices_are_told_also_to_those_who_were_away(
    app: FastAPI, token: str, console: Console, clock: TestClock
) -> None:
    async with reading(app, token, "?topics=alerts") as reader:
        place = (await reader.until("hello"))["id"]
        clock.advance(1)
        await _notice(console, clock, "alerts.firing", {"n": 1})
        clock.advance(1)
        assert (await reader.until("alerts"))["data"]["data"] == {"n": 1}
    clock.advance(1)
    await _notice(console, clock, "alerts.resolved", {"n": 2})
    clock.advance(1)
    async with reading(app, token, "?topics=alerts", **{"Last-Event-ID": place}) as reader:
        told = [(await reader.until("alerts"))["data"] for _ in range(2)]
        clock.advance(1)
        await _notice(console, clock, "webhooks.failed", {"n": 3})
        await _notice(console, clock, "alerts.firing", {"n": 4})
        clock.advance(1)
        told.append((await reader.until("alerts"))["data"])
    assert [(one["type"], one["data"]["n"]) for one in told] == [
        ("alerts.firing", 1), ("alerts.resolved", 2), ("alerts.firing", 4)
    ]  # fmt: skip


PLACES = ["nonsense", "zzz~1.5", "~", "0~-1", "a~nan", f"{'f' * 16}-00001~1.5", "1-1-1~1"]


async def test_a_place_that_is_not_ours_means_to_read_anew(
    app: FastAPI, token: str, operator: Api, console: Console
) -> None:
    await operator.call("POST", "/tasks", 201, json=GREET)
    await _read_on(console)
    for place in PLACES:
        async with reading(app, token, "?topics=tasks", **{"Last-Event-ID": place}) as reader:
            await reader.until("resync")


async def test_queues_and_workers_are_told_as_they_stand(
    app: FastAPI, token: str, operator: Api
) -> None:
    await operator.call("POST", "/tasks", 201, json=GREET)
    async with reading(app, token, "?topics=queues,workers") as reader:
        queues = (await reader.until("queues"))["data"]["items"]
        assert [(queue["name"], queue["queued"]) for queue in queues] == [("default", 1)]


async def test_who_may_no_longer_read_is_cut_off_at_the_heartbeat(
    app: FastAPI, token: str, console: Console, clock: TestClock, users: dict[Role, str]
) -> None:
    async with reading(app, token) as reader:
        await reader.until("hello")
        clock.advance(HEARTBEAT)
        while await reader.frame() != {}:
            pass
        async with console.database.writing() as db:
            await db.execute(
                update(User)
                .where(User.id == users[Role.VIEWER])
                .values(disabled_at=console.clock.now())
            )
            await epoch.advance(db)
        clock.advance(HEARTBEAT)
        await reader.until("end")
        assert await reader.frame() is None
    assert not console.live.streams


async def test_streams_end_when_the_server_stops(
    app: FastAPI, token: str, console: Console
) -> None:
    async with reading(app, token) as reader, reading(app, token) as deaf:
        deaf.may_take.clear()
        await reader.until("hello")
        async with asyncio.timeout(PATIENCE):
            await console.live.end_streams("the server stops")
            assert (await reader.until("end"))["data"] == {"reason": "the server stops"}
            await asyncio.wait([reader.task, deaf.task])
    assert not console.live.streams
    late = Reader(app, "/api/v1/events", {"Authorization": f"Bearer {token}"})
    await late.task
    assert late.status == 503


async def test_a_reader_that_leaves_is_forgotten(
    app: FastAPI, token: str, console: Console
) -> None:
    async with reading(app, token):
        assert len(console.live.streams) == 1
    assert not console.live.streams


async def test_a_topic_needs_its_own_permission(viewer: Api, nobody: Api) -> None:
    await nobody.call("GET", "/events", 401)
    problem = await viewer.call("GET", "/events?topics=tasks,webhooks", 403)
    assert problem["permission"] == "webhooks:manage"
    assert (
        "unknown topic 'mails'"
        in (await viewer.call("GET", "/events?topics=tasks,mails", 422))["detail"]
    )
    await viewer.call("GET", "/events?topics=,", 422)


async def test_there_are_only_so_many_streams(
    viewer: Api, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "settings", console.settings.model_copy(update={"max_streams": 0}))
    answer = await viewer.http.get("/api/v1/events")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


# -- one stream, without the app


async def _always() -> bool:
    return True


async def test_what_does_not_fit_is_dropped_for_a_resync() -> None:
    stream = Stream(frozenset({"tasks"}), _always, 0.0)
    for number in range(MOST_FRAMES + 1):
        stream.push(frames.frame("tasks", number), 0.0)
    stream.release([], 0.0)
    assert list(stream._frames) == [frames.resync("slow")]
    stream.push(b"x" * 262_144, 0.0)
    assert list(stream._frames) == [frames.resync("slow")]


async def test_a_reader_that_takes_nothing_is_dropped_in_the_end() -> None:
    never = asyncio.Event()
    sends = 0

    async def send(_: Any) -> None:
        nonlocal sends
        sends += 1
        if sends > 2:
            await never.wait()

    async def receive() -> dict[str, Any]:
        await never.wait()
        return {}

    stream = Stream(frozenset({"tasks"}), _always, 0.0)
    serving = asyncio.create_task(stream.serve(receive, send))
    stream.release([frames.COMMENT], 0.0)
    await asyncio.sleep(0)
    stream.push(frames.COMMENT, 1.0)
    assert not stream.stalled(STALLED)
    assert stream.stalled(STALLED + 1)
    stream.drop()
    await serving


async def test_the_feed_skips_what_is_too_much_and_says_so(sqlite_url: str) -> None:
    queue = Conveyor(sqlite_url)

    @queue.task
    async def nothing() -> None: ...

    async with queue:
        feed = Feed(queue)
        lost: list[int] = []
        feed.losers.append(lambda: lost.append(1))
        await feed.read()
        await queue.enqueue_many([nothing.bind() for _ in range(4 * MOST_AT_ONCE + 1)])
        found = await feed.read()
        assert (len(found), lost) == (4 * MOST_AT_ONCE, [1])
        assert await feed.read() == []
        assert await feed.replay("") is None
        await nothing.enqueue()
        assert len(await feed.read()) == 1


async def _read_on(console: Console) -> None:
    """Wait until the live side has read the newest event."""
    newest = await (await console.queue.inspector()).newest()
    async with asyncio.timeout(10):
        while console.live.feed.cursor != newest:
            console.live._rounds.wake()
            await asyncio.sleep(0.01)


async def _notice(console: Console, clock: TestClock, topic: str, data: dict[str, Any]) -> None:
    async with console.database.writing() as db:
        notices.add(db, console.new_id(), clock.now(), topic, data)
