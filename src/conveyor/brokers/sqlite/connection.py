"""Connections to the file, and what its errors mean."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conveyor.brokers.sqlite.options import Location
from conveyor.core.errors import BrokerError, BrokerFull, BrokerUnavailable

OLDEST = (3, 35, 0)
CHECKPOINT_PAGES = 4_000
"""Pages in the write-ahead log before it is copied into the database: 16 MB."""
_WRITER_CACHE, _READER_CACHE = 16_384, 4_096
"""Page caches in KiB, at most: they count towards the memory of every worker process."""


def connect(where: Location, *, reader: bool = False) -> sqlite3.Connection:
    """Open the database, making the file when there is none. Raises `BrokerError`."""
    if sqlite3.sqlite_version_info < OLDEST:
        raise BrokerError(
            f"this Python has SQLite {sqlite3.sqlite_version}, but Conveyor needs 3.35 or newer"
        )
    _check_folder(where)
    try:
        connection = sqlite3.connect(
            where.path or ":memory:",
            timeout=where.busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
    except sqlite3.Error as exc:
        raise explain(exc, where) from exc
    try:
        _prepare(connection, where, reader)
    except BaseException as exc:
        connection.close()
        if isinstance(exc, sqlite3.Error):
            raise explain(exc, where) from exc
        raise
    return connection


def _check_folder(where: Location) -> None:
    if where.path is None:
        return
    path = Path(where.path)
    if path.is_dir():
        raise BrokerUnavailable(f"the SQLite database {where.path!r} is a folder: name a file")
    if not path.parent.is_dir():
        raise BrokerUnavailable(
            f"the folder {str(path.parent)!r} of the SQLite database {path.name!r} does not exist: "
            "make it first"
        )


def _prepare(connection: sqlite3.Connection, where: Location, reader: bool) -> None:
    run = connection.execute
    run(f"PRAGMA cache_size = -{_READER_CACHE if reader else _WRITER_CACHE}")
    # Statement journals and savepoints never touch the disk.
    run("PRAGMA temp_store = MEMORY")
    if reader:
        run("PRAGMA query_only = ON")
        return
    # Debian compiles it in; it would write every freed page full of zeros.
    run("PRAGMA secure_delete = OFF")
    if where.path is not None:
        _prepare_file(connection, where)
    # From here on the writer waits in its own way.
    run("PRAGMA busy_timeout = 0")


def _prepare_file(connection: sqlite3.Connection, where: Location) -> None:
    run = connection.execute
    run(f"PRAGMA synchronous = {where.synchronous}")
    run(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    mode = _switch(connection, where)
    if mode != "wal":
        raise BrokerUnavailable(
            f"the SQLite database {where.path!r} cannot keep a write-ahead log (journal mode stays "
            f"{mode!r}): is it on a network file system?"
        )


def _switch(connection: sqlite3.Connection, where: Location) -> str:
    deadline = time.monotonic() + where.busy_timeout
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as exc:
            # SQLite does not wait here by itself when several processes make the file at a time.
            if not is_busy(exc) or time.monotonic() >= deadline:
                raise
        time.sleep(0.005)


@contextmanager
def waiting(connection: sqlite3.Connection, where: Location) -> Iterator[None]:
    """Let SQLite itself wait for locks, for statements that are rare."""
    connection.execute(f"PRAGMA busy_timeout = {int(where.busy_timeout * 1000)}")
    try:
        yield
    finally:
        connection.execute("PRAGMA busy_timeout = 0")


def code_of(exc: sqlite3.Error) -> int:
    """Return the primary result code, 0 when SQLite did not say."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


def is_busy(exc: sqlite3.Error) -> bool:
    """Whether another connection was in the way."""
    return code_of(exc) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


_NO_RIGHTS = "check the rights of the file and its folder"
_MEANING = {
    sqlite3.SQLITE_FULL: "has no room left on its disk; nothing was stored",
    sqlite3.SQLITE_BUSY: "was locked by another process for more than {timeout:g} s: something "
    "holds a write transaction open",
    sqlite3.SQLITE_LOCKED: "was locked for more than {timeout:g} s",
    sqlite3.SQLITE_READONLY: f"cannot be written: {_NO_RIGHTS}",
    sqlite3.SQLITE_PERM: f"cannot be opened: {_NO_RIGHTS}",
    sqlite3.SQLITE_CANTOPEN: f"cannot be opened: {_NO_RIGHTS}",
    sqlite3.SQLITE_NOTADB: "is not an SQLite database: name another file",
    sqlite3.SQLITE_CORRUPT: "is damaged: restore it from a backup",
}


def explain(exc: sqlite3.Error, where: Location) -> BrokerError:
    """Return the error to raise for one of SQLite: one sentence that says what to do."""
    code = code_of(exc)
    meaning = _MEANING.get(code, f"failed: {exc}").format(timeout=where.busy_timeout)
    kind = BrokerFull if code == sqlite3.SQLITE_FULL else BrokerUnavailable
    return kind(f"the SQLite database {where.path or ':memory:'!r} {meaning}")
