"""What the list of endpoints can be filtered by."""

from __future__ import annotations

from sqlalchemy import String, case, cast, literal

from conveyor_console.kit.filters import Field, Kind
from conveyor_console.kit.grammar import FREE
from conveyor_console.kit.searching import Searching
from conveyor_console.webhooks.models import Webhook

_W = Webhook
SEARCH = Searching(
    fields={
        "name": Field(Kind.TEXT, "name"),
        "url": Field(Kind.TEXT, "url"),
        "topic": Field(Kind.WORDS, "topics"),
        "enabled": Field(Kind.CHOICE, "enabled", ("yes", "no")),
        "by": Field(Kind.TEXT, "created_by"),
        "age": Field(Kind.AGE, "created_at"),
        "created": Field(Kind.MOMENT, "created_at"),
        FREE: Field(Kind.WORDS, "text"),
    },
    columns={
        "name": _W.name.expression,
        "url": _W.url.expression,
        "topics": cast(_W.topics, String),
        "enabled": case((_W.enabled, "yes"), else_="no"),
        "created_by": _W.created_by.expression,
        "created_at": _W.created_at.expression,
        "text": _W.name + literal(" ") + _W.url,
    },
)
