"""How fast the recorder writes, and how far it is behind while tasks end at a steady rate.

    python -m benchmarks.recording --queue redis://localhost/0 --database sqlite:////tmp/rec.db

Tasks are leased and settled in bulk, without a worker: what is measured is the recorder. First a
backlog is drained, then another process holds the given rate for ten seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any

from uuid_utils import uuid7

from conveyor import Conveyor
from conveyor.brokers.base import Settlement, Step
from conveyor.brokers.url import connect
from conveyor.core.lifecycle import decide
from conveyor.core.outcome import Succeeded
from conveyor.core.task import Execution
from conveyor_console.db import schema
from conveyor_console.db.engine import Database
from conveyor_console.history.recorder import Recorder
from conveyor_console.kit.clock import SystemClock

_BATCH = 500
_ENDING = 10
"""Looks while the feeder ends and makes nothing any more."""


class Plant:
    """Makes tasks and ends them."""

    def __init__(self, queue: Conveyor) -> None:
        self.queue = queue

        @queue.task(name="bench.noop")
        async def noop(number: int) -> int:
            return number

        self.noop = noop

    async def make(self, count: int) -> None:
        """Let so many tasks succeed."""
        broker = (await self.queue.client()).broker
        await broker.renew(["bench"], 600)
        for start in range(0, count, _BATCH):
            numbers = range(start, min(count, start + _BATCH))
            await self.queue.enqueue_many([self.noop.bind(number) for number in numbers])
            reply = await broker.step(Step("bench", ("default",), len(numbers)))
            ended = [self._ended(lease) for lease in reply.leases]
            await broker.step(Step("bench", ("default",), 0, ended))

    @staticmethod
    def _ended(lease: Any) -> Settlement:
        record = Execution(
            number=lease.execution,
            attempt=1,
            outcome="succeeded",
            worker="bench",
            started_at=lease.leased_at,
            duration=0.001,
        )
        return Settlement(lease, decide(lease, Succeeded(b"\x01"), dice=0.5), record)


async def main(queue_url: str, database_url: str, count: int, rate: int) -> None:
    """Measure."""
    broker = connect(queue_url)
    await broker.migrate()
    await broker.close()
    database = Database(database_url)
    await schema.upgrade(database)
    async with Conveyor(queue_url) as queue:
        plant = Plant(queue)
        recorder = Recorder(queue, database, SystemClock(), lambda: str(uuid7()), 30)
        await recorder.catch_up()
        await plant.make(count)
        began, cpu = time.perf_counter(), time.process_time()
        await recorder.catch_up()
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        print(f"backlog: {count:,} tasks in {took:.1f} s, {count / took:,.0f}/s, CPU {cpu:.1f} s")
        module = ["-m", "benchmarks.recording", "--queue", queue_url, "--database", database_url]
        await _steady(recorder, [*module, "--rate", str(rate), "--feed"])
    await database.close()


async def _steady(recorder: Recorder, feeding: list[str]) -> None:
    """Record what another process makes, and look every 50 ms how old the last event in the history
    is; the feeder makes a portion every 50 ms, so that much of it is the feeder's own."""
    before = last = (recorder._state or await recorder._load()).event_at
    feeder = await asyncio.create_subprocess_exec(sys.executable, *feeding)
    ended = asyncio.create_task(feeder.wait())
    recorder.start()
    behind: list[float] = []
    while not ended.done():
        await asyncio.sleep(0.05)
        if recorder._state is not None:  # None while a batch is being written
            last = recorder._state.event_at
        if last > before:
            behind.append(time.time() - last)
    await recorder.close()
    behind = sorted(behind[:-_ENDING])
    print(f"behind: p50 {behind[len(behind) // 2]:.2f} s, at most {behind[-1]:.2f} s")


async def feed(queue_url: str, rate: int) -> None:
    """Make so many tasks a second, for ten seconds."""
    async with Conveyor(queue_url) as queue:
        plant = Plant(queue)
        began = time.perf_counter()
        for beat in range(200):
            await plant.make(rate // 20)
            await asyncio.sleep(max(0, began + (beat + 1) / 20 - time.perf_counter()))
        print(f"steady: {10 * rate / (time.perf_counter() - began):,.0f} tasks/s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queue", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--feed", action="store_true", help="only make tasks, at the rate")
    options = parser.parse_args()
    if options.feed:
        asyncio.run(feed(options.queue, options.rate))
        sys.exit()
    asyncio.run(main(options.queue, options.database, options.tasks, options.rate))
