"""Alerts end to end: a rule, a queue that waits, who is told, and what people do about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from conveyor import Conveyor
from conveyor_console.alerts.alerting import Alerting
from conveyor_console.alerts.models import Alert, AlertChannel, AlertRule
from conveyor_console.console import Console
from conveyor_console.kit.outgoing import Outgoing
from conveyor_console.kit.retrying import WAITS
from conveyor_console.live.notices import Notice
from tests.console.conftest import Api, TestClock
from tests.console.receiver import Receiver, receiving

GREET: dict[str, Any] = {"name": "shop.greet", "args": ["Ada"]}
RULE: dict[str, Any] = {
    "name": "too deep", "metric": "queue.depth", "threshold": 1, "for_seconds": 10,
    "clear_seconds": 0, "severity": "critical",
}  # fmt: skip


@pytest.fixture
async def receiver(console: Console) -> AsyncIterator[Receiver]:
    async with receiving() as found:
        console.outgoing = Outgoing(("127.0.0.0/8",), (found.port,))
        yield found


async def _channel(operator: Api, receiver: Receiver, kind: str = "webhook") -> str:
    body = {"name": kind, "kind": kind, "target": receiver.url}
    made = await operator.call("POST", "/alerts/channels", 201, json=body)
    assert made["target"] == "127.0.0.1"
    return str(made["id"])


async def test_a_queue_too_deep_is_told_and_resolved(
    operator: Api, viewer: Api, alerting: Alerting, receiver: Receiver, clock: TestClock,
    queue: Conveyor, console: Console,
) -> None:  # fmt: skip
    channels = [await _channel(operator, receiver, kind) for kind in ("webhook", "slack")]
    rule = await operator.call("POST", "/alerts/rules", 201, json={**RULE, "channels": channels})
    made = await operator.call("POST", "/tasks/bulk", 201, json={"tasks": [GREET] * 2})
    await alerting.round()
    stands = await viewer.call("GET", f"/alerts/rules/{rule['id']}")
    assert (stands["standing"]["status"], stands["standing"]["value"]) == ("pending", 2)
    assert (await viewer.call("GET", "/alerts"))["items"] == []

    clock.advance(10)
    await alerting.round()
    (alert,) = (await viewer.call("GET", "/alerts?status=firing"))["items"]
    assert alert["summary"] == "queue.depth is 2 (above 1)"
    assert sorted(len(got.body) > 0 for got in receiver.got) == [True, True]
    assert any(b'"type":"alert.firing"' in got.body for got in receiver.got)
    assert any(b"*[firing] critical: too deep*" in got.body for got in receiver.got)

    taken = await operator.call(
        "POST", f"/alerts/{alert['id']}/acknowledge", json={"note": "on it"}
    )
    assert (taken["status"], taken["acknowledged_by"]) == ("acknowledged", "operator@example.com")
    problem = await operator.call("POST", f"/alerts/{alert['id']}/acknowledge", 409, json={})
    assert "acknowledged" in problem["detail"]

    for one in made["items"]:
        await queue.handle(one["id"]).cancel()
    await alerting.round()
    assert (await viewer.call("GET", f"/alerts/{alert['id']}"))["status"] == "resolved"
    told = (await viewer.call("GET", f"/alerts/{alert['id']}/deliveries"))["items"]
    assert sorted((one["kind"], one["state"]) for one in told) == [
        *[("firing", "delivered")] * 2, *[("resolved", "delivered")] * 2
    ]  # fmt: skip
    async with console.database.reading() as db:
        topics = list(await db.scalars(select(Notice.topic).order_by(Notice.id)))
    assert topics == ["alerts.firing", "alerts.acknowledged", "alerts.resolved"]


async def test_what_cannot_be_delivered_is_tried_again_and_seen(
    operator: Api, alerting: Alerting, receiver: Receiver, clock: TestClock, console: Console
) -> None:
    receiver.answers(500)
    channel = await _channel(operator, receiver)
    await operator.call(
        "POST", "/alerts/rules", 201,
        json={**RULE, "threshold": -1, "for_seconds": 0, "channels": [channel]},
    )  # fmt: skip
    await alerting.round()
    (alert,) = (await operator.call("GET", "/alerts"))["items"]
    (row,) = (await operator.call("GET", f"/alerts/{alert['id']}/deliveries"))["items"]
    assert (row["state"], row["attempts"], row["error"]) == ("pending", 1, "the answer was 500")
    await alerting.deliver()
    assert len(receiver.got) == 1  # not due yet
    for wait in WAITS:
        clock.advance(wait)
        await alerting.deliver()
    async with console.database.reading() as db:
        notices = list(
            await db.scalars(select(Notice).where(Notice.topic == "alerts.delivery_failed"))
        )
    assert [one.data["given_up"] for one in notices] == [False, True]
    assert len(receiver.got) == 1 + len(WAITS)


async def test_a_silenced_rule_tells_nobody_until_the_silence_ends(
    operator: Api, alerting: Alerting, receiver: Receiver, clock: TestClock
) -> None:
    channel = await _channel(operator, receiver)
    rule = await operator.call(
        "POST", "/alerts/rules", 201,
        json={**RULE, "threshold": -1, "for_seconds": 0, "channels": [channel]},
    )  # fmt: skip
    path = f"/alerts/rules/{rule['id']}/silence"
    silenced = await operator.call("POST", path, json={"seconds": 300})
    assert silenced["silenced_by"] == "operator@example.com"
    await alerting.round()
    assert len((await operator.call("GET", "/alerts"))["items"]) == 1
    assert not receiver.got
    await operator.call("DELETE", path)
    await alerting.round()
    assert len(receiver.got) == 1


async def test_rules_are_changed_by_who_read_them(operator: Api, viewer: Api) -> None:
    rule = await operator.call("POST", "/alerts/rules", 201, json=RULE)
    path = f"/alerts/rules/{rule['id']}"
    await operator.call("POST", "/alerts/rules", 409, json=RULE)
    await operator.call("PUT", path, 428, json=RULE)
    await operator.call("PUT", path, 412, json=RULE, headers={"If-Match": '"7"'})
    changed = await operator.call(
        "PUT", path, json={**RULE, "threshold": 5}, headers={"If-Match": '"1"'}
    )
    assert (changed["threshold"], changed["version"]) == (5, 2)
    await viewer.call("PUT", path, 403, json=RULE)
    await viewer.call("DELETE", path, 403)
    assert [one["id"] for one in (await viewer.call("GET", "/alerts/rules"))["items"]] == [
        rule["id"]
    ]
    await operator.call("DELETE", path, 204)
    await operator.call("GET", path, 404)
    assert "queue.depth" in (await viewer.call("GET", "/alerts/metrics"))["items"]


async def test_bad_rules_get_a_sentence(operator: Api, subtests: pytest.Subtests) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"metric": "queue.dept"}, "queue.depth"),
        ({"threshold": None}, "/threshold"),
        ({"clear": 2}, "good side"),
        ({"channels": ["nobody"]}, "no channel nobody"),
        ({"for_seconds": -1}, "/for_seconds"),
        ({"name": "two\nlines"}, "/name"),
        ({"status": "ok"}, "/status"),
    ]
    for change, words in cases:
        with subtests.test(change=change, words=words):
            problem = await operator.call("POST", "/alerts/rules", 422, json={**RULE, **change})
            assert words in problem["detail"]


async def test_bad_channels_are_refused(operator: Api, subtests: pytest.Subtests) -> None:
    for kind, target in [
        ("webhook", "http://169.254.169.254/"),
        ("slack", "https://10.0.0.1/hook"),
        ("webhook", "https://example.com:8443/"),
        ("email", "nobody"),
        ("email", "a@example.com, b"),
        ("email", "a@example.com\nBcc: b@example.com"),
        ("pager", "https://example.com/"),
    ]:
        with subtests.test(kind=kind, target=target):
            body = {"name": "x", "kind": kind, "target": target}
            await operator.call("POST", "/alerts/channels", 422, json=body)


async def test_a_channel_keeps_its_target_sealed(
    operator: Api, alerting: Alerting, receiver: Receiver, console: Console
) -> None:
    channel = await _channel(operator, receiver)
    async with console.database.reading() as db:
        row = await db.get_one(AlertChannel, channel)
    assert receiver.url not in row.target_sealed
    tested = await operator.call("POST", f"/alerts/channels/{channel}/test")
    assert tested == {"delivered": True, "error": None}
    changed = await operator.call(
        "PUT", f"/alerts/channels/{channel}", headers={"If-Match": "*"},
        json={"name": "mail", "kind": "email", "target": "ops@example.com"},
    )  # fmt: skip
    assert changed["target"] == "ops@example.com"
    tested = await operator.call("POST", f"/alerts/channels/{channel}/test")
    assert tested == {"delivered": False, "error": "no mail server is set: CONVEYOR_SMTP_HOST"}
    assert len((await operator.call("GET", "/alerts/channels"))["items"]) == 1
    await operator.call("DELETE", f"/alerts/channels/{channel}", 204)
    await operator.call("POST", f"/alerts/channels/{channel}/test", 404)


async def test_an_email_is_sent(operator: Api, alerting: Alerting, console: Console) -> None:
    lines: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 test\r\n")
        while line := (await reader.readline()).decode().rstrip():
            lines.append(line)
            if line.upper() == "DATA":
                writer.write(b"354 go on\r\n")
                lines.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                writer.write(b"250 ok\r\n")
                continue
            writer.write(b"221 bye\r\n" if line.upper() == "QUIT" else b"250 ok\r\n")
            if line.upper() == "QUIT":
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    more = {
        "smtp_host": "127.0.0.1",
        "smtp_port": server.sockets[0].getsockname()[1],
        "smtp_security": "none",
    }
    console.settings = console.settings.model_copy(update=more)
    body = {"name": "m", "kind": "email", "target": "ada@example.com, bob@example.com"}
    channel = await operator.call("POST", "/alerts/channels", 201, json=body)
    tested = await operator.call("POST", f"/alerts/channels/{channel['id']}/test")
    server.close()
    await server.wait_closed()
    assert tested["delivered"], tested
    assert any("Subject: [test] info: a trial" in line for line in lines)
    assert sum(line.lower().startswith("rcpt to:") for line in lines) == 2


async def test_one_of_all_replicas_evaluates(
    operator: Api, alerting: Alerting, console: Console
) -> None:
    await operator.call("POST", "/alerts/rules", 201, json={**RULE, "threshold": -1})
    other = Alerting(console)
    await alerting.round()
    await other.round()
    assert (alerting._evaluations > 0, other._evaluations) == (True, 0)
    await alerting.close()
    await other.round()
    assert other._evaluations == 1
    await other.close()


async def test_what_is_old_is_forgotten(
    operator: Api, alerting: Alerting, console: Console, clock: TestClock, queue: Conveyor
) -> None:
    rule = {**RULE, "threshold": -1, "for_seconds": 0}
    made = await operator.call("POST", "/alerts/rules", 201, json=rule)
    await alerting.round()
    await operator.call(
        "PUT", f"/alerts/rules/{made['id']}", json={**rule, "enabled": False},
        headers={"If-Match": "*"},
    )  # fmt: skip
    (alert,) = (await operator.call("GET", "/alerts?limit=1"))["items"]
    assert alert["status"] == "resolved"
    async with console.database.writing() as db:
        await db.execute(update(Alert).values(resolved_at=clock.now() - timedelta(days=91)))
    alerting._evaluations = 0
    await alerting.round()
    await operator.call("GET", f"/alerts/{alert['id']}", 404)


async def test_whoever_ends_an_alert_those_are_told_who_were_told_of_it(
    operator: Api, alerting: Alerting, receiver: Receiver, console: Console, clock: TestClock
) -> None:
    """Disabled, changed to something else, deleted: no note that it fires stays without an end."""
    told = await _channel(operator, receiver)
    other = await _channel(operator, receiver, "slack")
    rule = {**RULE, "threshold": -1, "for_seconds": 0, "channels": [told]}
    ends: list[tuple[dict[str, Any] | None, str]] = [
        ({"enabled": False}, "disabled"), ({"metric": "workers.live"}, "changed"), (None, "deleted")
    ]  # fmt: skip
    for change, word in ends:
        made = await operator.call("POST", "/alerts/rules", 201, json={**rule, "name": word})
        path = f"/alerts/rules/{made['id']}"
        await alerting.round()
        again = {**rule, "name": word, "channels": [other]}
        await operator.call("PUT", path, json=again, headers={"If-Match": "*"})
        receiver.got.clear()
        if change is None:
            await operator.call("DELETE", path, 204)
            await operator.call("GET", path, 404)
        else:
            body = {**again, **change}
            await operator.call("PUT", path, json=body, headers={"If-Match": "*"})
        await alerting.deliver()
        said = [json.loads(got.body) for got in receiver.got]
        kinds = [(one["type"], one["rule"]) for one in said if "type" in one]
        assert kinds == [("alert.resolved", word)]
        why = f"the rule was {word} by operator@example.com"
        assert said[0]["summary"].startswith(f"{why}; before that: queue.depth is 0"), said
        async with console.database.reading() as db:
            newest = select(Notice).order_by(Notice.id.desc()).limit(1)
            notice = (await db.scalars(newest)).one()
        assert (notice.topic, notice.data["reason"]) == ("alerts.resolved", why)
        if change is not None:
            await operator.call("DELETE", path, 204)
    await operator.call("POST", "/alerts/rules", 201, json={**rule, "name": "deleted"})
    await alerting.round()
    async with console.database.reading() as db:
        assert list(await db.scalars(select(AlertRule.name))) == ["deleted"]


async def test_the_end_is_told_after_the_beginning(
    operator: Api, alerting: Alerting, receiver: Receiver, clock: TestClock
) -> None:
    receiver.answers(500)
    channels = [await _channel(operator, receiver)]
    rule = {**RULE, "threshold": -1, "for_seconds": 0, "channels": channels}
    made = await operator.call("POST", "/alerts/rules", 201, json=rule)
    await alerting.round()
    await operator.call("DELETE", f"/alerts/rules/{made['id']}", 204)
    await alerting.round()
    receiver.answers(200)
    receiver.got.clear()
    clock.advance(WAITS[0])
    await alerting.round()
    assert [json.loads(got.body)["type"] for got in receiver.got] == [
        "alert.firing", "alert.resolved"
    ]  # fmt: skip


async def test_one_poisoned_note_fails_alone(
    operator: Api, alerting: Alerting, receiver: Receiver, clock: TestClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    channels = [await _channel(operator, receiver, kind) for kind in ("webhook", "slack")]

    def broken(_: Any) -> Any:
        raise KeyError("what nobody thought of")

    rule = {**RULE, "threshold": -1, "for_seconds": 0, "channels": channels}
    await operator.call("POST", "/alerts/rules", 201, json=rule)
    with monkeypatch.context() as patch:
        patch.setattr("conveyor_console.alerts.telling.slack_body", broken)
        await alerting.round()
    (alert,) = (await operator.call("GET", "/alerts"))["items"]
    path = f"/alerts/{alert['id']}/deliveries"
    rows = {one["channel_id"]: one for one in (await operator.call("GET", path))["items"]}
    assert [rows[one]["state"] for one in channels] == ["delivered", "pending"]
    assert rows[channels[1]]["error"] == "an unexpected error (KeyError): see the log"
    clock.advance(WAITS[0])
    await alerting.round()
    rows = {one["channel_id"]: one for one in (await operator.call("GET", path))["items"]}
    assert [rows[one]["state"] for one in channels] == ["delivered", "delivered"]


async def test_a_channel_that_was_disabled_is_told_nothing_more(
    operator: Api, alerting: Alerting, receiver: Receiver
) -> None:
    channel = await _channel(operator, receiver)
    rule = {**RULE, "threshold": -1, "for_seconds": 0, "channels": [channel]}
    await operator.call("POST", "/alerts/rules", 201, json=rule)
    await alerting.evaluate()
    path = f"/alerts/channels/{channel}"
    body = {"name": "w", "kind": "webhook", "target": receiver.url, "enabled": False}
    await operator.call("PUT", path, json=body, headers={"If-Match": "*"})
    await alerting.deliver()
    await alerting.round()
    assert receiver.got == []
    (alert,) = (await operator.call("GET", "/alerts"))["items"]
    (told,) = (await operator.call("GET", f"/alerts/{alert['id']}/deliveries"))["items"]
    assert (told["state"], told["error"]) == ("failed", "the channel is disabled")
