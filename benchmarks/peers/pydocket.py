"""Docket (PyPI: pydocket) on Redis Streams."""

from __future__ import annotations

from contextlib import AsyncExitStack

from docket import Docket

from benchmarks import work
from benchmarks.adapter import AsyncAdapter, python, url

CONCURRENCY = 100


async def noop(number: int) -> int:
    """Nothing."""
    return work.noop(number)


async def nap(number: int) -> int:
    """50 ms."""
    return await work.nap_async(number)


tasks = [noop, nap]
TASKS = {"noop": noop, "nap": nap}


class DocketAdapter(AsyncAdapter):
    """See `benchmarks.adapter.Adapter`."""

    name, store, distribution = "pydocket", "redis", "pydocket"
    guarantee = "at least once: redelivered after 5 min"
    tuning = f"concurrency {CONCURRENCY}"
    bulk = True

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """See `Adapter`."""
        self._docket = await self._stack.enter_async_context(Docket(name="bench", url=url()))
        for task in tasks:
            self._docket.register(task)

    async def close(self) -> None:
        """See `Adapter`."""
        await self._stack.aclose()

    async def send(self, task: str, number: int) -> object:
        """See `AsyncAdapter`."""
        return await self._docket.add(TASKS[task])(number)

    async def send_many(self, task: str, numbers: list[int]) -> object:
        """See `AsyncAdapter`."""
        function = TASKS[task]
        return await self._docket.add_many(self._docket.call(function)(n) for n in numbers)

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """One command per process; the name of a worker holds its process id."""
        command = python(
            "-m",
            "docket",
            "worker",
            "--docket",
            "bench",
            "--url",
            url(),
            "--tasks",
            "benchmarks.peers.pydocket:tasks",
            "--logging-level",
            "ERROR",
            "--concurrency",
            str(slots or CONCURRENCY),
        )
        return [command for _ in range(processes)]


adapter = DocketAdapter()
