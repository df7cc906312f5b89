"""Limits, strikes, and what is asked of the system as a whole."""

from __future__ import annotations

import pytest

from conveyor import Conveyor
from conveyor.limits import Adapt, Concurrency, Rate, limit
from conveyor_console.console import Console
from conveyor_console.system.operating import shown
from tests.console.conftest import SECRET, Api


@pytest.fixture
async def limited(queue: Conveyor, console: Console) -> Conveyor:
    """A task with two limits."""

    @queue.task(
        name="crm.call",
        queue="crm",
        rate_limit=Rate("50/s", name="crm", key=lambda tenant: tenant, adapt=Adapt()),
        concurrency=Concurrency(3),
    )
    async def call(tenant: str) -> None: ...

    return queue


async def test_limits_are_paused_tuned_and_let_go(operator: Api, limited: Conveyor) -> None:
    assert (await operator.call("GET", "/limits"))["items"] == []
    body = {"limit": "crm", "key": "acme", "seconds": 60, "reason": "they asked"}
    await operator.call("POST", "/limits/pause", 204, json=body)
    await operator.call("POST", "/limits/pause", 204, json={"limit": "mail"})
    first = await operator.call("GET", "/limits?limit=1")
    (paused,) = first["items"]
    assert (paused["limit"], paused["key"], paused["pause"]["reason"]) == (
        "crm",
        "acme",
        "they asked",
    )
    assert paused["pause"]["until"].endswith("Z")
    assert paused["pause"]["by"] == "operator@example.com"
    rest = await operator.call("GET", f"/limits?cursor={first['next_cursor']}")
    assert [one["limit"] for one in rest["items"]] == ["mail"]
    assert rest["items"][0]["pause"]["until"] is None

    await operator.call("POST", "/limits/tune", 204, json={"limit": "crm", "rate": "10/s"})
    tuned = (await operator.call("GET", "/limits?limit_name=crm"))["items"]
    assert {one["rate"] for one in tuned} == {10.0}
    await operator.call("POST", "/limits/tune", 204, json={"limit": "crm"})
    for one in ({"limit": "crm", "key": "acme"}, {"limit": "mail"}):
        await operator.call("POST", "/limits/resume", 204, json=one)
    left = (await operator.call("GET", "/limits"))["items"]
    assert all(one["pause"] is None and one["rate"] is None for one in left)


async def test_what_a_limit_has_learned_is_shown(viewer: Api, limited: Conveyor) -> None:
    assert await limit("crm", app=limited).slow_down() == 25.0
    (found,) = (await viewer.call("GET", "/limits?limit_name=crm"))["items"]
    assert found["rate"] == 25.0
    assert (found["learned"]["rate"], found["learned"]["stated"]) == (25.0, 50.0)


async def test_limits_as_the_code_states_them(viewer: Api, limited: Conveyor) -> None:
    rate, slots = sorted(
        (await viewer.call("GET", "/limits/stated"))["items"], key=lambda one: one["rate"] is None
    )
    assert (rate["limit"], rate["rate"], rate["burst"], rate["keyed"], rate["adapts"]) == (
        "crm",
        "50/s",
        1.0,
        True,
        True,
    )
    assert (slots["most"], slots["queues"], slots["tasks"]) == (3, ["crm"], ["crm.call"])


async def test_bad_limits_get_a_sentence(operator: Api, subtests: pytest.Subtests) -> None:
    for path, body, words in [
        ("pause", {"limit": ""}, "/limit"),
        ("pause", {"limit": "crm", "until": "2027-01-01T00:00:00"}, "/until"),
        ("pause", {"limit": "crm", "until": "2027-01-01T00:00:00Z", "seconds": 1}, "not both"),
        ("pause", {"limit": "crm", "seconds": 0}, "/seconds"),
        ("tune", {"limit": "crm", "rate": "fast"}, "fast"),
        ("tune", {"limit": "crm", "most": 0}, "/most"),
        ("resume", {}, "/limit"),
    ]:
        with subtests.test(path=path, body=body, words=words):
            problem = await operator.call("POST", f"/limits/{path}", 422, json=body)
            assert words in problem["detail"]


