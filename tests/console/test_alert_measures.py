"""What rules are about: what the console measures, and what other programs report."""

from __future__ import annotations

from typing import Any

from conveyor import Conveyor
from conveyor.inspect import WorkerInfo
from conveyor_console.alerts import measures
from conveyor_console.alerts.alerting import Alerting
from conveyor_console.alerts.measures import FORGOTTEN, WINDOW, Roll
from tests.console.conftest import Api, TestClock

GREET: dict[str, Any] = {"name": "shop.greet", "args": ["Ada"]}
RULE: dict[str, Any] = {
    "name": "bounces", "metric": "queue.depth", "threshold": 1, "for_seconds": 0,
    "clear_seconds": 0, "severity": "critical",
}  # fmt: skip


async def test_a_rule_goes_by_what_a_program_reports(
    operator: Api, viewer: Api, admin: Api, alerting: Alerting, clock: TestClock
) -> None:
    rule = {**RULE, "metric": "campaign.bounce_rate", "target": "autumn", "threshold": 0.05}
    problem = await operator.call("POST", "/alerts/rules", 422, json=rule)
    assert "those that were reported" in problem["detail"]
    path = "/alerts/metrics/campaign.bounce_rate"
    await viewer.call("PUT", path, 403, json={"value": 1})
    await operator.call("PUT", "/alerts/metrics/queue.depth", 409, json={"value": 1})
    for name, body in (("x", {"value": 1}), ("a.b", {"value": 1, "why": 1}), ("a.b", {})):
        await operator.call("PUT", f"/alerts/metrics/{name}", 422, json=body)

    async def report(value: float, target: str = "autumn") -> None:
        made = await operator.call("PUT", path, json={"value": value, "target": target})
        assert (made["value"], made["reported_by"]) == (value, "operator@example.com")

    await report(0.01)
    await report(0.9, "spring")
    assert "campaign.bounce_rate" in (await viewer.call("GET", "/alerts/metrics"))["items"]
    made = await operator.call("POST", "/alerts/rules", 201, json={**rule, "for_seconds": 0})

    async def stands() -> tuple[str, float | None]:
        await alerting.evaluate()
        standing = (await viewer.call("GET", f"/alerts/rules/{made['id']}"))["standing"]
        return standing["status"], standing["value"]

    assert await stands() == ("ok", 0.01)
    await report(0.07)
    assert await stands() == ("firing", 0.07)
    clock.advance(301)  # it is good no longer: nothing is known, nothing changes
    assert await stands() == ("firing", None)
    first = await viewer.call("GET", path, params={"limit": 1})
    rest = await viewer.call("GET", path, params={"cursor": first["next_cursor"]})
    assert [one["target"] for one in first["items"] + rest["items"]] == ["autumn", "spring"]
    await operator.call("DELETE", path, 204)
    assert (await viewer.call("GET", path))["items"] == []
    entries = (await admin.call("GET", "/audit", params={"outcome": "done"}))["items"]
    made_by_us = {one["action"] for one in entries} - {"auth.login"}
    assert made_by_us == {"alerts.create_rule", "alerts.delete_metric"}


async def test_every_metric_measures_a_queue(
    operator: Api, queue: Conveyor, clock: TestClock, alerting: Alerting
) -> None:
    await operator.call("POST", "/tasks", 201, json=GREET)
    window = measures.Window()
    seen = await measures.look(queue, clock.now(), window.at(0), Roll())
    found = {name: await measure(seen, "default") for name, measure in measures.MEASURES.items()}
    assert found["queue.depth"] == 1
    assert found["queue.oldest_wait"] is not None
    assert found["tasks.failure_rate"] is None
    assert {name for name, value in found.items() if value == 0} >= {
        "tasks.dead_letters", "workers.live", "workers.lost", "schedules.missed"
    }  # fmt: skip


async def test_a_failure_rate_looks_back_five_minutes(queue: Conveyor) -> None:
    from conveyor.inspect import Event

    def event(state: str) -> Event:
        return Event("1", 0.0, "id", "mail", state)

    window = measures.Window()
    window.add([event("failed"), event("succeeded"), event("running")], 0)
    window.add([event("succeeded")] * 2, 10)
    assert window.at(11) == {("mail", "failed"): 1, ("mail", "succeeded"): 3}
    assert window.at(WINDOW) == {("mail", "succeeded"): 2}
    assert window.at(WINDOW + 10) == {}


def test_a_worker_that_stops_is_not_lost_and_one_that_dies_is() -> None:
    def worker(name: str, until: float) -> WorkerInfo:
        return WorkerInfo(id=name, host="h", pid=1, started_at=0, lease_until=until)

    roll = Roll()
    assert roll.lost([worker("a", 15), worker("b", 15)], 0) == 0
    assert roll.lost([worker("b", 15)], 5) == 0  # a gave its lease back
    assert roll.lost([], 16) == 1
    assert roll.lost([], 16 + WINDOW) == 0


def test_who_leads_again_calls_nobody_lost_that_left_meanwhile() -> None:
    worker = WorkerInfo(id="a", host="h", pid=1, started_at=0, lease_until=15)
    roll = Roll()
    assert roll.lost([worker], 5) == 0
    assert roll.lost([], 5 + FORGOTTEN + 1) == 0
