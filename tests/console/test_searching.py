"""The lists of the console's own tables, and short ones, by the one filter grammar."""

from __future__ import annotations

from typing import Any

import pytest

from conveyor_console.alerts.alerting import Alerting
from conveyor_console.alerts.queries import SEARCH as ALERTS
from conveyor_console.alerts.searching import CHANNELS, RULES
from conveyor_console.api_keys.searching import SEARCH as KEYS
from conveyor_console.audit_log.searching import SEARCH as AUDIT
from conveyor_console.auth.models import Role
from conveyor_console.bulk_actions.searching import SEARCH as BULK_ACTIONS
from conveyor_console.console import Console
from conveyor_console.users.queries import INVITATIONS
from conveyor_console.users.queries import SEARCH as USERS
from conveyor_console.webhooks.searching import SEARCH as WEBHOOKS
from tests.console.conftest import Api, TestClock

TRIES: list[tuple[str, str, list[tuple[str, list[str]]]]] = [
    (
        "/users",
        "role",
        [
            ("", ["admin", "operator", "viewer"]),
            ("role:admin,viewer", ["admin", "viewer"]),
            ("-email:v*", ["admin", "operator"]),
            ("OPERATOR@", ["operator"]),
            ("disabled:no age>5m created>2026-11-27", ["admin", "operator", "viewer"]),
            ("age<5m", []),
            ("age<999999999w login>2020-01-01", ["admin", "viewer"]),
        ],
    ),
    (
        "/alerts",
        "severity",
        [
            ("status:firing severity:critical", ["critical"]),
            ("rule:deep*", ["info", "critical"]),
            ("metric:queue.depth deeper", ["info"]),
            ("value<1 age>5m -rule:deep", ["info"]),
            ("resolved>2020-01-01", []),
        ],
    ),
    (
        "/alerts/rules",
        "name",
        [
            ("status:firing severity:critical", ["deep"]),
            ("rule:deep* enabled:yes threshold<0 age>5m", ["deep", "deeper"]),
            ('QUEUE. -rule:deep target:""', ["deeper"]),
            ("silenced>2020-01-01", []),
        ],
    ),
    (
        "/alerts/channels",
        "name",
        [
            ("kind:email", ["the desk"]),
            ("channel:the* enabled:no", ["the hook"]),
            ("DESK created>2026-11-27", ["the desk"]),
            ("age<5m", []),
        ],
    ),
    (
        "/webhooks",
        "name",
        [
            ("topic:alerts by:admin@*", ["books"]),
            ("url:*example* enabled:yes", ["books"]),
            ("HOOKS.EXAMPLE", ["books"]),
            ("-name:books", ["stock"]),
            ("enabled:no age>5m", ["stock"]),
        ],
    ),
    (
        "/invitations",
        "role",
        [
            ("email:eve@* by:admin@*", ["viewer"]),
            ("role:operator expires>2026-11-28", ["operator"]),
            ("EXAMPLE.ORG age>5m", ["operator", "viewer"]),
            ("used>2020-01-01", []),
        ],
    ),
    (
        "/audit",
        "action",
        [
            ("action:invitations.* -detail:x", ["invitations.create"] * 2),
            ("action:webhooks.create by:admin@* outcome:done", ["webhooks.create"] * 2),
            ("target:limit:* key:x", []),
            ("outcome:refused status:403 age>5m at>2026-11-27", ["users.list_users"]),
            ("outcome:refused age<5m", []),
            ("THEY", ["strikes.add"]),
            ("-user:* outcome:done", []),
            ("ip:127.0.0.1 request:none", []),
        ],
    ),
    (
        "/workflows",
        "name",
        [
            ("workflow:on* status:running", ["onboard"]),
            ("by:admin@* reason:ENOUGH finished>2020-01-01", ["offboard"]),
            ("BOARD created>2020-01-01 -parent:*", ["offboard", "onboard"]),
            ("id:0* created<2020-01-01", []),
        ],
    ),
    (
        "/bulk-actions",
        "of",
        [
            ("of:dead-letters", ["dead-letters"]),
            ("action:discard state:planned", ["dead-letters", "tasks"]),
            ("reason:move by:admin@*", ["tasks"]),
            ("shop. done<1 failed:0 age>5m", ["dead-letters", "tasks"]),
        ],
    ),
    (
        "/api-keys",
        "name",
        [
            ("name:bill*", ["billing"]),
            ("revoked:no age>5m -used>2020-01-01", ["billing"]),
            ("prefix:cv_* expires<2027-01-01", ["billing"]),
            ("revoked:yes", []),
        ],
    ),
    (
        "/limits",
        "limit",
        [("limit:sm* paused:yes", ["smtp"]), ("crm running<1", ["crm"]), ("key:x", [])],
    ),
    (
        "/strikes",
        "name",
        [
            ("task:shop.* by:admin@*", ["shop.greet"]),
            ("reason:THEY", ["shop.greet"]),
            ("queue:x", []),
        ],
    ),
]


