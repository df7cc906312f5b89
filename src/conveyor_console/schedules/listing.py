"""What the list of schedules can be filtered by, and its orders."""

from __future__ import annotations

from typing import Any

from conveyor_console.kit.filters import Field, Kind
from conveyor_console.kit.grammar import FREE
from conveyor_console.kit.listing import Listing


def _read(info: Any, attribute: str) -> Any:
    if attribute == "is_paused":
        return "no" if info.paused is None else "yes"
    if attribute == "text":
        return f"{info.name} {info.task} {info.timing}"
    return getattr(info, attribute)


LISTING: Listing[Any] = Listing(
    fields={
        "schedule": Field(Kind.TEXT, "name"),
        "task": Field(Kind.TEXT, "task"),
        "queue": Field(Kind.TEXT, "queue"),
        "paused": Field(Kind.CHOICE, "is_paused", ("yes", "no")),
        "source": Field(Kind.CHOICE, "source", ("code", "runtime")),
        "priority": Field(Kind.NUMBER, "priority"),
        "fired": Field(Kind.NUMBER, "fired"),
        "skipped": Field(Kind.NUMBER, "skipped"),
        "next": Field(Kind.MOMENT, "next_at"),
        "last": Field(Kind.MOMENT, "last_at"),
        FREE: Field(Kind.WORDS, "text"),
    },
    keys={"name": "name", "task": "task", "next": "next_at", "last": "last_at", "fired": "fired"},
    id="name",
    get=_read,
)
