"""What a broker alone costs per task: no worker, no user code, only the verbs of the hot path.

    python -m benchmarks.broker_micro sqlite:////tmp/micro.db --tasks 20000 --batch 500

Pushes tasks in bulk, then drains them with `step(settlements, want)` until none is left, as one
worker does, in one or several processes. Prints microseconds per task, as wall time and as CPU of
the client's processes (for SQLite that is the whole broker), as JSON. The queue is its own; what
it leaves in the store are finished tasks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from conveyor.brokers.base import Broker, Settlement, Step
from conveyor.brokers.url import connect
from conveyor.core import codec
from conveyor.core.lifecycle import decide
from conveyor.core.outcome import Succeeded
from conveyor.core.task import Execution, Lease, NewTask, Task
from conveyor.system import new_id

QUEUE = "broker-micro"
_PAYLOAD = codec.encode([[1, "two"], {}], what="arguments")
_RESULT = Succeeded(codec.encode({"sent": 1}, what="result"))


def settlement(lease: Lease) -> Settlement:
    """Return the end of a first execution that succeeded."""
    record = Execution(lease.execution, 1, "succeeded", lease.worker, lease.leased_at, 0.001, "abc")
    return Settlement(lease, decide(lease, _RESULT, dice=0.5), record)


class Clocks:
    """Wall and CPU seconds of this process (all its threads) since the start."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def per(self, count: int) -> dict[str, float]:
        """Return microseconds per task, and tasks per second."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {
            "tasks": count,
            "wall_us": round(1e6 * wall / max(1, count), 2),
            "cpu_us": round(1e6 * cpu / max(1, count), 2),
            "per_second": round(count / wall),
        }


def made(count: int) -> list[NewTask]:
    """Make tasks that were not pushed yet."""
    now = time.time()
    return [NewTask(Task(new_id(), "bench.noop", QUEUE, 5, _PAYLOAD, now)) for _ in range(count)]


async def push_bulk(broker: Broker, count: int) -> dict[str, float]:
    """Push many with one call."""
    tasks = made(count)
    clocks = Clocks()
    await broker.push(tasks)
    return clocks.per(count)


async def push_single(broker: Broker, count: int, callers: int) -> dict[str, float]:
    """Push one by one, from so many callers at a time."""
    tasks = iter(made(count))

    async def call() -> None:
        for task in tasks:
            await broker.push([task])

    clocks = Clocks()
    await asyncio.gather(*(call() for _ in range(callers)))
    return clocks.per(count)


async def drain(broker: Broker, batch: int) -> dict[str, float]:
    """Lease and settle until nothing is left."""
    worker, done = new_id(), 0
    await broker.renew([worker], 600)
    ends: list[Settlement] = []
    clocks, building = Clocks(), 0.0
    while True:
        reply = await broker.step(Step(worker, [QUEUE], batch, ends))
        done += len(ends) - len(reply.refused)
        begun = time.thread_time()
        ends = [settlement(lease) for lease in reply.leases]
        building += time.thread_time() - begun
        if not ends:
            break
    figures = clocks.per(done)
    # Deciding and building settlements is the worker's work, not the broker's.
    figures["cpu_us"] = round(figures["cpu_us"] - 1e6 * building / max(1, done), 2)
    await broker.renew([worker], 0)
    return figures


async def _opened(url: str, work: Any) -> Any:
    broker = connect(url)
    await broker.open()
    try:
        return await work(broker)
    finally:
        await broker.close()


def drain_in_process(url: str, batch: int) -> dict[str, float]:
    """Drain as one of several processes."""
    figures: dict[str, float] = asyncio.run(_opened(url, lambda broker: drain(broker, batch)))
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--callers", type=int, default=100)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    return asyncio.run(_measure(options))


async def _measure(options: argparse.Namespace) -> int:
    broker = connect(options.url)
    await broker.migrate()
    await broker.open()
    figures: dict[str, Any] = {"url": broker.url, "batch": options.batch}
    try:
        figures["push_bulk"] = await push_bulk(broker, options.tasks)
        figures["push_single"] = await push_single(broker, 200, 1)
        figures["push_concurrent"] = await push_single(broker, 5_000, options.callers)
        if options.processes == 1:
            figures["drain"] = await drain(broker, options.batch)
        else:
            figures["drain"] = await _drain_in(options)
    finally:
        await broker.close()
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    return 0


async def _drain_in(options: argparse.Namespace) -> dict[str, Any]:
    """Drain with several processes at a time."""
    loop = asyncio.get_running_loop()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        clock = time.perf_counter()
        parts = await asyncio.gather(
            *(
                loop.run_in_executor(pool, drain_in_process, options.url, options.batch)
                for _ in range(options.processes)
            )
        )
        wall = time.perf_counter() - clock
    total = sum(part["tasks"] for part in parts)
    return {"tasks": total, "per_second_with_start": round(total / wall), "each": parts}


if __name__ == "__main__":
    sys.exit(main())
