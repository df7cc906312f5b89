"""A ruler that costs a task 0.2 µs: one row of shared memory per task number.

Every task body writes when it started, in which process, and how often it began and ended, into a
memory-mapped file. The harness reads the same pages. No peer's own counters are trusted, nothing
is sent to the server under test, and every peer is measured in exactly the same way.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

ENVIRONMENT = "BENCH_MARKS"
_ROW = 8 + 8 + 4 + 1 + 1  # sent, started, process, begun, ended


class Marks:
    """What happened to the tasks number 0 to `size - 1`.

    `sent` and `started` are seconds of the machine-wide monotonic clock (0.0: never), `process` is
    the id of the process that started the task last, `begun` and `ended` count executions.
    """

    def __init__(self, path: Path, pages: mmap.mmap) -> None:
        self.path = path
        self.size = size = len(pages) // _ROW
        view = memoryview(pages)
        self.sent = view[: 8 * size].cast("d")
        self.started = view[8 * size : 16 * size].cast("d")
        self.process = view[16 * size : 20 * size].cast("i")
        self.begun = view[20 * size : 21 * size]
        self.ended = view[21 * size : 22 * size]

    @classmethod
    def create(cls, path: Path, size: int) -> Marks:
        """Make an empty file of rows for `size` tasks and open it."""
        with path.open("wb") as file:
            file.truncate(size * _ROW)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Marks:
        """Map a file that `create` made."""
        with path.open("r+b") as file:
            return cls(path, mmap.mmap(file.fileno(), 0))

    @classmethod
    def from_environment(cls) -> Marks:
        """Open the file that the harness named for this process; a producer has none."""
        if path := os.environ.get(ENVIRONMENT):
            return cls.open(Path(path))
        return cls(Path(os.devnull), mmap.mmap(-1, _ROW))

    def finished(self, first: int = 0) -> int:
        """How many different tasks from number `first` on ended at least once."""
        return self.size - first - bytes(self.ended[first:]).count(0)

    def repeated(self, first: int = 0) -> int:
        """How many tasks from number `first` on ended more than once."""
        return sum(1 for count in bytes(self.ended[first:]) if count > 1)

    def running(self, processes: set[int], first: int = 0) -> int:
        """How many tasks from number `first` on these processes began and did not end."""
        return sum(
            1
            for number in range(first, self.size)
            if self.begun[number] and not self.ended[number] and self.process[number] in processes
        )

    def starts(self) -> list[tuple[float, int]]:
        """Start time and process of every task that started, in order of time."""
        pairs = zip(self.started.tolist(), self.process.tolist(), strict=True)
        return sorted(pair for pair in pairs if pair[0])
