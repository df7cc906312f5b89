"""Run the demo: `python -m examples.stdlib_index`.

Starts a worker on a fresh SQLite file, enqueues one task per file of the standard library and the
`malformed` folder, shows the progress, merges, and checks the totals against a direct computation.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from conveyor.tasks import Handle
from examples.stdlib_index import report
from examples.stdlib_index.facts import Facts, count_directly
from examples.stdlib_index.tasks import ATTEMPTS, app, index_file, merge

MALFORMED = Path(__file__).parent / "malformed"
PROCESSES = 2


def sources() -> list[Path]:
    """Return the source files to index: the standard library, and the malformed ones."""
    library = Path(sysconfig.get_path("stdlib"))
    found = [p for p in library.rglob("*.py") if "site-packages" not in p.parts]
    return sorted(found) + sorted(MALFORMED.iterdir())


def priority_of(path: Path) -> str:
    """Run what matters most first: the malformed, then top-level modules, tests last."""
    if path.parent == MALFORMED:
        return "critical"
    if "test" in path.parts or "tests" in path.parts:
        return "low"
    return "high" if path.parent == Path(sysconfig.get_path("stdlib")) else "normal"


@contextmanager
def worker(url: str, log: Path) -> Generator[None, None, None]:
    """Run a worker until the block ends, then let it drain. Its lines go to `log`, for they would
    tear the progress bar; when something fails they are shown."""
    command = [sys.executable, "-m", "conveyor", "worker", "examples.stdlib_index.tasks:app"]
    command += ["--url", url, "--processes", str(PROCESSES), "--concurrency", "4"]
    with log.open("wb") as lines:
        process = subprocess.Popen(command, stderr=lines)
    try:
        yield
    except BaseException:
        sys.stderr.write(log.read_text(encoding="utf-8", errors="replace"))
        raise
    finally:
        process.terminate()
        process.wait(timeout=40)


async def run(console: Console, paths: list[Path]) -> Facts:
    """Enqueue everything, watch it, merge; returns the totals."""
    async with app:
        started = time.monotonic()
        handles = await app.enqueue_many(
            index_file.with_options(priority=priority_of(path)).bind(str(path)) for path in paths
        )
        console.print(
            f"enqueued {len(handles):,} tasks in {time.monotonic() - started:.2f} s, "
            f"{PROCESSES} worker processes on [bold]{app.url}[/bold]"
        )
        await report.watch(console, app, len(handles))
        merged: Handle[Facts] = await merge.enqueue([handle.id for handle in handles])
        total = await merged.result(timeout=120)
        await report.summary(console, app, total, time.monotonic() - started)
        return total


def main() -> int:
    """Run the demo; returns the exit code."""
    console = Console(highlight=False)
    paths = sources()
    with tempfile.TemporaryDirectory(prefix="conveyor-demo-") as folder:
        app.url = f"sqlite:///{Path(folder).as_posix()}/demo.db"
        with worker(app.url, Path(folder) / "worker.log"):
            total = asyncio.run(run(console, paths))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        direct, failed = count_directly(paths, ATTEMPTS)
    if total != direct:
        console.print(f"[red]the totals differ from a direct computation: {direct}[/red]")
        return 1
    console.print(
        f"[green]✓[/green] the totals equal a direct single-process computation "
        f"({direct.files:,} files counted, {failed} not Python)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