async def found(api: Api, path: str, q: str, field: str) -> list[Any]:
    return [one[field] for one in (await api.call("GET", path, params={"q": q}))["items"]]


async def fill(admin: Api) -> None:
    """Make two channels, two endpoints, two invitations."""
    url = "https://hooks.example.com/x"
    for name, kind, target in (("the desk", "email", "a@example.com"), ("the hook", "slack", url)):
        body = {"name": name, "kind": kind, "target": target, "enabled": kind == "email"}
        await admin.call("POST", "/alerts/channels", 201, json=body)
    for name, topic, place in (
        ("books", "alerts.firing", url),
        ("stock", "task.failed", "https://stock.net"),
    ):
        body = {"name": name, "url": place, "topics": [topic], "enabled": name == "books"}
        await admin.call("POST", "/webhooks", 201, json=body)
    for email, role in (("eve@example.org", "viewer"), ("zoe@example.org", "operator")):
        await admin.call("POST", "/invitations", 201, json={"email": email, "role": role})
    await start(admin, "onboard")
    run = await start(admin, "offboard")
    await admin.call("POST", f"/workflows/{run}/cancel", json={"reason": "enough"})


async def start(admin: Api, name: str) -> str:
    definition = {"name": name, "nodes": [{"name": "wait", "wait_for": "go"}]}
    made = await admin.call("POST", "/workflows", 201, json={"definition": definition})
    return str(made["id"])


async def test_lists_are_filtered(
    admin: Api, viewer: Api, console: Console, clock: TestClock, users: dict[Role, str]
) -> None:
    alerting = console.part(Alerting)
    await console.rest()
    rule = {"metric": "queue.depth", "threshold": -1, "for_seconds": 0}
    for name, severity in (("deep", "critical"), ("deeper", "info")):
        body = {**rule, "name": name, "severity": severity}
        await admin.call("POST", "/alerts/rules", 201, json=body)
    await alerting.evaluate()
    for of, reason in (("tasks", "a move"), ("dead-letters", "")):
        body = {"action": "discard", "of": of, "q": "task:shop.*", "reason": reason}
        await admin.call("POST", "/bulk-actions", 201, json=body)
    new = {"name": "billing", "scopes": ["tasks:enqueue"], "days": 30}
    await admin.call("POST", "/api-keys", 201, json=new)
    await fill(admin)
    await viewer.call("GET", "/users", 403)
    for limit in ("smtp", "crm"):
        await admin.call("POST", "/limits/pause", 204, json={"limit": limit})
    await admin.call("POST", "/strikes", 201, json={"name": "shop.greet", "reason": "they asked"})
    clock.advance(600)
    for path, field, cases in TRIES:
        for q, wanted in cases:
            assert sorted(await found(admin, path, q, field)) == sorted(wanted), (path, q)
        await admin.call("GET", path, 422, params={"q": "nothing:x"})


async def test_a_page_looks_through_so_many_at_most(
    admin: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conveyor_console.audit_log.queries.WINDOW", 3)
    monkeypatch.setattr("conveyor_console.workflows.listing.WINDOW", 3)
    monkeypatch.setattr("conveyor_console.workflows.listing._AT_ONCE", 3)
    for number in range(8):
        await start(admin, f"run {number}")
    for path, field, q, wanted, sorts in (
        ("/workflows", "name", 'workflow:"run 0","run 6"', ["run 6", "run 0"], [{}]),
        (
            "/audit",
            "detail",
            'detail:"run 0","run 6"',
            ["run 6", "run 0"],
            [{"sort": "-at"}, {"sort": "at"}],
        ),
    ):
        for sort in sorts:
            seen, cuts, params = [], 0, {"q": q, "limit": 2, **sort}
            while True:
                page = await admin.call("GET", path, params=params)
                seen += [one[field] for one in page["items"]]
                cuts += page["truncated"]
                if page["next_cursor"] is None:
                    break
                params["cursor"] = page["next_cursor"]
            assert seen == (wanted[::-1] if sort.get("sort") == "at" else wanted)
            assert cuts >= 2
    # What an index answers is all there is to say at once.
    page = await admin.call("GET", "/audit", params={"q": "action:workflows.start", "limit": 8})
    assert (len(page["items"]), page["truncated"], page["next_cursor"]) == (8, False, None)


def test_every_field_has_a_column() -> None:
    tables = (USERS, INVITATIONS, ALERTS, RULES, CHANNELS, BULK_ACTIONS, KEYS, WEBHOOKS, AUDIT)
    for one in tables:
        assert {field.attribute for field in one.fields.values()} == one.columns.keys()
