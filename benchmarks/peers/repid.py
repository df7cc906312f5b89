"""Repid on Redis Streams. Run as a module, this file is its worker."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

from repid import Repid, Router
from repid.connections.redis import RedisServer

from benchmarks import work
from benchmarks.adapter import AsyncAdapter, python, url

app = Repid(title="bench")
app.servers.register_server(
    "default",
    RedisServer(url()),
    is_default=True,
)
router = Router()


@router.actor(channel="bench")
async def noop(number: int) -> int:
    """Nothing."""
    return work.noop(number)


@router.actor(channel="bench")
async def nap(number: int) -> int:
    """50 ms."""
    return await work.nap_async(number)


app.include_router(router)


class RepidAdapter(AsyncAdapter):
    """See `benchmarks.adapter.Adapter`."""

    name, store, distribution = "repid", "redis", "repid"
    guarantee = (
        "at least once in principle; by default (claim_interval=0) nobody claims the messages of a"
        " dead worker. No results"
    )
    tuning = "batch_size 10 (its default, and the fastest), limit of 1000 tasks (default), uvloop"
    results = False

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """See `Adapter`."""
        await self._stack.enter_async_context(app.servers.default.connection())

    async def close(self) -> None:
        """See `Adapter`."""
        await self._stack.aclose()

    async def send(self, task: str, number: int) -> object:
        """See `AsyncAdapter`."""
        return await app.send_message_json(
            channel="bench", payload={"number": number}, headers={"topic": task}
        )

    def worker_commands(self, processes: int, slots: int | None) -> list[list[str]]:
        """Repid has no command: one module run per process."""
        limit = json.dumps(slots or 1000)
        return [python("-m", "benchmarks.peers.repid", limit) for _ in range(processes)]


adapter = RepidAdapter()


async def work_forever(limit: int) -> None:
    """A worker as in Repid's quickstart."""
    async with app.servers.default.connection():
        await app.run_worker(tasks_limit=limit)


if __name__ == "__main__":
    import sys

    try:
        import uvloop
    except ImportError:
        asyncio.run(work_forever(int(sys.argv[1])))
    else:
        uvloop.run(work_forever(int(sys.argv[1])))
