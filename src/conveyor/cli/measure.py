"""What `conveyor bench` does: the queue's own figures on this machine."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from statistics import median, quantiles
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from conveyor.cli.noop import QUEUE, app, noop
from conveyor.core.task import Pause
from conveyor.core.urls import redact

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker

_SINGLES = 500
_CALLERS = 100
_PROBES = 100
_READY, _LIMIT = 30.0, 600.0


def measure(count: int, url: str | None) -> dict[str, Any]:
    """Measure on `url`, or on a SQLite file made for it. Uses its own queue only."""
    with tempfile.TemporaryDirectory(prefix="conveyor-bench-") as folder:
        app.url = f"sqlite:///{folder}/bench.db" if url is None else url
        figures = asyncio.run(_measure(count))
    return {
        "url": redact(app.url) if url else "sqlite:///(temporary file)",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "tasks": count,
        **figures,
    }


async def _measure(count: int) -> dict[str, Any]:
    async with app, _worker():
        broker = (await app.client()).broker
        await (await noop.enqueue()).result(_READY)
        figures: dict[str, Any] = {"start_latency_ms": await _latency()}
        await broker.pause(QUEUE, Pause("conveyor bench is preparing", "bench", time()))
        try:
            figures |= await _enqueueing(count)
        finally:
            began = perf_counter()
            await broker.pause(QUEUE, None)
        waiting = count + 2 * _SINGLES
        await _drained(broker)
        figures["run_per_second"] = round(waiting / (perf_counter() - began))
        return figures


@asynccontextmanager
async def _worker() -> AsyncIterator[None]:
    command = [sys.executable, "-m", "conveyor", "worker", "conveyor.cli.noop:app"]
    process = await asyncio.create_subprocess_exec(
        *command, "--url", app.url, "--queues", QUEUE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _enqueueing(count: int) -> dict[str, int]:
    began = perf_counter()
    for _ in range(_SINGLES):
        await noop.enqueue()
    single = _SINGLES / (perf_counter() - began)
    began = perf_counter()
    for _ in range(_SINGLES // _CALLERS):
        await asyncio.gather(*(noop.enqueue() for _ in range(_CALLERS)))
    concurrent = _SINGLES / (perf_counter() - began)
    began = perf_counter()
    await app.enqueue_many(noop.bind() for _ in range(count))
    bulk = count / (perf_counter() - began)
    return {
        "enqueue_single_per_second": round(single),
        "enqueue_100_callers_per_second": round(concurrent),
        "enqueue_bulk_per_second": round(bulk),
    }


async def _latency() -> dict[str, float]:
    """From enqueue to the start of the task, at a hundred tasks a second."""
    waits: list[float] = []
    for _ in range(_PROBES):
        sent = time()
        handle = await noop.enqueue()
        await handle.result(_READY)
        started = (await handle.info()).started_at
        waits.append(((started or sent) - sent) * 1_000)
        await asyncio.sleep(0.01)
    return {"p50": round(median(waits), 2), "p99": round(quantiles(waits, n=100)[98], 2)}


async def _drained(broker: Broker) -> None:
    async with asyncio.timeout(_LIMIT):
        while True:
            queues = {info.name: info for info in await broker.inspector.queues()}
            info = queues.get(QUEUE)
            if info is None or not info.queued + info.running:
                return
            await asyncio.sleep(0.01)
