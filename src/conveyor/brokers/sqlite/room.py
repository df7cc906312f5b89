"""Room in the write-ahead log, made before it is needed.

An fdatasync of a file that grows must wait for the file system's own journal too, which costs as
much again as the data. SQLite writes the log from its start after every checkpoint, so once it has
its full length each commit is one write in place.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from conveyor.brokers.sqlite.connection import CHECKPOINT_PAGES
from conveyor.brokers.sqlite.options import Location

_PAGE, _FRAME_HEADER, _LOG_HEADER = 4_096, 24, 32
FULL = _LOG_HEADER + CHECKPOINT_PAGES * (_PAGE + _FRAME_HEADER)
"""Bytes in a log that is about to be copied into the database."""
STRIDE = 1 << 20
"""Bytes that one commit adds: a process that commits once pays for no more."""


class Room:
    """Makes the log of one database longer, until it has its full length."""

    def __init__(self, connection: sqlite3.Connection, where: Location) -> None:
        self._connection = connection
        self._log: Path | None = None
        # Without an fdatasync at each commit there is nothing to be saved.
        if where.path is not None and where.synchronous == "full":
            # As SQLite found it: the process may go elsewhere, where another file has this name.
            _, _, file = connection.execute("PRAGMA database_list").fetchone()
            self._log = Path(f"{file}-wal")
        self._written = connection.total_changes

    def make(self) -> None:
        """Add some room. Only under the write lock: another process would write there as well."""
        if self._log is None or self._connection.total_changes == self._written:
            return
        self._written = self._connection.total_changes
        try:
            with self._log.open("r+b") as log:
                size = log.seek(0, 2)
                # Zeros are no frame: whoever recovers the log stops before them.
                log.write(bytes(min(STRIDE, max(0, FULL - size))))
        except OSError:
            size = FULL
        if size >= FULL:
            self._log = None
