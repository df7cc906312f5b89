"""The schema's version: made, brought forward, checked."""

from __future__ import annotations

from conveyor.brokers.postgres.connection import Connection
from conveyor.brokers.postgres.options import Location
from conveyor.brokers.postgres.statements import script
from conveyor.core.errors import SchemaMismatch

VERSION = 1
_STEPS = {1: ("0001_schema", "0001_documents", "0001_gates")}
_FUNCTIONS = (
    *("clock", "retention", "push", "settle", "step", "operate"),
    *("tallies", "gates", "lanes", "heads", "rounds", "admit", "unique", "terms", "within"),
)
_LOCK = 0x636F_6E76


async def version(connection: Connection) -> int:
    """Return the schema's version in this namespace, 0 when there is none."""
    if await connection.fetchval("SELECT to_regclass(current_schema() || '.meta')") is None:
        return 0
    return int(await connection.fetchval("SELECT version FROM meta"))


async def check(connection: Connection, location: Location) -> None:
    """Raise `SchemaMismatch` unless the schema is of this version."""
    found = await version(connection)
    order = f"run `conveyor migrate --url {location.shown}`"
    place = f"namespace {location.namespace!r} of {location.where}"
    if found == 0:
        raise SchemaMismatch(f"the {place} has no Conveyor schema: {order}")
    if found < VERSION:
        raise SchemaMismatch(f"the {place} has schema {found}, older than {VERSION}: {order}")
    if found > VERSION:
        raise SchemaMismatch(
            f"the {place} has schema {found}, newer than the {VERSION} that this version of "
            "Conveyor knows: upgrade Conveyor here"
        )


async def migrate(connection: Connection, location: Location) -> list[str]:
    """Bring the schema to this version; returns one line per change."""
    lines: list[str] = []
    async with connection.transaction():
        # One at a time, per database and namespace; ends with the transaction.
        await connection.execute(
            "SELECT pg_advisory_xact_lock($1, hashtext($2))", _LOCK, location.namespace
        )
        if not await connection.fetchval(
            "SELECT 1 FROM pg_namespace WHERE nspname = $1", location.namespace
        ):
            await connection.execute(f"CREATE SCHEMA {location.namespace}")
            lines.append(f"created the namespace {location.namespace!r}")
        found = await version(connection)
        if found > VERSION:
            await check(connection, location)
        for number in range(found + 1, VERSION + 1):
            for part in _STEPS[number]:
                await connection.execute(script(part))
            lines.append(f"schema {number}: {_STEPS[number][0]}")
        if lines:
            for name in _FUNCTIONS:
                await connection.execute(script(name))
    return lines
