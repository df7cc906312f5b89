"""What the list of limits can be filtered by."""

from __future__ import annotations

from typing import Any

from conveyor.limits import GateInfo
from conveyor_console.kit.filters import Field, Kind
from conveyor_console.kit.grammar import FREE

FIELDS = {
    "limit": Field(Kind.TEXT, "limit"),
    "key": Field(Kind.TEXT, "key"),
    "paused": Field(Kind.CHOICE, "paused", ("yes", "no")),
    "running": Field(Kind.NUMBER, "running"),
    FREE: Field(Kind.WORDS, "text"),
}


def read(info: GateInfo, attribute: str) -> Any:
    """Return the value of an attribute."""
    if attribute == "paused":
        return "no" if info.pause is None else "yes"
    if attribute == "running":
        return info.state.running
    return f"{info.limit} {info.key}" if attribute == "text" else getattr(info, attribute)
