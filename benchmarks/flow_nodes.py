"""How many nodes of workflows one worker runs a second, by the shape of the graph.

    python -m benchmarks.flow_nodes redis://127.0.0.1:6379/0 --nodes 10000

`plain` is the same number of tasks without a workflow: what the store and the machine give. Then a
`diamond` (one top, many sides, one join), `layers` (a hundred wide, each node waits for three),
`small` (workflows of ten nodes), `map` (one mapped node, reduced) and `chain` (a hundred side by
side). A worker with one child process does the work; counted from the first end to the last. The
store should be empty. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from conveyor import Conveyor
from conveyor.brokers.url import connect
from conveyor.workflows import Results

app = Conveyor(os.environ.get("CONVEYOR_URL"))


@app.task(queue="flow-nodes")
async def work(number: int, above: int = 0) -> int:
    return number


@app.task(queue="flow-nodes")
async def total(numbers: Results[int]) -> int:
    return sum([number async for number in numbers])


async def plain(count: int) -> int:
    await app.enqueue_many(work.bind(number) for number in range(count))
    return count


async def diamond(count: int) -> int:
    flow = app.workflow("diamond")
    top = flow.add(work, 0)
    sides = [flow.add(work, number, top.result) for number in range(count - 2)]
    flow.add(work, 0).after(*sides)
    await flow.enqueue()
    return count


async def layers(count: int) -> int:
    made = 0
    for _ in range(max(1, count // 1_000)):
        flow = app.workflow("layers")
        layer = [flow.add(work, number) for number in range(100)]
        for _ in range(9):
            layer = [
                flow.add(work, n).after(layer[n], layer[n - 1], layer[n - 2]) for n in range(100)
            ]
        await flow.enqueue()
        made += 1_000
    return made


async def small(count: int) -> int:
    for _ in range(count // 10):
        flow = app.workflow("small")
        top = flow.add(work, 0)
        flow.add(work, 0).after(*[flow.add(work, n, top.result) for n in range(8)])
        await flow.enqueue()
    return count // 10 * 10


async def mapped(count: int) -> int:
    flow = app.workflow("map")
    flow.map(work, range(count - 1), window=1_000).reduce(total)
    await flow.enqueue()
    return count


async def chain(count: int) -> int:
    length = max(1, count // 100)
    for _ in range(100):
        flow = app.workflow("chain")
        node = flow.add(work, 0)
        for number in range(length - 1):
            node = flow.add(work, number, node.result)
        await flow.enqueue()
    return length * 100


SHAPES: dict[str, Callable[[int], Awaitable[int]]] = {
    "plain": plain,
    "diamond": diamond,
    "layers": layers,
    "small": small,
    "map": mapped,
    "chain": chain,
}


async def measure(shape: str, count: int, before: int, concurrency: int) -> dict[str, Any]:
    """Run one shape to its end; `before` tasks had ended already."""
    began = time.perf_counter()
    nodes = await SHAPES[shape](count)
    stored = time.perf_counter() - began
    command = [sys.executable, "-m", "conveyor", "worker", "benchmarks.flow_nodes:app"]
    worker = subprocess.Popen(  # noqa: ASYNC220 - it lives beside the loop, nothing waits for it
        [*command, "--url", app.url, "--concurrency", str(concurrency)],
        env={**os.environ, "CONVEYOR_URL": app.url},
        stderr=subprocess.DEVNULL,
    )
    inspector = await app.inspector()
    first = first_count = 0.0
    try:
        while True:
            counts = await inspector.counts()
            ended = sum(n for state, n in counts.items() if state.is_final) - before
            now = time.perf_counter()
            if ended and not first:
                first, first_count = now, ended
            if ended >= nodes:
                break
            await asyncio.sleep(0.02)
    finally:
        worker.terminate()
        await asyncio.to_thread(worker.wait)
    return {
        "nodes": nodes,
        "enqueue_seconds": round(stored, 2),
        "seconds": round(now - first, 2),
        "per_second": round((nodes - first_count) / max(0.001, now - first)),
    }


async def main(options: argparse.Namespace) -> None:
    """Measure every shape asked for."""
    app.url = options.url
    broker = connect(options.url)
    await broker.migrate()
    await broker.close()
    figures: dict[str, Any] = {}
    async with app:
        before = 0
        for shape in options.shapes.split(","):
            figures[shape] = await measure(shape, options.nodes, before, options.concurrency)
            before += figures[shape]["nodes"]
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    asyncio.run(main(parser.parse_args()))