async def test_strikes_hold_back_until_lifted(operator: Api, viewer: Api) -> None:
    body = {"name": "shop.*", "where": ["name == Ada"], "reason": "they asked"}
    made = await operator.call("POST", "/strikes", 201, json=body)
    assert made["where"] == [{"argument": "name", "operator": "==", "value": "Ada"}]
    assert made["by"] == "operator@example.com"
    other = await operator.call("POST", "/strikes", 201, json={"queue": "mail"})
    first = await viewer.call("GET", "/strikes?limit=1")
    second = await viewer.call("GET", f"/strikes?cursor={first['next_cursor']}")
    assert [*first["items"], *second["items"]] == [made, other]
    await viewer.call("DELETE", f"/strikes/{made['id']}", 403)
    lifted = await operator.call("DELETE", f"/strikes/{made['id']}")
    assert lifted == {"freed": 0}
    problem = await operator.call("DELETE", f"/strikes/{made['id']}", 404)
    assert "no strike has the id" in problem["detail"]


async def test_bad_strikes_get_a_sentence(operator: Api, subtests: pytest.Subtests) -> None:
    for body, words in [
        ({}, "needs a task name, a queue or an argument"),
        ({"where": ["nonsense"]}, "customer_id == 7"),
        ({"queue": "no spaces"}, "no spaces"),
        ({"name": ""}, "/name"),
        ({"name": "x", "until": "soon"}, "/until"),
        ({"name": "x", "by": "me"}, "/by"),
    ]:
        with subtests.test(body=body, words=words):
            assert words in (await operator.call("POST", "/strikes", 422, json=body))["detail"]


async def test_the_doctor_finds_nothing(operator: Api) -> None:
    assert await operator.call("GET", "/system/doctor") == {
        "healthy": True,
        "violations": [],
        "overdue_schedules": [],
    }


async def test_settings_hold_no_secret(viewer: Api, console: Console) -> None:
    found = await viewer.call("GET", "/system/settings")
    assert found["secret_key"] is True
    assert SECRET not in str(found)
    told = console.settings.model_copy(update={"database_url": "postgresql://me:hush@db/x"})
    assert shown(told)["database_url"] == "postgresql://me:***@db/x"
    kept = await viewer.call("GET", "/system/retention")
    assert (kept["history_days"], kept["succeeded"], kept["dead"]) == (30, 86_400, 2_592_000)


async def test_maintenance_pauses_all_and_lets_go_what_it_paused(
    admin: Api, operator: Api, queue: Conveyor
) -> None:
    greet = queue.definition("shop.greet")
    for name in ("a", "b", "c"):
        await greet.with_options(queue=name).enqueue("Ada")
    await operator.call("POST", "/queues/a/pause", json={"reason": "mine"})
    await operator.call("POST", "/system/maintenance", 403)
    begun = await admin.call("POST", "/system/maintenance", json={"reason": "a new disk"})
    assert (begun["active"], begun["queues"]) == (True, ["b", "c"])
    assert await operator.call("GET", "/system/maintenance") == begun
    await admin.call("POST", "/system/maintenance", 409)
    paused = (await operator.call("GET", "/queues/b"))["pause"]
    assert (paused["reason"], paused["by"]) == ("maintenance: a new disk", "admin@example.com")
    await operator.call("POST", "/queues/c/pause", json={"reason": "mine too"})
    ended = await admin.call("DELETE", "/system/maintenance")
    assert (ended["active"], ended["queues"]) == (False, ["b"])
    reasons = {
        one["name"]: one["pause"] and one["pause"]["reason"]
        for one in (await operator.call("GET", "/queues"))["items"]
    }
    assert reasons == {"a": "mine", "b": None, "c": "mine too"}
    assert (await admin.call("DELETE", "/system/maintenance"))["queues"] == []


async def test_what_was_done_is_in_the_audit_log(admin: Api, queue: Conveyor) -> None:
    await queue.definition("shop.greet").enqueue("Ada")
    await admin.call("POST", "/queues/default/pause", json={"reason": "a move"})
    (entry,) = [
        one
        for one in (await admin.call("GET", "/audit"))["items"]
        if one["action"] == "queues.pause"
    ]
    assert (entry["target"], entry["detail"]) == ("queue:default", "a move")
