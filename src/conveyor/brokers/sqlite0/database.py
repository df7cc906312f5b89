"""Where the file is, how it is opened, and which schema it has."""

from __future__ import annotations

import sqlite3
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4

from conveyor.core.errors import BrokerUnavailable, InvalidURL, SchemaMismatch

SCHEMA = 1
_OLDEST = (3, 35, 0)
_OPTIONS = ("busy_timeout", "synchronous")


class Database:
    """A SQLite database named by a URL: `sqlite:///relative.db`, `sqlite:////absolute.db`, or
    `sqlite://` for one in memory."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(set(options) - set(_OPTIONS)):
            raise InvalidURL(
                f"broker URL option {unknown[0]!r} is unknown to SQLite; known: "
                f"{', '.join(_OPTIONS)}"
            )
        if parts.netloc:
            raise InvalidURL(
                f"broker URL {url!r} names a host: SQLite is a file, write sqlite:///file.db "
                "(relative) or sqlite:////path/file.db (absolute)"
            )
        self.synchronous = _one_of(options.get("synchronous", "full"), ("full", "normal"))
        self.busy = _seconds(options.get("busy_timeout", "5"))
        name = unquote(parts.path.removeprefix("/"))
        self.path = None if name in {"", ":memory:"} else Path(name).absolute()
        self._memory = f"file:conveyor-{uuid4().hex}?mode=memory&cache=shared"

    @property
    def where(self) -> str:
        """The database as messages name it."""
        return "the in-memory database" if self.path is None else f"SQLite file {self.path}"

    def open(self) -> sqlite3.Connection:
        """Open a writing connection. Raises `BrokerUnavailable`, saying why."""
        if sqlite3.sqlite_version_info < _OLDEST:
            raise BrokerUnavailable(
                f"this Python has SQLite {sqlite3.sqlite_version}; Conveyor needs 3.35 or newer"
            )
        connection = self._connect()
        connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        connection.execute("PRAGMA cache_size = -16000")
        connection.execute("PRAGMA temp_store = memory")
        return connection

    def open_reader(self) -> sqlite3.Connection:
        """Open a connection for reading only."""
        connection = self._connect()
        if self.path is not None:
            connection.execute("PRAGMA query_only = on")
        else:
            connection.execute("PRAGMA read_uncommitted = on")
        return connection

    def _connect(self) -> sqlite3.Connection:
        if self.path is None:
            return sqlite3.connect(
                self._memory, uri=True, isolation_level=None, check_same_thread=False
            )
        if not self.path.parent.is_dir():
            raise BrokerUnavailable(
                f"{self.where} cannot be opened: there is no folder {self.path.parent}"
            )
        try:
            connection = sqlite3.connect(
                self.path, timeout=self.busy, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as exc:
            raise BrokerUnavailable(f"{self.where} cannot be opened: {exc}") from None
        try:
            connection.execute("PRAGMA journal_mode = wal")
            connection.execute(
                "PRAGMA busy_timeout = 0" if self.busy == 0 else "PRAGMA user_version"
            )
        except sqlite3.Error as exc:
            connection.close()
            raise BrokerUnavailable(f"{self.where} cannot be opened: {exc}") from None
        return connection


def migrate(connection: sqlite3.Connection, where: str) -> list[str]:
    """Bring the schema to this version. Raises `SchemaMismatch` for a newer one."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = version_of(connection)
        if found > SCHEMA:
            raise SchemaMismatch(
                f"{where} has schema {found}, this version of Conveyor knows {SCHEMA}: "
                "upgrade Conveyor here"
            )
        if found == SCHEMA:
            return []
        script = files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
        for statement in _statements(script):
            connection.execute(statement)
        connection.execute("COMMIT")
        return [f"{where}: created schema {SCHEMA}"]
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def version_of(connection: sqlite3.Connection) -> int:
    """Return the schema's version, 0 when there is none."""
    exists = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
    if exists is None:
        return 0
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    return int(row[0])


def _statements(script: str) -> list[str]:
    statements, current = [], ""
    for line in script.splitlines():
        current += line + "\n"
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements


def _one_of(value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise InvalidURL(f"synchronous={value!r} in the broker URL: {' or '.join(allowed)}")
    return value


def _seconds(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 60:
        raise InvalidURL(f"busy_timeout={value!r} in the broker URL: seconds from 0 to 60")
    return number
