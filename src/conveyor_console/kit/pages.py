"""Lists a page at a time: a cursor is where the last page ended, not a number of rows to skip."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Generic, TypeVar

import orjson
from fastapi import Path, Query
from pydantic import BaseModel

from conveyor_console.kit.grammar import BadQuery
from conveyor_console.kit.problems import Problem
from conveyor_console.kit.wire import UUID

T = TypeVar("T")
MOST = 200
_ID = re.compile(UUID)
TaskId = Annotated[str, Path(pattern=f"^{UUID}$", description="The id of a task.")]
Search = Annotated[
    str, Query(max_length=1_000, description="A filter, e.g. `state:failed task:send_* age>1h`.")
]
Limit = Annotated[int, Query(ge=1, le=MOST, description="Items of a page.")]
Cursor = Annotated[
    str | None, Query(max_length=4_000, description="`next_cursor` of the page before.")
]
IdCursor = Annotated[
    str | None,
    Query(
        max_length=4_000,
        description="`next_cursor` of the page before: the id of its last item.",
        json_schema_extra={"pattern": f"^{_UUID}$"},
    ),
]
"""Of a list whose order is that of ids: see `id_cursor`."""


class Page(BaseModel, Generic[T]):
    """Some of a list, and where it goes on."""

    items: list[T]
    next_cursor: str | None
    """None at the end."""


def page_of(
    rows: Sequence[T], limit: int, key: Callable[[T], Sequence[str]]
) -> tuple[list[T], str | None]:
    """Cut `limit + 1` rows that were looked up to a page and the cursor of the next."""
    if len(rows) <= limit:
        return list(rows), None
    return list(rows[:limit]), cursor_at(key(rows[limit - 1]))


def cursor_at(key: Sequence[str]) -> str:
    """Write down a place in an order."""
    return base64.urlsafe_b64encode(orjson.dumps(list(key))).rstrip(b"=").decode()


def place_of(cursor: str | None, parts: int = 1) -> list[str] | None:
    """Read a cursor back: `parts` texts, or None for the beginning. Raises `Problem` 422."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = orjson.loads(raw)
    except (binascii.Error, orjson.JSONDecodeError, ValueError):
        found = None
    if (
        not isinstance(found, list)
        or len(found) != parts
        or not all(isinstance(part, str) and "\0" not in part for part in found)
    ):
        raise bad_cursor()
    return found


def moment_place(cursor: str | None) -> tuple[datetime, str] | None:
    """Read a cursor back that is a moment and an id. Raises `Problem` 422."""
    place = place_of(cursor, 2)
    if place is None:
        return None
    try:
        at = datetime.fromisoformat(place[0])
        if at.tzinfo is None:
            raise bad_cursor()
        return at.astimezone(UTC), place[1]
    except (ValueError, OverflowError):
        raise bad_cursor() from None


def bad_cursor() -> Problem:
    """The answer to a cursor that is none."""
    wrong = "this is no cursor of this list: begin without one"
    return Problem(422, wrong, errors=[{"in": "query", "pointer": "/cursor", "detail": wrong}])


def id_cursor(cursor: str | None) -> str | None:
    """Return a cursor that is an id: of a list whose order is that of ids. Raises `Problem` 422."""
    if cursor is None or _ID.fullmatch(cursor):
        return cursor
    raise bad_cursor()


def bad_query(error: BadQuery) -> Problem:
    """Say what is wrong with a filter, and where."""
    return Problem(
        422,
        f"q, {error}",
        errors=[{"in": "query", "pointer": "/q", "detail": error.message, "column": error.column}],
    )
