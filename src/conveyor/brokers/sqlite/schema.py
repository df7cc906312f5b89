"""The schema and its versions: `sql/NNNN_*.sql`, each applied once, in order."""

from __future__ import annotations

import sqlite3

from conveyor.brokers.sqlite.connection import waiting
from conveyor.brokers.sqlite.options import Location
from conveyor.brokers.sqlite.statements import script
from conveyor.core.errors import SchemaMismatch

MIGRATIONS = ("0001_schema",)
VERSION = len(MIGRATIONS)


def version(connection: sqlite3.Connection) -> int:
    """Return the version of the schema in the file, 0 when there is none."""
    found = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'conveyor_meta'"
    ).fetchone()
    if found is None:
        return 0
    return int(connection.execute("SELECT version FROM conveyor_meta").fetchone()[0])


def check(connection: sqlite3.Connection, where: Location) -> None:
    """Raise `SchemaMismatch` when the file was made by a newer Conveyor."""
    found = version(connection)
    if found > VERSION:
        raise SchemaMismatch(
            f"the SQLite database {where.path!r} has schema version {found}, but this Conveyor "
            f"knows only {VERSION}: upgrade Conveyor, or name another file"
        )


def migrate(connection: sqlite3.Connection, where: Location) -> list[str]:
    """Bring the schema up to date in one transaction; return a line per change made."""
    # Others may be making, recovering or closing the file at this moment.
    with waiting(connection, where):
        check(connection, where)
        if version(connection) == VERSION:
            return []
        connection.execute("BEGIN IMMEDIATE")
        try:
            done = _apply(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        return done


def _apply(connection: sqlite3.Connection) -> list[str]:
    done = []
    # Asked again under the lock: somebody may have done it meanwhile.
    for number in range(version(connection) + 1, VERSION + 1):
        name = MIGRATIONS[number - 1]
        for statement in _split(script(name)):
            connection.execute(statement)
        connection.execute("DELETE FROM conveyor_meta")
        connection.execute("INSERT INTO conveyor_meta (version) VALUES (?)", (number,))
        done.append(f"applied {name} (schema version {number})")
    return done


def _split(text: str) -> list[str]:
    """Cut a script into statements: `executescript` would commit the transaction it is in."""
    statements, current = [], ""
    for line in text.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
