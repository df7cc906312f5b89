"""Edits that do not overwrite each other: `ETag` with what was read, `If-Match` with the change
(RFC 9110 §13.1.1)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from conveyor_console.kit.problems import Problem

IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", max_length=1_000, description="The `ETag` of what was read, or `*`."),
]

TO_CHANGE: dict[str, bool] = {"key_share": True}
"""How a row that is about to be changed is locked (`FOR NO KEY UPDATE`), so that what it is
compared with stays true until the commit; rows that only refer to it can be added meanwhile."""


def etag_of(version: int) -> str:
    """Return the entity tag of a row at this version."""
    return f'"{version}"'


def must_match(if_match: str | None, version: int, *, needed: bool = True) -> None:
    """Check that a change was made to what is there now. Raises `Problem` 428 without `If-Match`
    (when it is `needed`), 412 when another change came first."""
    if if_match is None:
        if needed:
            raise Problem(428, "send the ETag of what you read as If-Match, or If-Match: *")
        return
    tags = [tag.strip() for tag in if_match.split(",")]
    if "*" not in tags and etag_of(version) not in tags:
        raise Problem(412, "it was changed meanwhile: read it again, then repeat your change")
