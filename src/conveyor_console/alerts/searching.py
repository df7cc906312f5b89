"""What the lists of rules and channels can be filtered by."""

from __future__ import annotations

from sqlalchemy import Double, case, cast, literal, select

from conveyor_console.alerts.models import AlertChannel, AlertRule, AlertStanding
from conveyor_console.alerts.rules import Status
from conveyor_console.kit.filters import Field, Kind
from conveyor_console.kit.grammar import FREE
from conveyor_console.kit.searching import Searching

_R, _C = AlertRule, AlertChannel
_SWITCH = ("yes", "no")
_blank = literal(" ")
_standing = select(AlertStanding.status).where(AlertStanding.rule_id == _R.id).scalar_subquery()
RULES = Searching(
    fields={
        "rule": Field(Kind.TEXT, "name"),
        "metric": Field(Kind.TEXT, "metric"),
        "target": Field(Kind.TEXT, "target"),
        "severity": Field(Kind.CHOICE, "severity", ("info", "warning", "critical")),
        "status": Field(Kind.CHOICE, "status", tuple(status.value for status in Status)),
        "enabled": Field(Kind.CHOICE, "enabled", _SWITCH),
        "threshold": Field(Kind.NUMBER, "threshold"),
        "silenced": Field(Kind.MOMENT, "silenced_until"),
        "age": Field(Kind.AGE, "created_at"),
        "created": Field(Kind.MOMENT, "created_at"),
        FREE: Field(Kind.WORDS, "text"),
    },
    columns={
        "name": _R.name.expression,
        "metric": _R.metric.expression,
        "target": _R.target.expression,
        "severity": _R.severity.expression,
        "status": _standing,
        "enabled": case((_R.enabled, "yes"), else_="no"),
        "threshold": cast(_R.threshold, Double),
        "silenced_until": _R.silenced_until.expression,
        "created_at": _R.created_at.expression,
        "text": _R.name + _blank + _R.metric + _blank + _R.target,
    },
)
CHANNELS = Searching(
    fields={
        "channel": Field(Kind.TEXT, "name"),
        "kind": Field(Kind.CHOICE, "kind", ("email", "webhook", "slack")),
        "enabled": Field(Kind.CHOICE, "enabled", _SWITCH),
        "age": Field(Kind.AGE, "created_at"),
        "created": Field(Kind.MOMENT, "created_at"),
        FREE: Field(Kind.WORDS, "name"),
    },
    columns={
        "name": _C.name.expression,
        "kind": _C.kind.expression,
        "enabled": case((_C.enabled, "yes"), else_="no"),
        "created_at": _C.created_at.expression,
    },
)
