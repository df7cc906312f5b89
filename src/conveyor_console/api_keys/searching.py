"""What the list of keys can be filtered by."""

from __future__ import annotations

from sqlalchemy import case, literal

from conveyor_console.auth.models import ApiKey
from conveyor_console.kit.filters import Field, Kind
from conveyor_console.kit.grammar import FREE
from conveyor_console.kit.searching import Searching

SEARCH = Searching(
    fields={
        "name": Field(Kind.TEXT, "name"),
        "prefix": Field(Kind.TEXT, "prefix"),
        "revoked": Field(Kind.CHOICE, "revoked", ("yes", "no")),
        "age": Field(Kind.AGE, "created_at"),
        "created": Field(Kind.MOMENT, "created_at"),
        "expires": Field(Kind.MOMENT, "expires_at"),
        "used": Field(Kind.MOMENT, "last_used_at"),
        FREE: Field(Kind.WORDS, "text"),
    },
    columns={
        "name": ApiKey.name.expression,
        "prefix": ApiKey.prefix.expression,
        "revoked": case((ApiKey.revoked_at.is_(None), "no"), else_="yes"),
        "created_at": ApiKey.created_at.expression,
        "expires_at": ApiKey.expires_at.expression,
        "last_used_at": ApiKey.last_used_at.expression,
        "text": ApiKey.name + literal(" ") + ApiKey.prefix,
    },
)
