"""What the list of strikes can be filtered by."""

from __future__ import annotations

from typing import Any

from conveyor.strikes import Strike
from conveyor_console.kit.filters import Field, Kind
from conveyor_console.kit.grammar import FREE

FIELDS = {
    "task": Field(Kind.TEXT, "name"),
    "queue": Field(Kind.TEXT, "queue"),
    "by": Field(Kind.TEXT, "by"),
    "reason": Field(Kind.WORDS, "reason"),
    "age": Field(Kind.AGE, "at"),
    FREE: Field(Kind.WORDS, "text"),
}


def read(strike: Strike, attribute: str) -> Any:
    """Return the value of an attribute."""
    return strike.sentence() if attribute == "text" else getattr(strike, attribute)
