"""Lets other processes have their turn: a hint, never a lock that could hang.

SQLite's write lock has no queue. A process that commits one batch after the other would take it
again before anybody else wakes up, so whoever waits says so by a shared lock on the folder of the
database, which the kernel takes away when the process dies; and whoever has just committed looks
before it goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: there, nobody gives way.
    fcntl = None  # type: ignore[assignment]


class Turns:
    """The hint of one connection. Databases in one folder share it: then it errs on the side of
    giving way.
    """

    def __init__(self, path: str | None) -> None:
        self._folder: int | None = None
        if path is not None and fcntl is not None:
            # Without the right to read the folder there are no hints, which costs fairness only.
            with suppress(OSError):
                self._folder = os.open(Path(path).parent, os.O_RDONLY | os.O_CLOEXEC)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Tell the others that this process waits for the write lock."""
        if self._folder is None:
            yield
            return
        with suppress(OSError):
            fcntl.flock(self._folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(self._folder, fcntl.LOCK_UN)

    def somebody_waits(self) -> bool:
        """Whether anybody else waits."""
        if self._folder is None:
            return False
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        with suppress(OSError):
            fcntl.flock(self._folder, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        """Let go of the folder."""
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None
