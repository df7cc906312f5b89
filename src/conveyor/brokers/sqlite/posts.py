"""The bells of all processes on one database: a private folder of Unix sockets and marks.

`<worker>.sock` is the bell of a worker. `<worker>.idle` is its mark: a symbolic link whose text is
the list of its queues, because making, reading and taking one is a single system call each, and
of many who take it only one succeeds.
"""
# Path objects would cost more than the system calls of a ring.
# ruff: noqa: PTH108, PTH115, PTH208, PTH211

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

_EVERY_QUEUE = "*"
_LONGEST_MARK = 1_000
_LONGEST_ADDRESS = 103
"""Bytes in the name of a socket: what the strictest system (macOS) allows."""
_SHORT = 12


class Posts:
    """Rings and is rung by the processes that use the same database file."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._bells: dict[str, socket.socket] = {}
        self._sender = _datagram_socket()

    @classmethod
    def of(cls, path: str) -> Posts | None:
        """Return the posts of a database, or None where this machine has no such sockets or no
        fit place for them.
        """
        if not hasattr(socket, "AF_UNIX") or not hasattr(os, "getuid"):
            return None
        database = os.fsencode(Path(path).resolve())
        folder = root() / f"conveyor-{os.getuid()}" / _short(database)
        if len(os.fsencode(folder)) + len("/.sock") + _SHORT > _LONGEST_ADDRESS:
            return None
        try:
            _make_private(folder.parent)
            _make_private(folder)
        except OSError:
            return None
        return cls(folder)

    # -- being rung

    def open(self, worker: str, heard: Callable[[], None]) -> None:
        """Hang up the bell of a worker; `heard` is called on the loop."""
        bell = _datagram_socket()
        path = self._path(worker, ".sock")
        try:
            for _ in range(3):
                self._remove(path)
                # The folder vanishes when the last one leaves, perhaps just now.
                with suppress(FileNotFoundError):
                    bell.bind(path)
                    break
                _make_private(Path(self._folder))
        except OSError:
            # Without a bell there is still the worker's own poll.
            bell.close()
            return
        self._bells[worker] = bell
        asyncio.get_running_loop().add_reader(bell, self._hear, bell, heard)

    @staticmethod
    def _hear(bell: socket.socket, heard: Callable[[], None]) -> None:
        with suppress(OSError):
            while True:
                bell.recv(16)
        heard()

    def shut(self, worker: str) -> None:
        """Take the bell of a worker down."""
        bell = self._bells.pop(worker, None)
        if bell is None:
            return
        asyncio.get_running_loop().remove_reader(bell)
        bell.close()
        self._remove(self._path(worker, ".sock"))

    def close(self) -> None:
        """Take everything down."""
        for worker in list(self._bells):
            self.shut(worker)
        self._sender.close()
        with suppress(OSError):
            Path(self._folder).rmdir()

    def mark(self, worker: str, queues: Sequence[str]) -> None:
        """Say that the worker is idle and which queues it serves."""
        text = ",".join(queues)
        with suppress(OSError):
            os.symlink(
                text if len(text) <= _LONGEST_MARK else _EVERY_QUEUE, self._path(worker, ".idle")
            )

    def unmark(self, worker: str) -> None:
        """Say that it is not idle any more."""
        self._remove(self._path(worker, ".idle"))

    # -- ringing, from any thread

    def wake_one(self, queue: str) -> None:
        """Ring for one idle worker that serves `queue`, if there is any."""
        while (bell := self.take_mark(queue)) is not None and not self._ring(bell):
            pass

    def take_mark(self, queue: str) -> str | None:
        """Take the mark of an idle worker that serves `queue`; returns its bell, which is to be
        rung, or None when nobody is idle.
        """
        for mark in self._entries(".idle"):
            if _serves(mark, queue) and self._remove(mark):
                return f"{mark.removesuffix('.idle')}.sock"
        return None

    def ring_or_next(self, bell: str, queue: str) -> None:
        """Ring a bell; if its worker is gone, that of another one."""
        if not self._ring(bell):
            self.wake_one(queue)

    def wake_worker(self, worker: str) -> None:
        """Ring for this worker."""
        self._ring(self._path(worker, ".sock"))

    def wake_all(self) -> None:
        """Ring for everyone."""
        for bell in self._entries(".sock"):
            self._ring(bell)

    def _entries(self, suffix: str) -> list[str]:
        try:
            names = os.listdir(self._folder)
        except OSError:
            return []
        return [f"{self._folder}/{name}" for name in names if name.endswith(suffix)]

    def _ring(self, bell: str) -> bool:
        """Send a ring; says whether somebody hears it."""
        try:
            self._sender.sendto(b"!", bell)
        except BlockingIOError:
            # Its socket is full of rings that it has not heard yet: one more says nothing new.
            return True
        except ConnectionRefusedError:
            # Its process died without taking the bell down.
            self._remove(bell)
            return False
        except OSError:
            return False
        return True

    @staticmethod
    def _remove(path: str) -> bool:
        """Remove a file; says whether it was there and we were the one."""
        try:
            os.unlink(path)
        except OSError:
            return False
        return True

    def _path(self, worker: str, suffix: str) -> str:
        return f"{self._folder}/{_short(worker.encode())}{suffix}"


def root() -> Path:
    """Return a folder in memory, where the system has one: marks come and go with every task that
    finds an idle worker, and on a disk they would weigh on the fdatasync of the very commit.
    """
    shared = Path("/dev/shm")  # noqa: S108 - what is made in it is private and checked
    if os.access(shared, os.W_OK):
        return shared
    import tempfile

    return Path(tempfile.gettempdir())


def _serves(mark: str, queue: str) -> bool:
    try:
        text = os.readlink(mark)
    except OSError:
        return False
    return text == _EVERY_QUEUE or queue in text.split(",")


def _short(name: bytes) -> str:
    return hashlib.sha256(name).hexdigest()[:_SHORT]


def _datagram_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


def _make_private(folder: Path) -> None:
    """Make the folder for this user alone. Raises `OSError` when somebody else has it."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a private folder of this user")
