"""The producer process: runs one adapter and obeys JSON lines on standard input.

A peer gets a process of its own so that no event loop, thread pool or monkey patch of one peer
touches another, and so that a peer may live in another interpreter.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path
from typing import TextIO

from benchmarks.adapter import Adapter
from benchmarks.marks import Marks

Reply = dict[str, object]


def describe(adapter: Adapter) -> Reply:
    """What is printed beside every figure."""
    return {
        "name": adapter.name,
        "store": adapter.store,
        "version": importlib.metadata.version(adapter.distribution),
        "python": ".".join(map(str, sys.version_info[:3])),
        "guarantee": adapter.guarantee,
        "tuning": adapter.tuning,
        "results": adapter.results,
        "bulk": adapter.bulk,
        "forks": adapter.forks,
        "slots": adapter.slots,
    }


async def paced(adapter: Adapter, path: str, first: int, count: int, rate: float) -> Reply:
    """Enqueue tasks at a steady rate and note when each was handed to the queue."""
    marks = Marks.open(Path(path))
    begin = time.monotonic()
    for index in range(count):
        await asyncio.sleep(max(0.0, begin + index / rate - time.monotonic()))
        marks.sent[first + index] = time.monotonic()
        await adapter.enqueue_one("noop", first + index)
    return {"count": count, "seconds": time.monotonic() - begin}


async def obey(adapter: Adapter, order: dict[str, object]) -> Reply:
    """Do what one line asks for."""
    match order:
        case {"op": "describe"}:
            return describe(adapter)
        case {"op": "prepare"}:
            await adapter.prepare()
            await adapter.open()
            return {}
        case {"op": "enqueue", "mode": str(mode), "task": str(task), "first": int(first)}:
            numbers = range(first, first + int(str(order["count"])))
            sent = await adapter.enqueue(mode, task, numbers, float(str(order["budget"])))
            return {"count": sent.count, "seconds": sent.seconds}
        case {"op": "paced", "marks": str(path), "first": int(first), "count": int(count)}:
            return await paced(adapter, path, first, count, float(str(order["rate"])))
        case {"op": "commands", "processes": int(processes), "slots": int() | None as slots}:
            return {"commands": adapter.worker_commands(processes, slots)}
    raise ValueError(f"unknown order: {order}")


async def serve(module: str, replies: TextIO) -> None:
    """Obey until standard input ends."""
    adapter: Adapter = importlib.import_module(module).adapter
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            reply = await obey(adapter, json.loads(line))
        except Exception as error:  # noqa: BLE001 - a failing peer is a row with an error, not the end of a run
            reply = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(reply), file=replies, flush=True)
    await adapter.close()


def main() -> None:
    """Keep standard output for replies: whatever the peer prints goes to the log."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(sys.argv[1], replies))
    else:
        uvloop.run(serve(sys.argv[1], replies))


if __name__ == "__main__":
    main()
