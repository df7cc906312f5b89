"""Conveyor on Redis, PostgreSQL and SQLite: the same adapter, another URL."""

from __future__ import annotations

import asyncio
import os

from benchmarks import work
from benchmarks.adapter import AsyncAdapter, python, url
from conveyor import Conveyor

STORE = url().split(":")[0].replace("postgresql", "postgres")
app = Conveyor(url())


@app.task(name="noop")
async def noop(number: int) -> int:
    """Nothing."""
    return work.noop(number)


@app.task(name="nap")
async def nap(number: int) -> int:
    """50 ms."""
    return await work.nap_async(number)


TASKS = {"noop": noop, "nap": nap}


class ConveyorAdapter(AsyncAdapter):
    """See `benchmarks.adapter.Adapter`."""

    name, store, distribution = f"conveyor-{STORE}", STORE, "conveyor"
    guarantee = (
        "at least once with fenced execution numbers: a lost host's tasks run again within 17 s,"
        " a stale write is refused"
    )
    tuning = "defaults"
    bulk = True

    async def prepare(self) -> None:
        """See `Adapter`."""
        command = python("-m", "conveyor", "migrate")
        environment = os.environ | {"CONVEYOR_URL": url()}
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        if await process.wait():
            raise RuntimeError(f"conveyor migrate ended with {process.returncode}")

    async def open(self) -> None:
        """See `Adapter`."""
        await app.__aenter__()

    async def close(self) -> None:
        """See `Adapter`."""
        await app.__aexit__(None, None, None)

    async def send(self, task: str, number: int) -> object:
        """See `AsyncAdapter`."""
        return await TASKS[task].enqueue(number)

    async def send_many(self, task: str, numbers: list[int]) -> object:
        """See `AsyncAdapter`."""
        return await app.enqueue_many(TASKS[task].bind(number) for number in numbers)

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """See `Adapter`."""
        limit = ["--concurrency", str(slots)] if slots else []
        return [
            python(
                "-m",
                "conveyor",
                "worker",
                "benchmarks.peers.conveyor:app",
                "--url",
                url(),
                "--processes",
                str(processes),
                *limit,
            )
        ]


adapter = ConveyorAdapter()
