"""Awa on PostgreSQL: a Rust runtime that calls Python handlers. Run as a module: its worker."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

import awa

from benchmarks import work
from benchmarks.adapter import AsyncAdapter, python, url

WORKERS = 300


@dataclass
class Noop:
    """Nothing."""

    number: int


@dataclass
class Nap:
    """50 ms."""

    number: int


TASKS: dict[str, type[Noop] | type[Nap]] = {"noop": Noop, "nap": Nap}


class AwaAdapter(AsyncAdapter):
    """See `benchmarks.adapter.Adapter`."""

    name, store, distribution = "awa", "postgres", "awa-pg"
    guarantee = "at least once: leases with heartbeats, stale ones are rescued. No results"
    tuning = f"{WORKERS} workers a process, pool of 10, COPY for bulk"
    results = False
    bulk = True

    async def prepare(self) -> None:
        """See `Adapter`."""
        async with awa.AsyncClient(url()) as client:
            await client.migrate()
            await client.install_queue_storage()

    async def open(self) -> None:
        """See `Adapter`."""
        self._client = awa.AsyncClient(url())

    async def close(self) -> None:
        """See `Adapter`."""
        await self._client.close()

    async def send(self, task: str, number: int) -> object:
        """See `AsyncAdapter`."""
        return await self._client.insert(TASKS[task](number), queue="bench")

    async def send_many(self, task: str, numbers: list[int]) -> object:
        """See `AsyncAdapter`."""
        jobs = [TASKS[task](number) for number in numbers]
        return await self._client.enqueue_many_copy(jobs, queue="bench")

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """Awa has no worker command: one module run per process."""
        command = python("-m", "benchmarks.peers.awa", str(slots or WORKERS))
        return [command for _ in range(processes)]


adapter = AwaAdapter()


async def work_forever(workers: int) -> None:
    """A worker as in Awa's README."""
    client = awa.AsyncClient(url())

    @client.task(Noop, queue="bench")
    async def noop(job: awa.Job[Noop]) -> None:
        work.noop(job.args.number)

    @client.task(Nap, queue="bench")
    async def nap(job: awa.Job[Nap]) -> None:
        await work.nap_async(job.args.number)

    await client.start([("bench", workers)])
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work_forever(int(sys.argv[1])))
