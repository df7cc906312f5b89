"""Tasks over HTTP: the list of the living and the finished, the detail, and what people do."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import update

from conveyor import Conveyor, Rate
from conveyor.inspect import State
from conveyor.sealing import Keyring
from conveyor_console.console import Console
from conveyor_console.history.models import Task
from tests.console.conftest import Api
from tests.console.history_kit import shop
from tests.running import at_work, ended

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def queue(sqlite_url: str) -> Conveyor:
    return shop(sqlite_url)


@pytest.fixture
async def ids(queue: Conveyor, app: FastAPI, console: Console) -> dict[str, str]:
    """Tasks in all states, the oldest first; the recorder has seen the finished ones."""
    await console.rest()
    names = queue.definitions
    made = {
        "greeted": await names["shop.greet"].enqueue("Ada", loud=True),
        "failed": await names["shop.fail"].enqueue("no money"),
        "recovered": await names["shop.recover"].enqueue(7),
        "mailed": await names["shop.greet"].with_options(queue="mail", key="k").enqueue("Eve"),
    }
    async with at_work(queue, queues=("default", "mail")):
        for handle in made.values():
            await ended(handle)
    later = names["shop.greet"].with_options(delay=3_600, headers={"created_by": "bob"})
    made["cancelled"] = await later.enqueue("late")
    await made["cancelled"].cancel("no need")
    made["scheduled"] = await later.enqueue("later")
    made["queued"] = await names["shop.greet"].enqueue("now")
    await console.recorder.catch_up()
    return {name: handle.id for name, handle in made.items()}


async def listed(api: Api, ids: dict[str, str], q: str = "", **more: Any) -> list[str]:
    answer = await api.call("GET", "/tasks", params={"q": q, **more})
    assert not answer["truncated"]
    names = {task_id: name for name, task_id in ids.items()}
    return [names[item["id"]] for item in answer["items"]]


async def test_living_and_finished_tasks_are_one_list(viewer: Api, ids: dict[str, str]) -> None:
    assert await listed(viewer, ids) == list(ids)[::-1]


async def test_arguments_that_json_cannot_say_hide_no_task(
    viewer: Api, ids: dict[str, str], queue: Conveyor, console: Console
) -> None:
    @queue.task(name="shop.any")
    async def anything(value: Any) -> None: ...

    odd = [{None: 1}, {(1, 2): 3}, {True: [b"x"]}, {"a": {None: {"b": 2}}}]
    said = [{"None": 1}, {"(1, 2)": 3}, {"True": ["eA=="]}, {"a": {"None": {"b": 2}}}]
    made = [await anything.enqueue(value) for value in odd]
    for living in (True, False):
        found = await viewer.call("GET", "/tasks", params={"q": "task:shop.any"})
        assert [item["args"] for item in found["items"]] == [[value] for value in said[::-1]]
        one = await viewer.call("GET", f"/tasks/{made[0].id}")
        assert one["args"] == [said[0]]
        if living:
            for handle in made:
                await handle.cancel()
            await console.recorder.catch_up()
    async with console.database.writing() as db:
        await db.execute(update(Task).where(Task.id == made[0].id).values(call='"((), {})"'))
    found = await viewer.call("GET", "/tasks", params={"q": "task:shop.any"})
    assert found["items"][-1]["args"] == ["((), {})"]


async def test_pages_say_everything_once(viewer: Api, ids: dict[str, str]) -> None:
    for limit in (1, 2, 3, 6, 7):
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            answer = await viewer.call("GET", "/tasks", params={"limit": limit, **cursor})
            assert len(answer["items"]) <= limit
            seen += [item["id"] for item in answer["items"]]
            if answer["next_cursor"] is None:
                break
            cursor = {"cursor": answer["next_cursor"]}
        assert seen == list(ids.values())[::-1]


async def test_they_can_be_ordered_by_their_end(viewer: Api, ids: dict[str, str]) -> None:
    up = await listed(viewer, ids, sort="finished")
    down = await listed(viewer, ids, sort="-finished")
    assert up == down[::-1]
    assert set(up) == {"greeted", "failed", "recovered", "mailed", "cancelled"}
    assert await listed(viewer, ids, "state:failed,queued", sort="finished") == ["failed"]
    first = await viewer.call("GET", "/tasks", params={"sort": "finished", "limit": 2})
    cursor = {"cursor": first["next_cursor"], "limit": "2"}
    rest = await viewer.call("GET", "/tasks", params={"sort": "finished", **cursor})
    names = [ids[name] for name in up[:4]]
    assert [one["id"] for one in first["items"] + rest["items"]] == names
    for other in ("-finished", "-id"):
        await viewer.call("GET", "/tasks", 422, params={"sort": other, **cursor})


async def test_those_that_have_not_ended_can_be_ordered_from_the_oldest(
    viewer: Api, ids: dict[str, str]
) -> None:
    up = await listed(viewer, ids, sort="id")
    assert up == [name for name in ids if name in {"scheduled", "queued"}]
    assert await listed(viewer, ids, "state:queued,failed", sort="id") == ["queued"]
    first = await viewer.call("GET", "/tasks", params={"sort": "id", "limit": 1})
    rest = await viewer.call(
        "GET", "/tasks", params={"sort": "id", "q": "", "cursor": first["next_cursor"]}
    )
    assert [one["id"] for one in first["items"] + rest["items"]] == [ids[name] for name in up]


FILTERS: list[tuple[str, list[str]]] = [
    ("state:failed", ["failed"]),
    ("state:failed,cancelled", ["cancelled", "failed"]),
    ("-state:succeeded", ["queued", "scheduled", "cancelled", "failed"]),
    ("state:queued", ["queued"]),
    ("task:shop.greet", ["queued", "scheduled", "cancelled", "mailed", "greeted"]),
    ("task:shop.r* ", ["recovered"]),
    ("task:*.f*,shop.recover", ["recovered", "failed"]),
    ("-task:shop.g*", ["recovered", "failed"]),
    ("queue:mail", ["mailed"]),
    ("queue:ma*,x", ["mailed"]),
    ("-queue:mail state:succeeded", ["recovered", "greeted"]),
    ("key:k", ["mailed"]),
    ('error:"NO MONEY"', ["failed"]),
    ("error:valueerror", ["failed"]),
    ("reason:need", ["cancelled"]),
    ("args.name:Ada", ["greeted"]),
    ("args.loud:true args.name:A*", ["greeted"]),
    ("args.name:A* args.loud:false", []),
    ("args.name:*true", []),  # that is where the next argument ends
    ("args.name:*d* args.loud:t*e", ["greeted"]),
    ("error:*", ["failed"]),
    ("error:VALUE*MONEY", ["failed"]),
    ('error:"value*money"', []),
    ("-error:* state:failed", []),
    ("ValueError*money", ["failed"]),
    ("args.number:7", ["recovered"]),
    ("args.name:now", ["queued"]),
    ("-args.name:*a* state:succeeded,queued", ["queued", "mailed", "recovered"]),
    ("by:bob", ["scheduled", "cancelled"]),
    ("attempts>0", ["recovered", "failed"]),
    ("attempts:3", ["failed"]),
    ("priority>=5 priority<6 state:failed", ["failed"]),
    ("age<365000d state:failed", ["failed"]),
    ("enqueued<2001-01-01", []),
    ("finished>2001-01-01 -error:money", ["cancelled", "mailed", "recovered", "greeted"]),
    ("run<1h task:shop.greet", ["mailed", "greeted"]),
    ("attempts>99999999999", []),
    ("attempts:2.5", []),
    ("age>999999999w", []),
    ("task:\x00,\x01*", []),
    ("money", ["failed"]),
    ("recover", ["recovered"]),
]


async def test_one_grammar_filters_both(viewer: Api, ids: dict[str, str]) -> None:
    for q, names in FILTERS:
        assert await listed(viewer, ids, q) == names, q
        assert await listed(viewer, ids, q, limit=200) == names, q


UNREADABLE = [
    ("stat:failed", "column 1: there is no field 'stat': did you mean state?"),
    ("state:failed queue:", "column 20: a value is missing"),
    ('x "open', "column 3: the quote is never closed"),
    ("state:dead", "column 7: state is one of"),
    ("age:1h", "write age>"),
    ("age>soon", "column 5: 'soon' is no duration"),
    ("enqueued>then", "no time"),
    ("attempts>x", "no number"),
    ("attempts>nan", "no number"),
    ("queue>x", "has no >"),
    ("args:x", "args.name:value"),
    ("queue.x:y", "nothing inside"),
    ("a " * 21, "more than 20 terms"),
    ("x" * 1_001, "1000"),
    ("age>1h,2h", "one value"),
]


async def test_a_filter_that_cannot_be_read_says_where(viewer: Api) -> None:
    for q, words in UNREADABLE:
        problem = await viewer.call("GET", "/tasks", 422, params={"q": q})
        assert words in problem["detail"], q


async def test_pages_have_limits(viewer: Api, subtests: pytest.Subtests) -> None:
    for params in [{"cursor": "x"}, {"limit": 0}, {"limit": 201}, {"sort": "x"}]:
        with subtests.test(params=params):
            await viewer.call("GET", "/tasks", 422, params=params)


async def test_the_detail_says_all(viewer: Api, ids: dict[str, str]) -> None:
    task = await viewer.call("GET", f"/tasks/{ids['recovered']}")
    assert [one["outcome"] for one in task["executions"]] == ["failed", "succeeded"]
    assert "TimeoutError" in task["executions"][0]["error"]["traceback"]
    assert (task["result"], task["args"], task["state"]) == (7, [7], "succeeded")
    assert task["parents"] == task["children"] == []
    queued = await viewer.call("GET", f"/tasks/{ids['queued']}")
    assert (queued["state"], queued["executions"], queued["result"]) == ("queued", [], None)
    await viewer.call("GET", f"/tasks/{NOBODY}", 404)
    await viewer.call("GET", "/tasks/nobody", 422)


async def test_what_the_broker_forgot_the_history_knows(
    viewer: Api, operator: Api, ids: dict[str, str], queue: Conveyor
) -> None:
    before = await viewer.call("GET", f"/tasks/{ids['failed']}")
    await (await queue.client()).broker.discard([ids["failed"]])
    after = await viewer.call("GET", f"/tasks/{ids['failed']}")
    assert after == before
    problem = await operator.call("POST", f"/tasks/{ids['failed']}/retry", 409)
    assert "no longer" in problem["detail"]
    await operator.call("POST", f"/tasks/{NOBODY}/retry", 404)


async def test_why(viewer: Api, ids: dict[str, str]) -> None:
    answer = await viewer.call("GET", f"/tasks/{ids['scheduled']}/why")
    assert answer["reasons"][0]["code"] == "due"
    answer = await viewer.call("GET", f"/tasks/{ids['failed']}/why")
    assert answer["reasons"][0]["code"] == "finished"


async def test_cancelling(operator: Api, viewer: Api, ids: dict[str, str], queue: Conveyor) -> None:
    path = f"/tasks/{ids['scheduled']}/cancel"
    await viewer.call("POST", path, 403, json={})
    done = await operator.call("POST", path, json={"reason": "a mistake"})
    assert done == {"id": ids["scheduled"], "state": "cancelled"}
    info = await queue.handle(ids["scheduled"]).info()
    assert "operator@example.com" in (info.reason or "")
    assert "a mistake" in (info.reason or "")
    await operator.call("POST", path, 409, json={})


async def test_retrying(operator: Api, ids: dict[str, str], queue: Conveyor) -> None:
    done = await operator.call("POST", f"/tasks/{ids['failed']}/retry")
    assert done == {"id": ids["failed"], "state": "queued"}
    problem = await operator.call("POST", f"/tasks/{ids['greeted']}/retry", 409)
    assert "succeeded" in problem["detail"]


async def test_running_now(operator: Api, ids: dict[str, str], queue: Conveyor) -> None:
    await operator.call("POST", f"/tasks/{ids['scheduled']}/run-now")
    moved = await queue.handle(ids["scheduled"]).info()
    assert moved.state is State.QUEUED or (moved.due_at or 0.0) <= queue.clock.time()
    await operator.call("POST", f"/tasks/{ids['failed']}/run-now", 409)
    await operator.call("POST", f"/tasks/{ids['queued']}/run-now", 409)


async def test_retrying_with_other_arguments(
    operator: Api, ids: dict[str, str], queue: Conveyor
) -> None:
    path = f"/tasks/{ids['failed']}/retry-edited"
    await operator.call("POST", path, 422, json={"args": [7]})
    made = await operator.call("POST", path, 201, json={"args": ["other"], "queue": "mail"})
    info = await queue.handle(made["id"]).info()
    assert (info.args, info.queue, info.headers) == (
        ("other",),
        "mail",
        {"created_by": "operator@example.com", "retry_of": ids["failed"]},
    )
    await operator.call("POST", f"/tasks/{ids['greeted']}/retry-edited", 409, json={})


async def test_rescheduling(operator: Api, ids: dict[str, str], queue: Conveyor) -> None:
    path = f"/tasks/{ids['scheduled']}/reschedule"
    await operator.call("POST", path, 422, json={})
    before = (await queue.handle(ids["scheduled"]).info()).due_at or 0.0
    made = await operator.call("POST", path, 201, json={"delay": 7_200})
    assert made == {"id": ids["scheduled"], "created": False}
    info = await queue.handle(made["id"]).info()
    assert (info.state.value, info.headers) == ("scheduled", {"created_by": "bob"})
    assert (info.due_at or 0.0) > before + 3_000
    path = f"/tasks/{ids['queued']}/reschedule"
    made = await operator.call("POST", path, 201, json={"delay": 7_200})
    info = await queue.handle(made["id"]).info()
    assert (info.args, info.state.value) == (("now",), "scheduled")
    assert (await queue.handle(ids["queued"]).status()).value == "cancelled"
    await operator.call("POST", path, 409, json={"delay": 1})


async def test_what_cannot_be_rescheduled_says_why_and_what_to_do(
    operator: Api, console: Console, queue: Conveyor
) -> None:
    await console.rest()
    limited = queue.task(name="shop.slow", rate_limit=Rate("1/s"))(_nothing)
    single = queue.task(name="shop.single", unique="until_done")(_nothing)
    greet = queue.definitions["shop.greet"].with_options(key="mine")
    body = {"delay": 7_200}
    moved = await limited.enqueue()
    made = await operator.call("POST", f"/tasks/{moved.id}/reschedule", 201, json=body)
    assert (await queue.handle(made["id"]).info()).state is State.SCHEDULED
    alone = await single.enqueue()
    problem = await operator.call("POST", f"/tasks/{alone.id}/reschedule", 409, json=body)
    assert "is unique: cancel it and enqueue it anew" in problem["detail"]
    keyed = await greet.enqueue("Ada")
    path = f"/tasks/{keyed.id}/reschedule"
    problem = await operator.call("POST", path, 409, json=body)
    assert "cancel it, discard the dead letter, which frees the key" in problem["detail"]
    # What it says is true.
    await operator.call("POST", f"/tasks/{keyed.id}/cancel", json={})
    await console.recorder.catch_up()
    await operator.call("DELETE", f"/dead-letters/{keyed.id}", 204)
    anew = {"name": "shop.greet", "args": ["Ada"], "key": "mine", **body}
    again = await operator.call("POST", "/tasks", 201, json=anew)
    assert again["created"]
    await operator.call("POST", f"/tasks/{again['id']}/reschedule", 201, json={"delay": 10})


async def _nothing() -> None:
    return None


async def test_sealed_arguments_stay_sealed(
    operator: Api, app: FastAPI, console: Console, queue: Conveyor
) -> None:
    await console.rest()
    queue.packing.keys = Keyring({"k1": b"k" * 32})

    @queue.task(name="shop.pay", encrypt=("card",))
    async def pay(customer: int, card: str) -> None:
        raise ValueError("declined")

    handle = await pay.enqueue(7, "4111-1111")
    async with at_work(queue):
        await ended(handle)
    await console.recorder.catch_up()
    for q in ("", "state:failed", "args.customer:7"):
        (item,) = (await operator.call("GET", "/tasks", params={"q": q}))["items"]
        assert item["args"] == [7, "<sealed with key k1>"]
    path = f"/tasks/{handle.id}/retry-edited"
    problem = await operator.call("POST", path, 422, json={"queue": "x"})
    assert "sealed" in problem["detail"]
    made = await operator.call("POST", path, 201, json={"args": [8, "4222"]})
    assert (await queue.handle(made["id"]).info()).args == (8, "<sealed with key k1>")


async def test_odd_bodies_are_the_callers_mistake(
    operator: Api, ids: dict[str, str], subtests: pytest.Subtests
) -> None:
    for verb, body in [
        ("cancel", {"reason": "\x00"}),
        ("cancel", {"reason": "x" * 501}),
        ("cancel", {"by": "x"}),
        ("reschedule", {"delay": 1e300}),
        ("reschedule", {"delay": -1}),
        ("reschedule", {"at": "soon"}),
        ("retry-edited", {"args": [], "priority": 11}),
        ("retry-edited", {"queue": "no spaces"}),
        ("retry-edited", {"args": [1e308, None, {"a": []}]}),
        ("retry-edited", {"kwargs": {"": 1}}),
    ]:
        with subtests.test(verb=verb, body=body):
            for name in ("scheduled", "failed"):
                answer = await operator.http.post(f"/api/v1/tasks/{ids[name]}/{verb}", json=body)
                assert 400 <= answer.status_code < 500, answer.text


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
async def test_a_time_beyond_the_calendar_can_be_listed(
    operator: Api, ids: dict[str, str], at: str
) -> None:
    made = await operator.call(
        "POST", f"/tasks/{ids['scheduled']}/reschedule", 201, json={"at": at}
    )
    await operator.call("GET", "/tasks")
    await operator.call("GET", f"/tasks/{made['id']}")
    await operator.call("GET", f"/tasks/{made['id']}/why")
