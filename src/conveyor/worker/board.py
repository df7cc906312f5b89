"""The flight board: what a child process is running, readable after it was killed.

One file mapped into the memory of two processes. The child notes each start and end in a slot
(under a microsecond, no system call); the supervisor reads the slots when the child is dead, to
tell started tasks (which may be the cause) from leases that were never touched. The other way, the
supervisor writes until when the lease is good. Every field is written whole: aligned eight-byte
stores, and the byte that makes a slot valid goes last.

        header   lease_until · beat · step · running · stuck · stale · lag      8 bytes each
        slot     execution (8) · id (36) · padding (4) · mark (8) · spare (8)
"""

from __future__ import annotations

import mmap
import os
import struct
from collections import deque
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import IO

EVERY = 0.5
"""Seconds between two beats of a loop that turns."""
_HEADER = 64
_SLOT = 64
_SLOT_WORDS = _SLOT // 8
_MARK_WORD = 6
_STARTED, _STARTED_ALONE = 1, 2
_LEASE, _BEAT, _STEP = 0, 1, 2
_RUNNING, _STUCK, _STALE, _LAG = 3, 4, 5, 6
_ENTRY = struct.Struct("<q36s4xq")
_SPARE_SLOTS = 32
_BY_DESCRIPTOR = "fd:"
NO_SLOT = -1
"""The slot of a task that found the board full: `ended` ignores it, and after a crash the task
counts as not started, so a full board never blames anyone."""

Started = tuple[str, int, bool]
"""A task on the board: its id, its execution number, and whether its process is its own."""


def slots_for(concurrency: int) -> int:
    """Return how many slots never run out: a slot is held by a running task only, and at most
    `concurrency` run; the rest is for those whose end is being noted.
    """
    return concurrency * 2 + _SPARE_SLOTS


