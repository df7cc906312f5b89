"""Types of what comes over the wire, shared by all resources."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

UUID = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
"""How an id is written."""


MOST_FIELDS = 64
"""More than any body has. To name every unknown field of a megabyte would take a second."""


class Strict(BaseModel):
    """A body: what it does not know is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MOST_FIELDS:
            raise ValueError(f"has {len(value):,} fields, more than there are")
        return value


def one_of(*names: str) -> dict[str, Any]:
    """Describe a body in which exactly one of these fields is given. Null is not given."""
    return {"oneOf": [_given(name) for name in names]}


def some_of(*names: str) -> dict[str, Any]:
    """Describe a body in which one or more of these fields are given."""
    return {"anyOf": [_given(name) for name in names]}


def not_both(*names: str) -> dict[str, Any]:
    """Describe a body in which these fields are not given together."""
    return {"not": _given(*names)}


def _given(*names: str) -> dict[str, Any]:
    something = {"not": {"type": "null"}}
    return {"required": list(names), "properties": dict.fromkeys(names, something)}


def _one_line(text: str) -> str:
    """Refuse what would begin a new line in a log or a header, and what PostgreSQL cannot keep:
    NUL, and half of a surrogate pair."""
    if any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in text):
        raise ValueError("must be one line, without control characters")
    return text


_NUMBER = re.compile(r"\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s*$")


def _text(value: Any) -> Any:
    """Refuse a number, as a text too: whether it counts seconds or milliseconds is anybody's
    guess."""
    if isinstance(value, datetime | None) or (isinstance(value, str) and not _NUMBER.match(value)):
        return value
    raise ValueError("must be a text: an ISO 8601 time")


def _whole(value: Any) -> Any:
    """Let `90.0` be 90, as JSON does; a text is no number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_NO_CONTROLS = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
Line = Annotated[str, AfterValidator(_one_line), Field(json_schema_extra={"pattern": _NO_CONTROLS})]
"""Text on one line; everything else in it comes back unchanged."""
Whole = BeforeValidator(_whole)
"""To a strict `int`: a whole number, written `90` or `90.0`, but not `"90"`."""
Level = Annotated[
    Annotated[int, Field(ge=0, le=9, strict=True)] | Literal["low", "normal", "high", "critical"],
    Whole,
]
"""A priority."""
QUEUE = "^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}$"
QueueName = Annotated[str, Field(max_length=100, json_schema_extra={"pattern": QUEUE})]
"""The queue says no to others."""
Switch = Annotated[bool, Field(strict=True)]
"""True or false: neither 1 nor "yes"."""
Moment = Annotated[datetime, BeforeValidator(_text)]
Instant = Annotated[AwareDatetime, BeforeValidator(_text)]
"""A moment with its zone."""
PathId = Annotated[str, Path(pattern=f"^{UUID}$")]
"""An id in a path."""
