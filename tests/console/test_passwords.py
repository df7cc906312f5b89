"""Passwords: what is stored of them."""

from __future__ import annotations

import asyncio

from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import update

from conveyor_console.auth.models import Role, User
from conveyor_console.console import Console
from tests.console.conftest import PASSWORD, Api

ADA = {"email": "admin@example.com", "password": PASSWORD}


async def test_a_password_hashed_at_another_cost_is_hashed_anew(
    nobody: Api, console: Console, users: dict[Role, str]
) -> None:
    dear = await asyncio.to_thread(Argon2Hasher(2, 16, 1).hash, PASSWORD)
    async with console.database.writing() as db:
        await db.execute(
            update(User).where(User.id == users[Role.ADMIN]).values(password_hash=dear)
        )
    await nobody.call("POST", "/auth/login", 401, json={**ADA, "password": "it is not this"})
    assert await _stored(console, users) == dear
    await nobody.call("POST", "/auth/login", json=ADA)
    renewed = await _stored(console, users)
    assert "$m=8,t=1,p=1$" in renewed
    await nobody.call("POST", "/auth/login", json=ADA)
    assert await _stored(console, users) == renewed


async def _stored(console: Console, users: dict[Role, str]) -> str:
    async with console.database.reading() as db:
        return (await db.get_one(User, users[Role.ADMIN])).password_hash
