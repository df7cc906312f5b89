"""What the audit log can be filtered by."""

from __future__ import annotations

from sqlalchemy import Double, cast, literal

from conveyor_console.audit.models import AuditEntry, Outcome
from conveyor_console.kit.filters import Field, Kind
from conveyor_console.kit.grammar import FREE
from conveyor_console.kit.searching import Searching

_A = AuditEntry
_blank = literal(" ")
SEARCH = Searching(
    fields={
        "user": Field(Kind.TEXT, "user_id"),
        "by": Field(Kind.TEXT, "actor"),
        "key": Field(Kind.TEXT, "key_id"),
        "action": Field(Kind.TEXT, "action"),
        "target": Field(Kind.TEXT, "target"),
        "outcome": Field(Kind.CHOICE, "outcome", tuple(one.value for one in Outcome)),
        "status": Field(Kind.NUMBER, "status"),
        "detail": Field(Kind.WORDS, "detail"),
        "ip": Field(Kind.TEXT, "ip"),
        "request": Field(Kind.TEXT, "request_id"),
        "age": Field(Kind.AGE, "at"),
        "at": Field(Kind.MOMENT, "at"),
        FREE: Field(Kind.WORDS, "text"),
    },
    columns={
        "user_id": _A.user_id.expression,
        "actor": _A.actor.expression,
        "key_id": _A.key_id.expression,
        "action": _A.action.expression,
        "target": _A.target.expression,
        "outcome": _A.outcome.expression,
        "status": cast(_A.status, Double),
        "detail": _A.detail.expression,
        "ip": _A.ip.expression,
        "request_id": _A.request_id.expression,
        "at": _A.at.expression,
        "text": _A.actor + _blank + _A.action + _blank + _A.target + _blank + _A.detail,
    },
)
INDEXED = ("request_id", "target", "user_id", "actor", "ip", "action", "outcome")
"""With the id behind each: what leaves the fewest entries comes first."""
