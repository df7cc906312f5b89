"""Saved views: kept, changed, deleted, and nobody's business but their owner's."""

from __future__ import annotations

from typing import Any

from conveyor_console.auth.models import Role
from conveyor_console.console import Console
from conveyor_console.saved_views import router as views
from conveyor_console.saved_views.models import SavedView
from tests.console.conftest import Api

FAILED = {"of": "tasks", "name": "Failed mail", "q": "state:failed queue:mail", "sort": "-finished"}


async def test_a_view_is_kept_changed_and_deleted(viewer: Api) -> None:
    answer = await viewer.http.post("/api/v1/saved-views", json=FAILED)
    made: dict[str, Any] = answer.json()
    path = f"/saved-views/{made['id']}"
    assert (answer.status_code, answer.headers["etag"]) == (201, '"1"')
    assert {name: made[name] for name in FAILED} == FAILED
    assert await viewer.call("GET", path) == made
    changed = FAILED | {"name": "🐌 ‘slow’", "q": "run>1m", "sort": None}
    await viewer.call("PUT", path, 428, json=changed)
    await viewer.call("PUT", path, 412, json=changed, headers={"If-Match": '"7"'})
    after = await viewer.call("PUT", path, json=changed, headers={"If-Match": '"1"'})
    assert (after["name"], after["q"], after["sort"], after["version"]) == (
        "🐌 ‘slow’", "run>1m", None, 2,
    )  # fmt: skip
    await viewer.call("DELETE", path, 412, headers={"If-Match": '"1"'})
    await viewer.call("DELETE", path, 204)
    await viewer.call("GET", path, 404)


async def test_views_of_others_are_not_there(viewer: Api, operator: Api, admin: Api) -> None:
    mine = await viewer.call("POST", "/saved-views", 201, json=FAILED)
    path = f"/saved-views/{mine['id']}"
    for other in (operator, admin):
        await other.call("GET", path, 404)
        await other.call("PUT", path, 404, json=FAILED, headers={"If-Match": "*"})
        await other.call("DELETE", path, 404)
        assert (await other.call("GET", "/saved-views"))["items"] == []
        await other.call("POST", "/saved-views", 201, json=FAILED)  # a name is one's own
        await other.call("POST", "/saved-views", 422, json=FAILED | {"user_id": mine["id"]})
    assert await viewer.call("GET", path) == mine


async def test_names_pages_and_limits(
    viewer: Api, admin: Api, console: Console, users: dict[Role, str], monkeypatch: Any
) -> None:
    for of in ("tasks", "audit"):
        for name in ("b", "a"):
            await viewer.call("POST", "/saved-views", 201, json={"of": of, "name": name})
    await viewer.call("POST", "/saved-views", 409, json={"of": "tasks", "name": "a"})
    seen: list[tuple[str, str]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await viewer.call("GET", "/saved-views", params={"limit": 1, **cursor})
        seen += [(one["of"], one["name"]) for one in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [("audit", "a"), ("audit", "b"), ("tasks", "a"), ("tasks", "b")]
    tasks = (await viewer.call("GET", "/saved-views", params={"of": "tasks"}))["items"]
    assert [one["name"] for one in tasks] == ["a", "b"]
    stolen = FAILED | {"name": "b"}
    path = f"/saved-views/{tasks[0]['id']}"
    await viewer.call("PUT", path, 409, json=stolen, headers={"If-Match": "*"})
    for wrong in ({"of": "x"}, {"name": ""}, {"q": 'a "'}, {"q": "\n"}, {"sort": "x;"}):
        await viewer.call("POST", "/saved-views", 422, json=FAILED | wrong)
    once = {"Idempotency-Key": "k1"}
    made = await viewer.call("POST", "/saved-views", 201, json=FAILED, headers=once)
    assert await viewer.call("POST", "/saved-views", 201, json=FAILED, headers=once) == made
    monkeypatch.setattr(views, "MOST", 5)
    problem = await viewer.call("POST", "/saved-views", 409, json=FAILED | {"name": "c"})
    assert "delete one" in problem["detail"]
    await admin.call("DELETE", f"/users/{users[Role.VIEWER]}", 204)
    async with console.database.reading() as db:
        assert await db.get(SavedView, made["id"]) is None
