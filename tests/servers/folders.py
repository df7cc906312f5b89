"""Folders of test servers, removed also after a run that was killed."""

import functools
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

PREFIX = "conveyor-test-"
_LOCK = ".lock"
_MEMORY = Path("/dev/shm")  # a tmpfs, wanted for being one
_MEMORY_NEEDED = 1 << 30
# Younger ones may be just about to be locked by their owner.
_STALE_SECONDS = 60


class Folder:
    """A temporary folder that is locked as long as its owner lives.

    `in_memory`: on a tmpfs when there is one with room, for data that needs no disk: cloning a
    PostgreSQL database takes 10 ms there, and 200 ms on some disks.
    """

    def __init__(self, name: str, *, in_memory: bool = False) -> None:
        root = _memory() if in_memory else Path(tempfile.gettempdir())
        sweep(root)
        # Short: a Unix socket path in it has at most 107 bytes.
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{name}-", dir=root))
        self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        if sys.platform != "win32":
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove the folder with all in it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        shutil.rmtree(self.path, ignore_errors=True)


@functools.cache
def sweep(root: Path) -> None:
    """Remove, once per process, the folders in `root` whose owners were killed."""
    for folder in root.glob(f"{PREFIX}*"):
        # Another process may sweep too, or remove its own.
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS and _is_ownerless(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_ownerless(folder: Path) -> bool:
    if sys.platform == "win32":
        return False
    lock = os.open(folder / _LOCK, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _memory() -> Path:
    try:
        roomy = shutil.disk_usage(_MEMORY).free >= _MEMORY_NEEDED
    except OSError:
        roomy = False
    return _MEMORY if roomy and os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
