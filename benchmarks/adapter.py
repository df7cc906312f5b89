"""The seam between the harness and a task queue: one adapter per queue and store."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

BULK = 1000


@dataclass(frozen=True, slots=True)
class Sent:
    """How many tasks were enqueued, and in how many seconds."""

    count: int
    seconds: float


class Adapter(Protocol):
    """What the harness asks of a task queue.

    An adapter lives in a process of its own; `BENCH_URL` names the store. It offers two tasks,
    `noop` and `nap`, that take a number and run the body of the same name in `benchmarks.work`.
    """

    name: str
    store: str
    distribution: str
    guarantee: str
    tuning: str
    results: bool
    bulk: bool
    forks: bool
    slots: int | None

    async def prepare(self) -> None:
        """Create schema or consumer groups in an empty store."""

    async def open(self) -> None:
        """Connect the producer."""

    async def close(self) -> None:
        """Disconnect the producer."""

    async def enqueue_one(self, task: str, number: int) -> None:
        """Enqueue a single task and wait until the store has it."""

    async def enqueue(self, mode: str, task: str, numbers: range, budget: float) -> Sent:
        """Enqueue as many of `numbers` as `budget` seconds allow, by `single`, `concurrent` (100
        callers) or `bulk` calls.
        """

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """The commands that start `processes` working processes; `slots` limits what each host
        runs at the same time (None: as tuned for throughput).
        """


def url() -> str:
    """The address of the store under test."""
    return os.environ["BENCH_URL"]


def python(*arguments: str) -> list[str]:
    """A command line for this interpreter."""
    return [sys.executable, *arguments]


def until(numbers: Iterable[int], deadline: float) -> Iterator[int]:
    """Pass the numbers on until the time is up."""
    for number in numbers:
        if time.monotonic() >= deadline:
            return
        yield number


class Described:
    """What is true of most peers."""

    results = True
    bulk = False
    forks = False
    slots: int | None = None
    tuning = "defaults"

    async def prepare(self) -> None:
        """Most stores need nothing."""

    async def open(self) -> None:
        """Most producers connect when first used."""

    async def close(self) -> None:
        """The process ends soon anyway."""


class AsyncAdapter(Described):
    """A queue with an asyncio producer: gives `send`, and `send_many` where `bulk` is true."""

    async def send(self, task: str, number: int) -> object:
        """Enqueue one task."""
        raise AssertionError(f"{type(self).__name__} must say how it sends a task")

    async def send_many(self, task: str, numbers: list[int]) -> object:
        """Enqueue many tasks with one call."""
        raise AssertionError(f"{type(self).__name__} has no bulk call")

    async def enqueue_one(self, task: str, number: int) -> None:
        """See `Adapter`."""
        await self.send(task, number)

    async def enqueue(self, mode: str, task: str, numbers: range, budget: float) -> Sent:
        """See `Adapter`."""
        begin = time.monotonic()
        rest = until(numbers, begin + budget)
        count = 0
        if mode == "bulk":
            while chunk := list(islice(rest, BULK)):
                await self.send_many(task, chunk)
                count += len(chunk)
        else:
            callers = 100 if mode == "concurrent" else 1
            count = sum(await asyncio.gather(*(self._caller(task, rest) for _ in range(callers))))
        return Sent(count, time.monotonic() - begin)

    async def _caller(self, task: str, rest: Iterator[int]) -> int:
        count = 0
        for number in rest:
            await self.send(task, number)
            count += 1
        return count


class SyncAdapter(Described):
    """A queue with a blocking producer: its hundred callers are threads."""

    def send(self, task: str, number: int) -> object:
        """Enqueue one task."""
        raise AssertionError(f"{type(self).__name__} must say how it sends a task")

    def send_many(self, task: str, numbers: list[int]) -> object:
        """Enqueue many tasks with one call."""
        raise AssertionError(f"{type(self).__name__} has no bulk call")

    async def enqueue_one(self, task: str, number: int) -> None:
        """See `Adapter`."""
        self.send(task, number)

    async def enqueue(self, mode: str, task: str, numbers: range, budget: float) -> Sent:
        """See `Adapter`."""
        begin = time.monotonic()
        deadline = begin + budget
        if mode == "concurrent":
            count = self._threads(task, numbers, deadline)
        elif mode == "bulk":
            count, rest = 0, until(numbers, deadline)
            while chunk := list(islice(rest, BULK)):
                self.send_many(task, chunk)
                count += len(chunk)
        else:
            count = self._caller(task, until(numbers, deadline))
        return Sent(count, time.monotonic() - begin)

    def _caller(self, task: str, rest: Iterator[int]) -> int:
        count = 0
        for number in rest:
            self.send(task, number)
            count += 1
        return count

    def _threads(self, task: str, numbers: range, deadline: float) -> int:
        counts = [0] * 100

        def call(index: int) -> None:
            counts[index] = self._caller(task, until(numbers[index::100], deadline))

        threads = [threading.Thread(target=call, args=(index,)) for index in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts)
