"""Every route against everybody: the committed matrix is what the app does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import update

from conveyor_console.auth.models import ApiKey, Role, User
from conveyor_console.auth.permissions import SCOPES
from conveyor_console.console import Console
from conveyor_console.db import epoch
from tests.console.authorisation import Row, rows_of, table
from tests.console.conftest import Api, TestClock, signed_in

COMMITTED = Path(__file__).parent / "authorisation.txt"
ENDLESS = "/api/v1/events"
ANYTHING = "01930000-0000-7000-8000-000000000000"
pytestmark = pytest.mark.unmeasured


@pytest.fixture
def database_kind() -> str:
    """Who may do what does not depend on the database."""
    return "sqlite"


async def test_the_matrix_is_the_committed_one(app: FastAPI) -> None:
    assert table(rows_of(app)) == COMMITTED.read_text(encoding="utf-8"), (
        "a route is new, gone, or asks for something else: look at it, then "
        "python -m tests.console.authorisation > tests/console/authorisation.txt"
    )


async def status_of(api: Api, row: Row) -> int:
    """Call a route with nothing but made-up ids: who gets in is told that it is nonsense."""
    path = row.path.replace("{name:path}", "nothing")
    while "{" in path:
        start = path.index("{")
        path = path[:start] + ANYTHING + path[path.index("}") + 1 :]
    answer = await api.http.request(row.method, path)
    return answer.status_code


def is_called(row: Row, admitted: bool) -> bool:
    """A stream has no end to wait for; signing out would end the caller's session."""
    return not admitted or row.path not in {ENDLESS, "/api/v1/auth/logout"}


async def test_nobody_gets_in_without_a_token(app: FastAPI, nobody: Api) -> None:
    for row in rows_of(app):
        if row.permission is not None:
            assert await status_of(nobody, row) == 401, row


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_gets_what_the_matrix_says(
    app: FastAPI, users: dict[Role, str], role: Role
) -> None:
    api = await signed_in(app, role)
    for row in rows_of(app):
        if row.permission is None or not is_called(row, row.admits(role)):
            continue
        status = await status_of(api, row)
        assert (status not in {401, 403}) is row.admits(role), (row, status)
        assert status < 500, (row, status)


async def key_of(api: Api, scope: str) -> str:
    body = {"name": "a key", "scopes": [scope]}
    return str((await api.call("POST", "/api-keys", 201, json=body))["key"])


@pytest.mark.parametrize("scope", sorted(SCOPES))
async def test_a_key_gets_its_scope_and_nothing_else(app: FastAPI, admin: Api, scope: str) -> None:
    api = Api(app, await key_of(admin, scope))
    for row in rows_of(app):
        admitted = row.admits(Role.ADMIN, (scope,))
        if row.permission is None or not is_called(row, admitted):
            continue
        status = await status_of(api, row)
        assert (status not in {401, 403}) is admitted, (row, status)


async def test_who_is_disabled_expired_or_revoked_gets_nothing(
    app: FastAPI, console: Console, admin: Api, users: dict[Role, str], clock: TestClock
) -> None:
    operator, viewer = await signed_in(app, Role.OPERATOR), await signed_in(app, Role.VIEWER)
    key = Api(app, await key_of(admin, "tasks:read"))
    revoked = Api(app, await key_of(admin, "tasks:read"))
    now = clock.now()
    async with console.database.writing() as db:
        who = User.id == users[Role.OPERATOR]
        await db.execute(update(User).where(who).values(disabled_at=now))
        keys = (await db.scalars(update(ApiKey).values(expires_at=now).returning(ApiKey.id))).all()
        await db.execute(update(ApiKey).where(ApiKey.id == keys[-1]).values(revoked_at=now))
        await epoch.advance(db)
    await viewer.call("POST", "/auth/logout", 204)
    clock.advance(timedelta(seconds=1).total_seconds())
    for row in rows_of(app):
        if row.permission is not None:
            for api in (operator, viewer, key, revoked):
                assert await status_of(api, row) == 401, row
