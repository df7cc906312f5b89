"""Every text that a body holds and that is kept: how to send one, and where to read it back.

`FIELDS` and `ELSEWHERE` together must name every text of every body of the API: a new one fails
`test_naughty.py` until it has a row.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import quote

from conveyor import Conveyor
from conveyor.workers import WorkerInfo
from tests.console.conftest import PASSWORD, Api

Taker = Callable[[Api, str], Awaitable[list[Any]]]
ANY = {"If-Match": "*"}
_numbers = count()


class Row(NamedTuple):
    """Fields that one function fills in with one text; it returns what is read of each afterwards.
    `most` is the longest text that all of them take."""

    take: Taker
    most: int
    fields: str
    typed: bool = False
    """What people type again to name a thing: printable text."""
    one_line: bool = True
    """What begins a new line is refused, and not kept as it is."""
    in_queue: bool = True
    """Kept by the queue's store, or else by the console's database."""


async def people(api: Api, text: str) -> list[Any]:
    number = next(_numbers)
    body = {"email": f"n{number}@example.com", "password": PASSWORD, "name": text}
    made = await api.call("POST", "/users", 201, json=body)
    path = f"/users/{made['id']}"
    changed = await api.call("PATCH", path, json={"name": text}, headers=ANY)
    return [made["name"], changed["name"], (await api.call("GET", path))["name"]]


async def key_name(api: Api, text: str) -> list[Any]:
    body = {"name": text, "scopes": ["tasks:read"]}
    made = (await api.call("POST", "/api-keys", 201, json=body))["api_key"]
    found = [k for k in (await api.call("GET", "/api-keys"))["items"] if k["id"] == made["id"]]
    await api.call("DELETE", f"/api-keys/{made['id']}", 204)
    return [one["name"] for one in found]


async def queue_reason(api: Api, text: str) -> list[Any]:
    await api.call("POST", "/queues/default/pause", json={"reason": text})
    return [(await api.call("GET", "/queues/default"))["pause"]["reason"]]


async def maintenance_reason(api: Api, text: str) -> list[Any]:
    await api.call("POST", "/system/maintenance", json={"reason": text})
    found = (await api.call("GET", "/system/maintenance"))["reason"]
    await api.call("DELETE", "/system/maintenance")
    return [found]


async def schedule(api: Api, text: str) -> list[Any]:
    made = await api.call(
        "POST", "/schedules", 201,
        json={"name": text, "task": "shop.take", "args": [text], "kwargs": {text: text},
              "every": 60},
    )  # fmt: skip
    path = f"/schedules/{quote(made['name'], safe='')}"
    found = await api.call("GET", path)
    await api.call("DELETE", path, 204, headers=ANY)
    return [found["name"], *found["args"], *found["kwargs"], *found["kwargs"].values()]


async def schedule_reason(api: Api, text: str) -> list[Any]:
    await api.call("POST", "/schedules/nightly/pause", json={"reason": text})
    return [(await api.call("GET", "/schedules/nightly"))["pause"]["reason"]]


async def limit_reason(api: Api, text: str) -> list[Any]:
    await api.call("POST", "/limits/pause", 204, json={"limit": "shop", "reason": text})
    (found,) = (await api.call("GET", "/limits", params={"limit_name": "shop"}))["items"]
    await api.call("POST", "/limits/resume", 204, json={"limit": "shop"})
    return [found["pause"]["reason"]]


async def limit_name(api: Api, text: str) -> list[Any]:
    one = {"limit": text, "key": text}
    await api.call("POST", "/limits/pause", 204, json=one)
    await api.call("POST", "/limits/tune", 204, json={"limit": text, "most": 7})
    rows = (await api.call("GET", "/limits", params={"limit_name": text}))["items"]
    (found,) = [row for row in rows if row["key"]]
    await api.call("POST", "/limits/resume", 204, json=one)
    await api.call("POST", "/limits/tune", 204, json={"limit": text})
    return [found["key"], *{row["limit"] for row in rows}, *{7 for row in rows if row["most"] != 7}]


async def strike(api: Api, text: str) -> list[Any]:
    where = f"customer == {json.dumps(text, ensure_ascii=False)}"
    body = {"queue": "q", "where": [where], "reason": text}
    made = await api.call("POST", "/strikes", 201, json=body)
    found = await _strike(api, made["id"])
    return [found["reason"], found["where"][0]["value"]]


async def strike_name(api: Api, text: str) -> list[Any]:
    made = await api.call("POST", "/strikes", 201, json={"name": text, "queue": "q"})
    return [(await _strike(api, made["id"]))["name"]]


async def _strike(api: Api, strike_id: str) -> Any:
    """One of them; none is lifted, for that takes until every worker has heard of it."""
    every = (await api.call("GET", "/strikes", params={"limit": 200}))["items"]
    return next(one for one in every if one["id"] == strike_id)


async def rule(api: Api, text: str) -> list[Any]:
    body = {"name": text, "target": text, "metric": "queue.depth", "threshold": 1}
    path = f"/alerts/rules/{(await api.call('POST', '/alerts/rules', 201, json=body))['id']}"
    first = await api.call("GET", path)
    await api.call("PUT", path, json=body | {"threshold": 2}, headers=ANY)
    second = await api.call("GET", path)
    await api.call("DELETE", path, 204)
    return [one[name] for one in (first, second) for name in ("name", "target")]


async def reported(api: Api, text: str) -> list[Any]:
    path = "/alerts/metrics/naughty.texts"
    made = await api.call("PUT", path, json={"value": 1, "target": text})
    (found,) = (await api.call("GET", path))["items"]
    await api.call("DELETE", path, 204)
    return [made["target"], found["target"]]


async def channel(api: Api, text: str) -> list[Any]:
    body = {"name": text, "kind": "webhook", "target": "https://example.com/x"}
    made = await api.call("POST", "/alerts/channels", 201, json=body)
    path = f"/alerts/channels/{made['id']}"
    changed = await api.call("PUT", path, json=body | {"enabled": False}, headers=ANY)
    (found,) = (await api.call("GET", "/alerts/channels"))["items"]
    await api.call("DELETE", path, 204)
    return [made["name"], changed["name"], found["name"]]


async def webhook(api: Api, text: str) -> list[Any]:
    # Letters of every language may stand in a URL; spaces and the like are written otherwise.
    url = f"https://example.com/{quote(text, errors='replace')}"
    body = {"name": text, "url": url, "topics": ["task.failed"]}
    path = f"/webhooks/{(await api.call('POST', '/webhooks', 201, json=body))['webhook']['id']}"
    first = await api.call("GET", path)
    await api.call("PUT", path, json=body | {"enabled": False}, headers=ANY)
    second = await api.call("GET", path)
    await api.call("DELETE", path, 204)
    assert first["url"] == second["url"] == url
    return [first["name"], second["name"]]


async def view(api: Api, text: str) -> list[Any]:
    query = f'error:"{_quoted(text)}"'
    body = {"of": "tasks", "name": text, "q": query}
    path = f"/saved-views/{(await api.call('POST', '/saved-views', 201, json=body))['id']}"
    first = await api.call("GET", path)
    await api.call("PUT", path, json=body | {"sort": "id"}, headers=ANY)
    second = await api.call("GET", path)
    await api.call("DELETE", path, 204)
    assert first["q"] == second["q"] == query
    return [first["name"], second["name"]]


async def bulk_action(api: Api, text: str) -> list[Any]:
    query = f'task:no.such reason:"{_quoted(text)}"'
    body = {"action": "cancel", "q": query, "reason": text}
    made = await api.call("POST", "/bulk-actions", 201, json=body)
    found = await api.call("GET", f"/bulk-actions/{made['id']}")
    assert found["q"] == query
    return [found["reason"]]


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


async def worker_reason(api: Api, text: str) -> list[Any]:
    found = []
    for order in ("pause", "drain", "shutdown", "resume"):
        await api.call("POST", f"/workers/w1/{order}", 202, json={"reason": text})
        told = (await api.call("GET", "/workers/w1"))["order"]
        found += [told["reason"]] if told else []
    assert len(found) >= 3
    return found


async def living_worker(queue: Conveyor) -> None:
    """A worker that lives, as far as the store can tell, and hears nothing."""
    said = WorkerInfo(id="w1", host="alpha", pid=7, started_at=time.time(), concurrency=1)
    await (await queue.client()).broker.renew(["w1"], 3_600.0, said)


async def workflow(api: Api, text: str) -> list[Any]:
    node = {"name": text, "task": "shop.take", "args": [text], "kwargs": {text: text}}
    body = {"definition": {"name": text, "nodes": [node]}, "inputs": {text: text}}
    run = (await api.call("POST", "/workflows", 201, json=body))["id"]
    await api.call("POST", f"/workflows/{run}/cancel", json={"reason": text})
    found = await api.call("GET", f"/workflows/{run}")
    told = (await api.call("GET", f"/workflows/{run}/definition"))["nodes"][0]
    return [found["reason"], found["name"], told["name"], *told["args"], *told["kwargs"].values()]


async def signal_name(api: Api, text: str) -> list[Any]:
    definition = {"name": "w", "nodes": [{"name": "a", "wait_for": text}]}
    run = (await api.call("POST", "/workflows", 201, json={"definition": definition}))["id"]
    await api.call("POST", f"/workflows/{run}/signals", 204, json={"name": text, "value": text})
    told = (await api.call("GET", f"/workflows/{run}/definition"))["nodes"][0]["wait_for"]
    return [told]


async def many_tasks(api: Api, text: str) -> list[Any]:
    one = {"name": "shop.take", "args": [text], "kwargs": {text: text}, "key": text, "delay": 60}
    (made,) = (await api.call("POST", "/tasks/bulk", 201, json={"tasks": [one]}))["items"]
    found = await api.call("GET", f"/tasks/{made['id']}")
    await api.call("POST", f"/tasks/{made['id']}/cancel", json={"reason": text})
    reason = (await api.call("GET", f"/tasks/{made['id']}"))["reason"]
    return [
        found["key"], *found["args"], *found["kwargs"], *found["kwargs"].values(),
        text if reason.endswith(text) else reason,
    ]  # fmt: skip


FIELDS = [
    Row(people, 200, "POST /users /name, PATCH /users/{user_id} /name", in_queue=False),
    Row(key_name, 200, "POST /api-keys /name", in_queue=False),
    Row(queue_reason, 500, "POST /queues/{name}/pause /reason"),
    Row(maintenance_reason, 500, "POST /system/maintenance /reason"),
    Row(schedule, 200, "POST /schedules /name /args/* /kwargs/*", typed=True),
    Row(schedule_reason, 500, "POST /schedules/{name}/pause /reason"),
    Row(limit_reason, 500, "POST /limits/pause /reason"),
    Row(
        limit_name, 256,
        "POST /limits/pause /limit /key, POST /limits/resume /limit /key, POST /limits/tune /limit",
        typed=True,
    ),
    Row(strike, 400, "POST /strikes /reason /where/*"),
    Row(strike_name, 256, "POST /strikes /name", typed=True),
    Row(
        rule, 100,
        "POST /alerts/rules /name /target, PUT /alerts/rules/{rule_id} /name /target",
        in_queue=False,
    ),
    Row(reported, 200, "PUT /alerts/metrics/{name} /target", in_queue=False),
    Row(
        channel, 100,
        "POST /alerts/channels /name, PUT /alerts/channels/{channel_id} /name",
        in_queue=False,
    ),
    Row(
        webhook, 100,
        "POST /webhooks /name /url, PUT /webhooks/{webhook_id} /name /url",
        in_queue=False,
    ),
    Row(
        view, 100,
        "POST /saved-views /name /q, PUT /saved-views/{view_id} /name /q",
        in_queue=False,
    ),
    Row(bulk_action, 400, "POST /bulk-actions /reason /q", in_queue=False),
    Row(
        worker_reason, 500,
        "POST /workers/{worker_id}/pause /reason, POST /workers/{worker_id}/resume /reason, "
        "POST /workers/{worker_id}/drain /reason, POST /workers/{worker_id}/shutdown /reason",
    ),
    Row(
        workflow, 100,
        "POST /workflows /definition/* /inputs/*, POST /workflows/{run_id}/cancel /reason",
        typed=True,
    ),
    Row(signal_name, 200, "POST /workflows/{run_id}/signals /name", typed=True),
    Row(
        many_tasks, 256,
        "POST /tasks/bulk /tasks/*/args/* /tasks/*/kwargs/* /tasks/*/key",
        one_line=False,
    ),
]  # fmt: skip
_NOT_KEPT = "it is looked for or checked, and not kept"
_NAMES = "it names what there is, of letters that the queue allows"
_TIMES = "times are read, and said anew"
ELSEWHERE: Mapping[str, str] = {
    "POST /auth/login /email /password": "test_credentials_of_any_text_work_or_are_refused",
    "POST /auth/register /email /name /password": "test_who_registers_is_called_as_they_say",
    "POST /auth/register /invitation": _NOT_KEPT,
    "POST /auth/refresh /refresh_token": _NOT_KEPT,
    "POST /auth/password /current /new": "test_credentials_of_any_text_work_or_are_refused",
    "POST /users /email /password": "test_credentials_of_any_text_work_or_are_refused",
    "POST /invitations /email": "test_who_registers_is_called_as_they_say",
    "POST /tasks /args/* /kwargs/*": "test_arguments_results_and_errors_come_back_unchanged",
    "POST /tasks /key": "test_keys_of_tasks_and_reasons_come_back_unchanged",
    "POST /tasks /name /queue": _NAMES,
    "POST /tasks/bulk /tasks/*/name /tasks/*/queue": _NAMES,
    "POST /tasks/{task_id}/cancel /reason": "test_keys_of_tasks_and_reasons_come_back_unchanged",
    "POST /tasks/{task_id}/retry-edited /args/* /kwargs/*": (
        "test_arguments_results_and_errors_come_back_unchanged"
    ),
    "POST /tasks/{task_id}/retry-edited /queue": _NAMES,
    "POST /saved-views /sort": _NAMES,
    "PUT /saved-views/{view_id} /sort": _NAMES,
    "POST /dead-letters/requeue /ids/* /q": _NOT_KEPT,
    "POST /dead-letters/discard /ids/* /q": _NOT_KEPT,
    "POST /schedules /cron /tz": _TIMES,
    "POST /schedules /task /queue": _NAMES,
    "POST /schedules/preview /cron /tz": _NOT_KEPT,
    "PATCH /schedules/{name} /cron /tz": _TIMES,
    "PATCH /schedules/{name} /queue": _NAMES,
    "POST /workflows/{run_id}/signals /value": (
        "test_arguments_results_and_errors_come_back_unchanged"
    ),
    "POST /workflows/{run_id}/retry /node": _NOT_KEPT,
    "POST /limits/tune /rate": _TIMES,
    "POST /strikes /queue": _NAMES,
    "POST /alerts/rules /metric /channels/*": _NAMES,
    "PUT /alerts/rules/{rule_id} /metric /channels/*": _NAMES,
    "POST /alerts/channels /target": "it is a secret: no answer shows it",
    "PUT /alerts/channels/{channel_id} /target": "it is a secret: no answer shows it",
    "POST /alerts/{alert_id}/acknowledge /note": "test_notes_come_back_unchanged",
}
"""The test that sends them, or why there is nothing to read back."""


def named() -> list[str]:
    """Every field that has a row, as `POST /users /name`."""
    rows = [part for row in FIELDS for part in row.fields.split(", ")]
    found = []
    for row in (*rows, *ELSEWHERE):
        method, path, *pointers = row.split(" ")
        found += [f"{method} {path} {pointer}" for pointer in pointers]
    return sorted(found)


def texts_of(whole: Mapping[str, Any]) -> list[str]:
    """Every text of every body that an OpenAPI document describes, named the same way."""
    found = set()
    for path, operations in whole["paths"].items():
        for method, operation in operations.items():
            if (body := operation.get("requestBody")) is not None:
                schema = body["content"]["application/json"]["schema"]
                place = f"{method.upper()} {path.removeprefix('/api/v1')}"
                found |= {f"{place} {one}" for one in _texts(schema, whole, "")}
    return sorted(found)


def _texts(schema: Mapping[str, Any], whole: Mapping[str, Any], at: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _texts(one, whole, at)
    kind = schema.get("type")
    chosen = {"enum", "const", "anyOf", "oneOf", "required"} & schema.keys()
    if kind == "array":
        yield from _texts(schema.get("items", {}), whole, f"{at}/*")
    elif kind == "object":
        for name, field in schema.get("properties", {}).items():
            yield from _texts(field, whole, f"{at}/{name}")
        if schema.get("additionalProperties", "properties" not in schema):
            yield f"{at}/*"
    elif kind in {None, "string"} and not chosen and schema.get("format") != "date-time":
        yield at
