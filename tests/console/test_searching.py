"""Users, alerts and bulk actions by the one filter grammar."""

from __future__ import annotations

from typing import Any

from conveyor_console.alerts.alerting import Alerting
from conveyor_console.alerts.queries import SEARCH as ALERTS
from conveyor_console.api_keys.searching import SEARCH as KEYS
from conveyor_console.auth.models import Role
from conveyor_console.bulk_actions.searching import SEARCH as BULK_ACTIONS
from conveyor_console.console import Console
from conveyor_console.users.queries import SEARCH as USERS
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
            ("age<999999999w login>2020-01-01", ["admin"]),
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


async def test_lists_are_filtered(
    admin: Api, console: Console, clock: TestClock, users: dict[Role, str]
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
    for limit in ("smtp", "crm"):
        await admin.call("POST", "/limits/pause", 204, json={"limit": limit})
    await admin.call("POST", "/strikes", 201, json={"name": "shop.greet", "reason": "they asked"})
    clock.advance(600)
    for path, field, cases in TRIES:
        for q, wanted in cases:
            assert sorted(await found(admin, path, q, field)) == sorted(wanted), (path, q)
        await admin.call("GET", path, 422, params={"q": "nothing:x"})


def test_every_field_has_a_column() -> None:
    for one in (USERS, ALERTS, BULK_ACTIONS, KEYS):
        assert {field.attribute for field in one.fields.values()} == one.columns.keys()
