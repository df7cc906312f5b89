"""Pages of lists: a cursor is the id of the last row that was given out."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Path, Query

from conveyor_console.kit.grammar import BadQuery
from conveyor_console.kit.problems import Problem

MOST = 200
_UUID = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
_ID = re.compile(_UUID)

TaskId = Annotated[str, Path(pattern=f"^{_UUID}$", description="The id of a task.")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="Rows of a page at most.")]
Cursor = Annotated[
    str | None, Query(max_length=36, description="`next_cursor` of the page before.")
]
Search = Annotated[
    str, Query(max_length=1_000, description="A filter, e.g. `state:failed task:send_* age>1h`.")
]


def id_cursor(cursor: str | None) -> str | None:
    """Return a cursor that is an id. Raises `Problem` 422."""
    if cursor is None or _ID.fullmatch(cursor):
        return cursor
    raise Problem(
        422,
        "cursor: not one that this list gave out",
        errors=[{"in": "query", "pointer": "/cursor", "detail": "not one that this list gave out"}],
    )


def bad_query(error: BadQuery) -> Problem:
    """Say what is wrong with a filter, and where."""
    return Problem(
        422,
        f"q, {error}",
        errors=[{"in": "query", "pointer": "/q", "detail": error.message, "column": error.column}],
    )
