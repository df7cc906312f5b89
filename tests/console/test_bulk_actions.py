"""Bulk actions: a plan, its preview, a paced run, what stops it, and what a crash leaves."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select

from conveyor import Conveyor
from conveyor.errors import BrokerUnavailable
from conveyor_console.bulk_actions import acting
from conveyor_console.bulk_actions.models import BulkAction
from conveyor_console.bulk_actions.running import Running
from conveyor_console.console import Console
from conveyor_console.live.notices import Notice
from tests.console.conftest import Api, TestClock
from tests.console.history_kit import letters, shop
from tests.running import at_work, ended

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def queue(sqlite_url: str) -> Conveyor:
    return shop(sqlite_url)


@pytest.fixture
async def running(app: FastAPI, console: Console) -> Running:
    """The part that runs bulk actions; only the test lets it."""
    await console.rest()
    return console.part(Running)


async def scheduled(queue: Conveyor, number: int) -> list[str]:
    later = queue.definitions["shop.greet"].with_options(delay=3_600)
    return [(await later.enqueue(f"n{place}")).id for place in range(number)]


async def dead(queue: Conveyor, console: Console, number: int) -> list[str]:
    handles = [await queue.definitions["shop.fail"].enqueue("money") for _ in range(number)]
    async with at_work(queue):
        for handle in handles:
            await ended(handle)
    await console.recorder.catch_up()
    return [handle.id for handle in handles]


async def planned(api: Api, action: str, q: str = "", **more: Any) -> dict[str, Any]:
    body = {"action": action, "q": q, **more}
    found: dict[str, Any] = await api.call("POST", "/bulk-actions", 201, json=body)
    return found


async def shown(api: Api, plan: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = await api.call("GET", f"/bulk-actions/{plan['id']}")
    return found


async def started(api: Api, plan: dict[str, Any], grace: float = 0) -> dict[str, Any]:
    path = f"/bulk-actions/{plan['id']}/run"
    found: dict[str, Any] = await api.call("POST", path, 202, json={"grace": grace})
    return found


async def told(console: Console, plan: dict[str, Any]) -> list[tuple[str, int]]:
    """What streams are told of an action: what happened, and how many were done by then."""
    async with console.database.reading() as db:
        rows = await db.scalars(select(Notice).order_by(Notice.id))
        mine = [one for one in rows if one.data["id"] == plan["id"]]
    return [(one.topic.removeprefix("bulk-actions."), one.data["done"]) for one in mine]


async def test_a_plan_counts_and_does_nothing(
    operator: Api, viewer: Api, running: Running, queue: Conveyor, clock: TestClock
) -> None:
    ids = await scheduled(queue, 3)
    plan = await planned(operator, "cancel", "args.name:n1,n2", reason="a mistake")
    assert (plan["state"], plan["count"], plan["is_exact"]) == ("planned", 2, True)
    assert [one["id"] for one in plan["sample"]] == [ids[2], ids[1]]
    assert await shown(viewer, plan) == plan
    await running.round()
    assert (await queue.handle(ids[2]).status()).value == "scheduled"
    for action, number in (("run-now", 3), ("requeue", 0), ("discard", 0)):
        assert (await planned(operator, action))["count"] == number
    listed = await viewer.call("GET", "/bulk-actions", params={"limit": 3})
    assert [one["action"] for one in listed["items"]] == ["discard", "requeue", "run-now"]
    rest = await viewer.call("GET", "/bulk-actions", params={"cursor": listed["next_cursor"]})
    assert (rest["items"], rest["next_cursor"]) == ([plan], None)
    assert (await viewer.call("GET", "/bulk-actions", params={"state": "done"}))["items"] == []
    clock.advance(10 * 60)
    assert (await shown(viewer, plan))["state"] == "expired"
    problem = await operator.call("POST", f"/bulk-actions/{plan['id']}/run", 409)
    assert "expired" in problem["detail"]


async def test_who_may_and_what_is_refused(
    operator: Api, viewer: Api, admin: Api, running: Running, queue: Conveyor
) -> None:
    await scheduled(queue, 1)
    body = {"action": "cancel", "q": ""}
    await viewer.call("POST", "/bulk-actions", 403, json=body)
    for wrong in ({"q": "stat:x"}, {"action": "burn"}, {"per_second": 0}, {"state": "done"}):
        await operator.call("POST", "/bulk-actions", 422, json=body | wrong)
    once = {"Idempotency-Key": "k1"}
    plan = await operator.call("POST", "/bulk-actions", 201, json=body, headers=once)
    again = await operator.call("POST", "/bulk-actions", 201, json=body, headers=once)
    assert again == plan
    for verb in ("run", "undo", "abort"):
        await viewer.call("POST", f"/bulk-actions/{plan['id']}/{verb}", 403)
        await operator.call("POST", f"/bulk-actions/{NOBODY}/{verb}", 404)
    for verb in ("undo", "abort"):
        await operator.call("POST", f"/bulk-actions/{plan['id']}/{verb}", 409)
    empty = await planned(operator, "requeue")
    await operator.call("POST", f"/bulk-actions/{empty['id']}/run", 409)
    await started(operator, plan)
    await operator.call("POST", f"/bulk-actions/{plan['id']}/run", 409)
    entries = (await admin.call("GET", "/audit", params={"action": "bulk-actions.*"}))["items"]
    done = [one["action"] for one in entries if one["outcome"] == "done"]
    assert done == ["bulk-actions.run", "bulk-actions.plan", "bulk-actions.plan"]


async def test_a_run_within_its_grace_can_be_undone(
    operator: Api, running: Running, queue: Conveyor, clock: TestClock
) -> None:
    ids = await scheduled(queue, 2)
    plan = await planned(operator, "cancel")
    assert (await operator.call("POST", f"/bulk-actions/{plan['id']}/run", 202))[
        "state"
    ] == "waiting"
    clock.advance(9.9)
    await running.round()
    assert (await shown(operator, plan))["state"] == "waiting"
    undone = await operator.call("POST", f"/bulk-actions/{plan['id']}/undo")
    assert (undone["state"], undone["done"]) == ("undone", 0)
    clock.advance(60)
    await running.round()
    assert [(await queue.handle(one).status()).value for one in ids] == ["scheduled"] * 2


async def test_cancelling_goes_on_at_its_pace_and_takes_no_newcomers(
    operator: Api, running: Running, queue: Conveyor, console: Console
) -> None:
    ids = await scheduled(queue, 5)
    plan = await planned(operator, "cancel", per_second=2, reason="no need")
    await started(operator, plan)
    (newcomer,) = await scheduled(queue, 1)
    await running.round()
    now = await shown(operator, plan)
    assert (now["state"], now["done"], now["inverse"]) == ("running", 2, None)
    await queue.handle(ids[0]).cancel("by hand")
    for _ in range(3):
        await running.round()
    now = await shown(operator, plan)
    assert (now["state"], now["done"], now["failed"], now["skipped"]) == ("done", 4, 0, {})
    assert (await queue.handle(newcomer).status()).value == "scheduled"
    info = await queue.handle(ids[4]).info()
    assert f"bulk action {plan['id']}: no need" in (info.reason or "")
    assert "operator@example.com" in (info.reason or "")
    # What takes it back is a plan as any other.
    await console.recorder.catch_up()
    back = await planned(operator, **now["inverse"])
    assert back["count"] == 4
    what = [("created", 0), ("started", 0), ("progress", 2), ("progress", 4), ("done", 4)]
    assert await told(console, plan) == what


async def test_an_aborted_run_leaves_the_rest_alone(
    operator: Api, running: Running, queue: Conveyor, console: Console
) -> None:
    ids = await scheduled(queue, 4)
    plan = await planned(operator, "run-now", per_second=1)
    await started(operator, plan)
    await running.round()
    aborted = await operator.call("POST", f"/bulk-actions/{plan['id']}/abort")
    assert (aborted["state"], aborted["done"]) == ("aborted", 1)
    await running.round()
    states = [(await queue.handle(one).status()).value for one in ids]
    assert states == ["scheduled"] * 4
    due = [(await queue.handle(one).info()).due_at or 0.0 for one in ids]
    assert due[3] < min(due[:3]) - 3_000
    await operator.call("POST", f"/bulk-actions/{plan['id']}/undo", 409)
    assert (await told(console, plan))[-2:] == [("progress", 1), ("aborted", 1)]


async def test_many_are_rescheduled(operator: Api, running: Running, queue: Conveyor) -> None:
    ids = await scheduled(queue, 2)
    body = {"action": "reschedule", "q": ""}
    at = "2099-01-02T00:00:00Z"
    due: set[float] = set()
    for wrong in ({}, {"at": at, "delay": 1}, {"at": at, "action": "cancel"}):
        await operator.call("POST", "/bulk-actions", 422, json=body | wrong)
    for when in ({"at": at}, {"delay": 60}):
        plan = await planned(operator, "reschedule", **when)
        assert (plan["at"], plan["delay"]) == (when.get("at"), when.get("delay"))
        await started(operator, plan)
        for _ in range(2):
            await running.round()
        assert (await shown(operator, plan))["done"] == 2
        due = {(await queue.handle(one).info()).due_at or 0.0 for one in ids}
        assert (due == {4_070_995_200.0}) is ("at" in when)
    assert max(due) < 4_000_000_000


async def test_dead_letters_get_another_life_once(
    operator: Api,
    running: Running,
    queue: Conveyor,
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = await dead(queue, console, 3)
    plan = await planned(operator, "requeue", "error:money")
    assert plan["count"] == 3
    await started(operator, plan)

    async def dies(*_: Any) -> None:
        raise RuntimeError("the process dies")

    with monkeypatch.context() as patch:  # after the queue did it, before it was counted
        patch.setattr(running, "_count", dies)
        with pytest.raises(RuntimeError):
            await running.round()
    # One lives and dies again meanwhile: it must not get a third life.
    async with at_work(queue):
        for one in ids:
            await ended(queue.handle(one))
    await console.recorder.catch_up()
    executions = (await queue.handle(ids[0]).info()).execution
    await running.round()
    now = await shown(operator, plan)
    assert (now["state"], now["done"], now["skipped"]) == ("done", 0, {acting.REPEATED: 3})
    assert [(await queue.handle(one).info()).execution for one in ids] == [executions] * 3
    assert await letters(console) == set(ids)


async def test_a_plan_by_the_filter_of_dead_letters(
    operator: Api, running: Running, queue: Conveyor, console: Console
) -> None:
    ids = await dead(queue, console, 3)
    late = await queue.definitions["shop.greet"].with_options(delay=3_600).enqueue("late")
    await late.cancel("no need")
    await console.recorder.catch_up()
    letter = (await operator.call("GET", "/dead-letters", params={"q": "error:money"}))["items"][0]
    body = {"of": "dead-letters", "q": ""}
    for wrong in ({"action": "cancel"}, {"action": "discard", "q": "args.x:1"}):
        await operator.call("POST", "/bulk-actions", 422, json=body | wrong)
    for q, number in (("", 4), ("state:cancelled reason:need", 1), ("died>2020-01-01", 4)):
        assert (await planned(operator, "discard", q, of="dead-letters"))["count"] == number
    kind = f"fingerprint:{letter['fingerprint']} died>2020-01-01"
    plan = await planned(operator, "requeue", kind, of="dead-letters", per_second=2)
    assert (plan["of"], plan["count"], plan["is_exact"]) == ("dead-letters", 3, True)
    assert [one["id"] for one in plan["sample"]] == ids[::-1]
    await started(operator, plan)
    for _ in range(3):
        await running.round()
    now = await shown(operator, plan)
    assert (now["state"], now["done"], now["skipped"]) == ("done", 3, {})
    assert await letters(console) == {late.id}
    assert [(await queue.handle(one).status()).value for one in ids] == ["queued"] * 3


async def test_what_the_store_refuses_is_tried_again(
    operator: Api,
    running: Running,
    queue: Conveyor,
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = await dead(queue, console, 2)
    plan = await planned(operator, "discard")
    await started(operator, plan)

    async def away(*_: Any) -> Any:
        raise BrokerUnavailable("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(acting, "act", away)
        await running.round()
    now = await shown(operator, plan)
    assert (now["state"], now["done"], now["error"]) == ("running", 0, "the store is away")
    await running.round()
    now = await shown(operator, plan)
    assert (now["state"], now["done"], now["error"]) == ("done", 2, None)
    assert await letters(console) == set()
    assert await operator.call("GET", f"/tasks/{ids[0]}")


async def test_of_two_processes_one_runs_and_one_counts(
    operator: Api, running: Running, queue: Conveyor, console: Console
) -> None:
    ids = await scheduled(queue, 2)
    plan = await planned(operator, "cancel")
    await started(operator, plan)
    other = Running(console)
    lot = await running._begin(plan["id"])
    assert lot is not None
    await other.advance(plan["id"])  # it takes over what the first has begun
    row, _ = lot
    targets = [acting.Target(*one) for one in row.pending]  # type: ignore[arg-type]
    await running._count(row, targets, acting.Done(ids))
    assert (await shown(operator, plan))["done"] == 2
    await scheduled(queue, 3)
    second = await planned(operator, "cancel", per_second=1)
    await started(operator, second)
    for part, number in ((running, 1), (other, 1), (running, 2)):
        await part.round()
        assert (await shown(operator, second))["done"] == number
    await running.close()
    await other.round()
    assert (await shown(operator, second))["done"] == 3
    await other.close()
    async with console.database.reading() as db:
        found = await db.get(BulkAction, plan["id"])
        assert found is not None
        assert (found.lot, found.pending) == (1, [])


async def test_a_run_looks_further_than_its_plan(
    operator: Api, running: Running, queue: Conveyor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conveyor_console.bulk_actions.choosing._LOOKS", 1)
    monkeypatch.setattr("conveyor_console.bulk_actions.choosing._SCANNED", 1_000)
    monkeypatch.setattr("conveyor_console.history.living._PAGE", 1_000)
    later = queue.definitions["shop.greet"].with_options(delay=3_600)
    needle = await later.enqueue("needle")
    await queue.enqueue_many([later.bind("hay")] * 1_000)
    plan = await planned(operator, "cancel", "args.name:needle")
    assert (plan["count"], plan["is_exact"]) == (0, False)
    await started(operator, plan)
    for _ in range(4):
        await running.round()
    assert (await shown(operator, plan))["done"] == 1
    assert (await needle.status()).value == "cancelled"
