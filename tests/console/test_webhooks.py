"""Webhooks out: what is sent, how it is signed, and what becomes of what is not taken."""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from conveyor import Conveyor
from conveyor_console.console import Console
from conveyor_console.kit.lanes import AT_ONCE
from conveyor_console.kit.outgoing import Outgoing
from conveyor_console.kit.retrying import WAITS
from conveyor_console.live import notices
from conveyor_console.webhooks.collecting import Collector
from conveyor_console.webhooks.delivering import Delivering
from conveyor_console.webhooks.models import Webhook, WebhookCursor
from tests.console.conftest import Api, TestClock
from tests.console.receiver import Got, Receiver, receiving
from tests.worker.harness import soon

GREET: dict[str, Any] = {"name": "shop.greet", "args": ["Ada"]}


@pytest.fixture
async def receiver(console: Console) -> AsyncIterator[Receiver]:
    async with receiving() as found:
        console.outgoing = Outgoing(("127.0.0.0/8",), (found.port,))
        yield found


@pytest.fixture
def delivering(console: Console) -> Delivering:
    """The part, whose rounds the test makes itself."""
    return console.part(Delivering)


@pytest.fixture
def hook(receiver: Receiver) -> dict[str, Any]:
    return {"name": "shop", "url": receiver.url, "topics": ["task.cancelled", "alerts.firing"]}


def _fits(got: Got, secret: str) -> bool:
    """Whether one of the signatures is that of this secret."""
    parts = [part.partition("=") for part in got.headers["conveyor-signature"].split(",")]
    at = next(value for name, _, value in parts if name == "t")
    wanted = hmac.new(secret.encode(), f"{at}.".encode() + got.body, "sha256").hexdigest()
    return any(name == "v1" and value == wanted for name, _, value in parts)


async def test_tasks_that_end_are_told_together_and_signed(
    admin: Api, hook: dict[str, Any], delivering: Delivering, receiver: Receiver, queue: Conveyor
) -> None:
    made = await admin.call("POST", "/webhooks", 201, json=hook)
    await delivering.round()
    sent = await admin.call("POST", "/tasks/bulk", 201, json={"tasks": [GREET] * 3})
    for one in sent["items"]:
        await queue.handle(one["id"]).cancel()
    await delivering.round()
    await delivering.round()
    told = [json.loads(got.body) for got in receiver.got]
    assert {one["type"] for one in told} == {"task.cancelled"}
    ids = [task["id"] for one in told for task in one["data"]["tasks"]]
    assert sorted(ids) == sorted(one["id"] for one in sent["items"])
    assert all(_fits(got, made["secret"]) for got in receiver.got)
    assert {got.headers["conveyor-delivery"] for got in receiver.got} == {one["id"] for one in told}


async def test_the_events_of_a_store_that_began_anew_are_told(
    admin: Api, hook: dict[str, Any], delivering: Delivering, queue: Conveyor, console: Console
) -> None:
    made = await admin.call("POST", "/webhooks", 201, json=hook)
    await delivering.round()
    task = await admin.call("POST", "/tasks", 201, json=GREET)
    await queue.handle(task["id"]).cancel()
    await delivering.round()
    events = await (await queue.inspector()).events("", 1_000)
    others = [msgspec.structs.replace(one, id=console.new_id()) for one in events]
    async with console.database.writing() as db:
        endpoints = list(await db.scalars(select(Webhook)))
        Collector(db, console.new_id, console.clock.now()).tell_of_tasks(others, endpoints)
    path = f"/webhooks/{made['webhook']['id']}/deliveries"
    told = [json.loads(one["body"])["data"] for one in (await admin.call("GET", path))["items"]]
    assert [one["tasks"][0]["id"] for one in told] == [others[-1].id, task["id"]]


