"""Ids of the console's rows."""

from __future__ import annotations

from uuid_utils import uuid7


def new_id() -> str:
    """Make a UUIDv7 (RFC 9562): unique, and sortable by the millisecond it was made in."""
    return str(uuid7())
