"""The committed reference of the HTTP API is what the app does."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI

from conveyor_console.auth.models import Role
from conveyor_console.auth.permissions import PERMISSIONS, Permission
from tests.console.reference import reference
from tests.docs.pages import DOCS


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


async def test_the_reference_is_the_committed_one(app: FastAPI) -> None:
    assert reference(app) == (DOCS / "reference" / "http.md").read_text(encoding="utf-8"), (
        "a route or a type has changed: python -m tests.console.reference > docs/reference/http.md"
    )


def test_the_table_of_roles_is_the_codes() -> None:
    page = (DOCS / "howto" / "roles-and-keys.md").read_text(encoding="utf-8")
    said: dict[Role, set[str]] = {role: set() for role in Role}
    rows = re.findall(r"^\| (`.*) \| (●?) ?\| (●?) ?\| (●) \|$", page, re.MULTILINE)
    for names, *marks in rows:
        for role, mark in zip((Role.VIEWER, Role.OPERATOR, Role.ADMIN), marks, strict=True):
            said[role] |= set(re.findall(r"`([\w:]+)`", names)) if mark else set()
    assert said == {role: {one.value for one in may} for role, may in PERMISSIONS.items()}
    assert said[Role.ADMIN] == {one.value for one in Permission}