async def test_a_cursor_of_another_store_is_none_of_this_one(
    admin: Api, hook: dict[str, Any], delivering: Delivering, queue: Conveyor, console: Console
) -> None:
    made = await admin.call("POST", "/webhooks", 201, json=hook)
    task = await admin.call("POST", "/tasks", 201, json=GREET)
    await queue.handle(task["id"]).cancel()
    await delivering.collect()
    async with console.database.writing() as db:
        (cursor,) = await db.scalars(select(WebhookCursor))
        mine, cursor.store, cursor.events = cursor.store, "another", ""
    await delivering.collect()
    async with console.database.reading() as db:
        (cursor,) = await db.scalars(select(WebhookCursor))
    assert len(mine) == 36
    assert (cursor.store, cursor.events) == (mine, await (await queue.inspector()).newest())
    path = f"/webhooks/{made['webhook']['id']}/deliveries"
    assert (await admin.call("GET", path))["items"] == []


async def test_what_is_long_past_is_no_news(
    admin: Api, hook: dict[str, Any], delivering: Delivering, receiver: Receiver,
    console: Console, clock: TestClock,
) -> None:  # fmt: skip
    made = await admin.call("POST", "/webhooks", 201, json=hook | {"topics": ["task.failed"]})
    clock.advance(1)
    async with console.database.writing() as db:
        notices.add(db, console.new_id(), clock.now(), "alerts.firing", {"rule": "x"})
    await delivering.round()
    clock.advance(600)
    await delivering.round()
    path = f"/webhooks/{made['webhook']['id']}"
    await admin.call("PUT", path, json=hook, headers={"If-Match": "*"})
    await delivering.round()
    assert receiver.got == []