class Lag:
    """By how many seconds beats were late, of the last ten the worst."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._late: deque[float] = deque(maxlen=10)

    def at(self, now: float) -> float:
        """Take note of a beat and return the lag (seconds)."""
        if self._last is not None:
            self._late.append(max(0.0, now - self._last - EVERY))
        self._last = now
        return max(self._late, default=0.0)


class Board:
    """A board on a shared file. `create` makes one (supervisor), `attach` opens it (child)."""

    def __init__(
        self, memory: mmap.mmap, *, fd: int | None = None, path: Path | None = None
    ) -> None:
        self.fd = fd
        """Descriptor for the child to inherit: the file has no name any more (POSIX)."""
        self._path = path
        self._memory = memory
        view = memoryview(memory)
        self._times = view[:_HEADER].cast("d")
        self._counts = view[:_HEADER].cast("q")
        self._words = view[_HEADER:].cast("q")
        self._view = view
        self._slots = (len(memory) - _HEADER) // _SLOT
        self._free = list(range(self._slots - 1, -1, -1))
        self._lag = Lag()

    @classmethod
    def create(cls, slots: int) -> Board:
        """Make an empty board."""
        file = _temporary_file()
        with file:
            file.truncate(_HEADER + slots * _SLOT)
            path = Path(file.name)
            memory = mmap.mmap(file.fileno(), 0)
            if os.name != "posix":
                return cls(memory, path=path)
            # Without a name, no kill can leave it behind.
            path.unlink()
            return cls(memory, fd=os.dup(file.fileno()))

    @property
    def address(self) -> str:
        """What to give to `attach` in a process that has inherited `fd`."""
        return str(self._path) if self.fd is None else f"{_BY_DESCRIPTOR}{self.fd}"

    @classmethod
    def attach(cls, address: str) -> Board:
        """Map the board that `create` made; an inherited descriptor is closed."""
        if not address.startswith(_BY_DESCRIPTOR):
            with Path(address).open("r+b") as file:
                return cls(mmap.mmap(file.fileno(), 0))
        fd = int(address.removeprefix(_BY_DESCRIPTOR))
        try:
            return cls(mmap.mmap(fd, 0))
        finally:
            os.close(fd)

    def close(self) -> None:
        """Unmap it. Safe to call twice."""
        if self._memory.closed:
            return
        for view in (self._times, self._counts, self._words, self._view):
            view.release()
        self._memory.close()
        if self.fd is not None:
            os.close(self.fd)
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    # -- the child writes

    def started(self, task_id: str, execution: int, alone: bool = False) -> int:
        """Note that user code begins; returns the slot to give to `ended`."""
        if not self._free:
            return NO_SLOT
        slot = self._free.pop()
        mark = _STARTED_ALONE if alone else _STARTED
        _ENTRY.pack_into(
            self._memory, _HEADER + slot * _SLOT, execution, task_id.encode("ascii"), mark
        )
        return slot

    def ended(self, slot: int) -> None:
        """Note that the execution in this slot is over."""
        if slot != NO_SLOT:
            self._words[slot * _SLOT_WORDS + _MARK_WORD] = 0
            self._free.append(slot)

    def beat(self, now: float) -> None:
        """Show that the event loop turns, each `EVERY` s; `now` is monotonic seconds."""
        self._times[_LAG] = self._lag.at(now)
        self._times[_BEAT] = now

    def stepped(self, now: float) -> None:
        """Show that the broker answered a step; `now` is monotonic seconds."""
        self._times[_STEP] = now

    def publish(self, running: int, stuck: int, stale: int) -> None:
        """Show the counts of running tasks, stuck threads and refused writes."""
        self._counts[_RUNNING] = running
        self._counts[_STUCK] = stuck
        self._counts[_STALE] = stale

    # -- the supervisor writes

    @property
    def lease_until(self) -> float:
        """Until when the lease is good, in monotonic seconds."""
        return self._times[_LEASE]

    @lease_until.setter
    def lease_until(self, moment: float) -> None:
        self._times[_LEASE] = moment

    # -- the supervisor reads

    @property
    def last_beat(self) -> float:
        """When the loop last turned (monotonic seconds), 0.0 before the first time."""
        return self._times[_BEAT]

    @property
    def last_step(self) -> float:
        """When the broker last answered a step (monotonic seconds), 0.0 before the first."""
        return self._times[_STEP]

    @property
    def lag(self) -> float:
        """Seconds that the loop was late by."""
        return self._times[_LAG]

    @property
    def running(self) -> int:
        """Published count of running tasks."""
        return self._counts[_RUNNING]

    @property
    def stuck(self) -> int:
        """Published count of threads that a time-out could not stop."""
        return self._counts[_STUCK]

    @property
    def stale(self) -> int:
        """Published count of writes refused because the execution was superseded."""
        return self._counts[_STALE]

    def running_now(self) -> list[Started]:
        """Return what was started and has not ended, as of the last store of the child."""
        found: list[Started] = []
        for slot in range(self._slots):
            if self._words[slot * _SLOT_WORDS + _MARK_WORD]:
                execution, raw, mark = _ENTRY.unpack_from(self._memory, _HEADER + slot * _SLOT)
                task_id = raw.rstrip(b"\0").decode("ascii")
                found.append((task_id, execution, mark == _STARTED_ALONE))
        return found


def _temporary_file() -> IO[bytes]:
    """Open a file that `Board.create` removes itself, in memory where the system offers that, so
    that a busy disk cannot stall a write.
    """
    # Only who makes a board needs it, not the child that opens it.
    import tempfile

    shared = Path("/dev/shm")  # noqa: S108 - the name that no one else can guess follows
    for folder in (shared, None) if shared.is_dir() else (None,):
        with suppress(OSError):
            return tempfile.NamedTemporaryFile(prefix="conveyor-board-", dir=folder, delete=False)
    raise OSError("no folder for temporary files can be written to: set TMPDIR to one that can")


class LocalBoard:
    """The same board within one process: for tests and for an engine without a supervisor. Its
    lease never ends unless `lease_until` is set.
    """

    def __init__(self) -> None:
        self.lease_until = inf
        self.last_beat = 0.0
        self.last_step = 0.0
        self.lag = 0.0
        self._lag = Lag()
        self.running = 0
        self.stuck = 0
        self.stale = 0
        self._started: dict[int, Started] = {}
        self._next = 0

    def started(self, task_id: str, execution: int, alone: bool = False) -> int:
        """Note that user code begins; returns the slot to give to `ended`."""
        self._next += 1
        self._started[self._next] = (task_id, execution, alone)
        return self._next

    def ended(self, slot: int) -> None:
        """Note that the execution in this slot is over."""
        self._started.pop(slot, None)

    def beat(self, now: float) -> None:
        """Show that the event loop turns, each `EVERY` s; `now` is monotonic seconds."""
        self.last_beat, self.lag = now, self._lag.at(now)

    def stepped(self, now: float) -> None:
        """Show that the broker answered a step; `now` is monotonic seconds."""
        self.last_step = now

    def publish(self, running: int, stuck: int, stale: int) -> None:
        """Show the counts of running tasks, stuck threads and refused writes."""
        self.running, self.stuck, self.stale = running, stuck, stale

    def running_now(self) -> list[Started]:
        """Return what was started and has not ended."""
        return list(self._started.values())
