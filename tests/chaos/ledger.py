"""What a chaos run counts, in Jepsen's terms."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conveyor.core.errors import ConveyorError
from conveyor.tasks import Handle
from tests.chaos.work import LOG, app
from tests.worker.harness import soon

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 60.0


@dataclass
class Counts:
    """The ledger of one run."""

    attempted: int = 0
    acknowledged: int = 0
    ok: int = 0
    lost: int = 0
    duplicated: int = 0
    recovered: int = 0
    stale_refused: int = 0
    unexpected: list[str] = field(default_factory=list)


def start_worker(
    url: str, log: Path, *options: str, target: str = "tests.chaos.work:app"
) -> subprocess.Popen[bytes]:
    """Start a worker of the chaos app; whoever asked ends it."""
    command = [sys.executable, "-m", "conveyor", "worker", target, "--url", url]
    with log.with_suffix(f".{os.urandom(4).hex()}.err").open("wb") as said:
        return subprocess.Popen(
            [*command, "--concurrency", "8", *options],
            cwd=ROOT,
            env={**os.environ, LOG: str(log)},
            stderr=said,
        )


def end(worker: subprocess.Popen[bytes]) -> int:
    """Stop a worker gracefully; returns its exit code."""
    worker.terminate()
    try:
        return worker.wait(30)
    finally:
        worker.kill()
        worker.wait()


def children(worker: subprocess.Popen[bytes]) -> list[int]:
    """Return the processes a worker has started."""
    tasks = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
    return [int(pid) for pid in tasks.read_text().split()] if tasks.exists() else []


def starts(log: Path) -> list[tuple[int, int]]:
    """Return (number, execution) of every start so far."""
    if not log.exists():
        return []
    return [(int(a), int(b)) for a, b in map(str.split, log.read_text().splitlines())]


async def started(log: Path, count: int) -> None:
    """Wait until so many starts are on record; when they do not come, tell what is known."""
    try:
        await soon(lambda: len(starts(log)) >= count, PATIENCE)
    except AssertionError as stall:
        inspector = await app.inspector()
        stall.add_note(f"started: {len(starts(log))} of {count}; {await inspector.counts()}")
        stall.add_note(f"workers: {await inspector.workers()}")
        for said in sorted(log.parent.glob("*.err")):
            stall.add_note(f"{said.name}: {said.read_text()[-4_000:]}")
        raise


async def settle_accounts(handles: Sequence[Handle[int]], log: Path) -> Counts:
    """Wait for every task and count what became of it."""
    counts = Counts(attempted=len(handles), acknowledged=len(handles))
    for number, handle in enumerate(handles):
        try:
            value: Any = await handle.result(PATIENCE)
        except TimeoutError:
            counts.lost += 1
        except ConveyorError as exc:
            counts.unexpected.append(repr(exc))
        else:
            counts.ok += value == number
    runs = Counter(starts(log))
    counts.recovered = len([1 for number in {n for n, _ in runs} if (number, 1) not in runs])
    again = [key for key, times in runs.items() if times > 1]
    counts.duplicated = len(again)
    counts.unexpected += [f"execution {n} of task {t} ran twice" for t, n in again]
    return counts


async def violations() -> list[str]:
    """Ask the doctor."""
    found = await (await app.inspector()).check()
    return [f"{entry.invariant}: {entry.message} {entry.ids}" for entry in found]
