"""What features cost on each store, beside the same tasks without them, in one run:
`make bench-features`.

    python -m benchmarks.features [--n 20000] [--stores redis,postgres,sqlite] [--out DIR]

- **limits**: no-op tasks drained by one worker with limits off, then with a limit that never binds
  (a rate, slots, slots per key), then with fairness between a thousand keys. The ratio to off
  counts.
- **schedules**: so many schedules are due at once; from the moment of their nominal time until the
  last of their tasks is stored.
- **workflows**: nodes a second, by the shape of the graph (`flow_nodes.py`).
- **transactions**: tasks a second that are enqueued in the user's session (`transactions.py`).

Servers of our own on 127.0.0.1, as in `run.py`. A figure that did not come in time is null.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import flow_nodes, transactions
from benchmarks.features_report import as_json, as_tables
from benchmarks.servers import Store, Stores
from conveyor import Concurrency, Conveyor, Rate
from conveyor.brokers.url import connect

ROOT = Path(__file__).resolve().parent.parent
PLENTY = Rate("1000000/s", burst=1_000_000)
KEYS = 1_000
PATIENCE = 120.0
TO_START = 15.0
"""Seconds that a keeper may take to start and to read the schedules."""

app = Conveyor(os.environ.get("CONVEYOR_URL"))


@app.task(queue="features")
async def plain(number: int) -> int:
    return number


@app.task(queue="features", rate_limit=PLENTY)
async def rated(number: int) -> int:
    return number


@app.task(queue="features", concurrency=Concurrency(1_000))
async def held(number: int) -> int:
    return number


@app.task(queue="features", concurrency=Concurrency(1_000, key=lambda number: number % KEYS))
async def slotted(number: int) -> int:
    return number


@app.task(queue="features", fair_by=lambda number: number % KEYS)
async def fair(number: int) -> int:
    return number


OFF = "limits off"
KINDS = {
    OFF: plain,
    "rate limit on": rated,
    "slots on": held,
    "slots per key on": slotted,
    "fairness on": fair,
}


async def drain(url: str, kind: str, count: int) -> float | None:
    """Return the tasks a second that one worker drains of a queue that was filled before; None
    when it was not through in time."""
    app.url = url
    async with app:
        task = KINDS[kind]
        await app.enqueue_many(task.bind(number) for number in range(count))
        inspector = await app.inspector()
        command = [sys.executable, "-m", "conveyor", "worker", "benchmarks.features:app"]
        worker = subprocess.Popen(  # noqa: ASYNC220 - it lives beside the loop, nothing waits for it
            [*command, "--url", url, "--concurrency", "100"], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        try:
            return await _rate(inspector, count)
        finally:
            worker.terminate()
            await asyncio.to_thread(worker.wait)


async def _rate(inspector: Any, count: int) -> float | None:
    begun = time.perf_counter()
    first, first_count = 0.0, 0
    while time.perf_counter() - begun < PATIENCE:
        counts = await inspector.counts()
        ended = sum(number for state, number in counts.items() if state.is_final)
        now = time.perf_counter()
        if ended and not first:
            first, first_count = now, ended
        if ended >= count:
            return (count - first_count) / max(0.001, now - first)
        await asyncio.sleep(0.02)
    return None


async def schedules(url: str, count: int) -> float | None:
    """Return the seconds from the nominal time of so many schedules to the last of their tasks;
    None when they were not stored within the minute."""
    app.url = url
    async with app:
        for start in range(0, count, 200):
            names = range(start, min(start + 200, count))
            await asyncio.gather(
                *(
                    app.schedules.create(f"s{n}", plain.bind(n), cron="* * * * *", catch_up="none")
                    for n in names
                )
            )
        nominal = await _quiet_minute()
        command = [sys.executable, "-m", "conveyor", "keeper", "benchmarks.features:app"]
        keeper = subprocess.Popen(  # noqa: ASYNC220 - as above
            [*command, "--url", url], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        try:
            return await _late(await app.inspector(), nominal, count)
        finally:
            keeper.terminate()
            await asyncio.to_thread(keeper.wait)


async def _quiet_minute() -> float:
    """Return the next whole minute, once it is far enough away for a keeper to be up by then."""
    now = time.time()
    if now % 60 > 60 - TO_START:
        await asyncio.sleep(60 - now % 60)
    return time.time() // 60 * 60 + 60


async def _late(inspector: Any, nominal: float, count: int) -> float | None:
    await asyncio.sleep(nominal - 1 - time.time())
    # A keeper that starts just after a whole minute still fires that one.
    before = sum((await inspector.counts()).values())
    await asyncio.sleep(max(0.0, nominal - time.time()))
    while (late := time.time() - nominal) < 60:
        if sum((await inspector.counts()).values()) >= before + count:
            return late
        await asyncio.sleep(0.02)
    return None


async def workflows(url: str, count: int) -> dict[str, float]:
    """Return nodes a second by shape."""
    flow_nodes.app.url = url
    found: dict[str, float] = {}
    before = 0
    async with flow_nodes.app:
        for shape in ("diamond", "map", "small", "chain"):
            figures = await flow_nodes.measure(shape, count, before, 200)
            before += figures["nodes"]
            found[shape] = figures["per_second"]
    return found


async def migrated(url: str) -> str:
    """Bring the store's schema up to date; returns its URL."""
    broker = connect(url)
    try:
        await broker.migrate()
    finally:
        await broker.close()
    return url


def measure(store: Store, options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything on one store; each part begins with an empty one."""

    def fresh() -> str:
        store.reset(0)
        return asyncio.run(migrated(store.url(0)))

    rates = {kind: asyncio.run(drain(fresh(), kind, options.n)) for kind in KINDS}
    return {
        "drain_per_second": rates,
        "to_off": {kind: _ratio(rate, rates[OFF]) for kind, rate in rates.items()},
        "schedules_due_at_once": options.schedules,
        "schedules_seconds": asyncio.run(schedules(fresh(), options.schedules)),
        "workflow_nodes_per_second": asyncio.run(workflows(fresh(), options.n // 2)),
        "transactions": asyncio.run(transactions.measure(fresh(), max(20, options.n // 10))),
    }


def _ratio(rate: float | None, base: float | None) -> float | None:
    return rate / base if rate is not None and base else None


def main() -> None:
    """Measure the stores asked for and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000, help="tasks of each drain")
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--stores", default="redis,postgres,sqlite")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out")
    options = parser.parse_args()
    names = options.stores.split(",")
    found: dict[str, dict[str, Any]] = {}
    options.out.mkdir(parents=True, exist_ok=True)
    with Stores(names) as stores:
        for name in names:
            found[name] = measure(stores[name], options)
            # After each store: a run that is cut short has told something.
            (options.out / "features.json").write_text(as_json(found))
            (options.out / "features.md").write_text(as_tables(found))
            sys.stderr.write(f"{name}: done\n")
    sys.stdout.write(as_tables(found))


if __name__ == "__main__":
    main()