async def test_what_happens_in_the_console_is_told_once(
    admin: Api, hook: dict[str, Any], delivering: Delivering, receiver: Receiver,
    console: Console, clock: TestClock, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(notices, "PAGE", 1)
    await admin.call("POST", "/webhooks", 201, json=hook)
    clock.advance(1)
    async with console.database.writing() as db:
        notices.add(db, console.new_id(), clock.now(), "alerts.firing", {"rule": "x"})
        notices.add(db, console.new_id(), clock.now(), "alerts.resolved", {"rule": "x"})
    for _ in range(3):
        await delivering.round()
    assert [json.loads(got.body)["data"] for got in receiver.got] == [{"rule": "x"}]


async def test_the_secret_is_sealed_and_rotates_with_an_overlap(
    admin: Api, hook: dict[str, Any], delivering: Delivering, receiver: Receiver,
    console: Console, clock: TestClock,
) -> None:  # fmt: skip
    made = await admin.call("POST", "/webhooks", 201, json=hook)
    path = f"/webhooks/{made['webhook']['id']}"
    async with console.database.reading() as db:
        row = await db.get_one(Webhook, made["webhook"]["id"])
    assert made["secret"] not in row.secret_sealed
    assert row.secret_sealed.split(".")[1] == console.vault.key_id
    assert "secret" not in str(await admin.call("GET", path))
    turned = await admin.call("POST", f"{path}/rotate", json={"overlap_seconds": 60})
    await admin.call("POST", f"{path}/ping", 201)
    await delivering.send()
    assert _fits(receiver.got[0], made["secret"])
    assert _fits(receiver.got[0], turned["secret"])
    clock.advance(60)
    await admin.call("POST", f"{path}/ping", 201)
    await delivering.send()
    assert not _fits(receiver.got[1], made["secret"])
    assert _fits(receiver.got[1], turned["secret"])


async def test_what_is_not_taken_is_tried_again_given_up_and_replayed(
    admin: Api, hook: dict[str, Any], delivering: Delivering, receiver: Receiver,
    console: Console, clock: TestClock,
) -> None:  # fmt: skip
    made = await admin.call("POST", "/webhooks", 201, json=hook)
    path = f"/webhooks/{made['webhook']['id']}"
    receiver.answers(503)
    ping = await admin.call("POST", f"{path}/ping", 201)
    await delivering.send()
    (row,) = (await admin.call("GET", f"{path}/deliveries?state=pending"))["items"]
    assert (row["attempts"], row["status_code"], row["error"]) == (1, 503, "the answer was 503")
    for wait in WAITS:
        clock.advance(wait)
        await delivering.send()
    assert len(receiver.got) == 1 + len(WAITS)
    async with console.database.reading() as db:
        told = await notices.since(db, clock.now())
    assert [(one.topic, one.data["delivery_id"]) for one in told] == [
        ("webhooks.failed", ping["id"])
    ]
    receiver.answers(204)


async def test_a_replay_sends_the_same_body(
    admin: Api, hook: dict[str, Any], delivering: Delivering, receiver: Receiver
) -> None:
    made = await admin.call("POST", "/webhooks", 201, json=hook)
    path = f"/webhooks/{made['webhook']['id']}"
    ping = await admin.call("POST", f"{path}/ping", 201)
    await delivering.send()
    again = await admin.call("POST", f"{path}/deliveries/{ping['id']}/replay", 201)
    await delivering.send()
    assert again["replay_of"] == ping["id"]
    assert receiver.got[0].body == receiver.got[1].body
    rows = await admin.call("GET", f"{path}/deliveries?limit=1")
    assert rows["items"][0]["id"] == again["id"]
    more = await admin.call("GET", f"{path}/deliveries?cursor={rows['next_cursor']}")
    assert [row["id"] for row in more["items"]] == [ping["id"]]
    await admin.call("POST", f"{path}/deliveries/{made['webhook']['id']}/replay", 404)
    other = await admin.call("POST", "/webhooks", 201, json={**hook, "name": "another"})
    foreign = f"/webhooks/{other['webhook']['id']}/deliveries/{ping['id']}/replay"
    await admin.call("POST", foreign, 404)


async def test_endpoints_are_for_administrators(
    admin: Api, operator: Api, hook: dict[str, Any]
) -> None:
    await operator.call("GET", "/webhooks", 403)
    made = await admin.call("POST", "/webhooks", 201, json=hook)
    path = f"/webhooks/{made['webhook']['id']}"
    await admin.call("PUT", path, 428, json=hook)
    changed = await admin.call(
        "PUT", path, json={**hook, "enabled": False}, headers={"If-Match": '"1"'}
    )
    assert not changed["enabled"]
    assert len((await admin.call("GET", "/webhooks"))["items"]) == 1
    await admin.call("DELETE", path, 204)
    await admin.call("GET", path, 404)


async def test_bad_endpoints_get_a_sentence(
    admin: Api, console: Console, subtests: pytest.Subtests
) -> None:
    cases: list[tuple[dict[str, Any], str | None]] = [
        ({"url": "http://127.1/"}, None),
        ({"url": "http://[::ffff:127.0.0.1]/"}, "/url"),
        ({"url": "https://example.com:22/"}, "/url"),
        ({"topics": ["task.succeded"]}, "/topics/0"),
        ({"topics": []}, "/topics"),
        ({"secret": "mine"}, "/secret"),
    ]
    for change, pointer in cases:
        with subtests.test(change=change, pointer=pointer):
            body = {"name": "x", "url": "https://example.com/", "topics": ["task.failed"], **change}
            if pointer is None:
                # A name is looked up when it is used: then it is refused.
                await admin.call("POST", "/webhooks", 201, json=body)
                continue
            problem = await admin.call("POST", "/webhooks", 422, json=body)
            assert problem["errors"][0]["pointer"] == pointer


async def test_an_endpoint_inside_is_never_reached(admin: Api, delivering: Delivering) -> None:
    body = {"name": "x", "url": "http://127.1/", "topics": ["task.failed"]}
    made = await admin.call("POST", "/webhooks", 201, json=body)
    path = f"/webhooks/{made['webhook']['id']}"
    await admin.call("POST", f"{path}/ping", 201)
    await delivering.send()
    (row,) = (await admin.call("GET", f"{path}/deliveries"))["items"]
    assert "private network" in row["error"]


async def test_what_happened_while_there_was_no_endpoint_is_nobodys_news(
    admin: Api, hook: dict[str, Any], delivering: Delivering, receiver: Receiver, queue: Conveyor
) -> None:
    async def cancelled() -> str:
        sent = await admin.call("POST", "/tasks", 201, json=GREET)
        await queue.handle(sent["id"]).cancel()
        return str(sent["id"])

    made = await admin.call("POST", "/webhooks", 201, json=hook)
    await delivering.round()
    await admin.call("DELETE", f"/webhooks/{made['webhook']['id']}", 204)
    await cancelled()
    await admin.call("POST", "/webhooks", 201, json=hook)
    await delivering.round()
    news = await cancelled()
    await delivering.round()
    told = [json.loads(got.body)["data"]["tasks"] for got in receiver.got]
    assert [[task["id"] for task in tasks] for tasks in told] == [[news]]


async def test_one_poisoned_delivery_fails_alone(
    admin: Api, hook: dict[str, Any], delivering: Delivering, receiver: Receiver,
    console: Console, clock: TestClock,
) -> None:  # fmt: skip
    made = await admin.call("POST", "/webhooks", 201, json=hook)
    path = f"/webhooks/{made['webhook']['id']}"
    pings = [await admin.call("POST", f"{path}/ping", 201) for _ in range(3)]
    real = console.outgoing.post

    async def post(url: str, body: bytes, headers: Any) -> Any:
        if headers["Conveyor-Delivery"] == pings[1]["id"] and not clock.monotonic() > 1_000:
            raise KeyError("what nobody thought of")
        return await real(url, body, headers)

    console.outgoing.post = post  # type: ignore[method-assign]
    await delivering.send()
    rows = {one["id"]: one for one in (await admin.call("GET", f"{path}/deliveries"))["items"]}
    states = [rows[one["id"]]["state"] for one in pings]
    assert states == ["delivered", "pending", "delivered"]
    poisoned = rows[pings[1]["id"]]
    assert poisoned["error"] == "an unexpected error (KeyError): see the log"
    assert poisoned["attempts"] == 1
    clock.advance(WAITS[0])
    await delivering.send()
    rows = (await admin.call("GET", f"{path}/deliveries?state=delivered"))["items"]
    assert len(receiver.got) == len(rows) == 3


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_an_endpoint_that_never_answers_delays_no_other(
    admin: Api, hook: dict[str, Any], delivering: Delivering, receiver: Receiver,
    console: Console, clock: TestClock,
) -> None:  # fmt: skip
    """One black hole and one healthy endpoint, both with a backlog."""
    async with receiving() as hole:
        hole.silent = True
        console.outgoing = Outgoing(("127.0.0.0/8",), (receiver.port, hole.port))
        dead = await admin.call("POST", "/webhooks", 201, json={**hook, "url": hole.url})
        healthy = await admin.call("POST", "/webhooks", 201, json=hook)
        async with console.database.writing() as db:
            collector = Collector(db, console.new_id, clock.now())
            for number in range(60):
                collector.add(dead["webhook"]["id"], "ping", {}, f"hole:{number}")
            for number in range(60):
                collector.add(healthy["webhook"]["id"], "ping", {}, f"fine:{number}")
        assert await delivering._rounds.lead()
        await delivering._start_lanes()

        async def told() -> bool | None:
            return len(receiver.got) == 60 or None

        await soon(told, 60)
        assert len(hole.got) <= AT_ONCE  # the hole's backlog was not waited for
        await delivering._lanes.settled()
        path = f"/webhooks/{dead['webhook']['id']}/deliveries?limit=100"
        rows = (await admin.call("GET", path))["items"]
        assert sum(row["attempts"] for row in rows) == AT_ONCE
        await delivering.send()  # it rests: nobody asks
        assert len(hole.got) == AT_ONCE
        hole.silent = False
        clock.advance(5)
        await delivering.send()  # one tries, and then all go
        assert len(hole.got) == 60  # but for those that wait for their next try
