"""Run the demo: `python -m examples.stdlib_index`.

Starts `conveyor up` (worker and console) on a fresh SQLite file, enqueues one task per file of the
standard library and the `malformed` folder, shows the progress, merges, checks the totals against a
direct computation, and leaves the console open until Ctrl-C. With DEMO_EXIT=1 it ends by itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

from rich.console import Console

from conveyor.tasks import Handle
from examples.stdlib_index import report
from examples.stdlib_index.facts import Facts, count_directly
from examples.stdlib_index.tasks import ATTEMPTS, app, index_file, merge

MALFORMED = Path(__file__).parent / "malformed"
PROCESSES = 2
HOST, PORT = "127.0.0.1", 8000


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
def everything(url: str, port: int, log: Path) -> Generator[None, None, None]:
    """Run worker and console until the block ends, then let them drain. Their lines go to `log`,
    for they would tear the progress bar; when something fails they are shown."""
    command = [sys.executable, "-m", "conveyor", "up", "examples.stdlib_index.tasks:app"]
    command += ["--url", url, "--port", str(port)]
    command += ["--processes", str(PROCESSES), "--concurrency", "4"]
    environment = {**os.environ, "CONVEYOR_DATABASE_URL": url.replace("demo.db", "console.db")}
    for name in ("CONVEYOR_ADMIN_EMAIL", "CONVEYOR_ADMIN_PASSWORD"):
        environment.pop(name, None)
    with log.open("wb") as lines:
        process = subprocess.Popen(command, stderr=lines, env=environment)
    try:
        yield
    except BaseException:
        sys.stderr.write(log.read_text(encoding="utf-8", errors="replace"))
        raise
    finally:
        process.terminate()
        process.wait(timeout=60)


def a_port() -> int:
    """Return the console's usual port, or another one when somebody else has it."""
    for port in (PORT, 0):
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise OSError("no port is free")


def is_ready(port: int) -> bool:
    """Ask the console whether queue and database answer, for some seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(OSError), closing(HTTPConnection(HOST, port, timeout=5)) as line:
            line.request("GET", "/readyz")
            return line.getresponse().status == 200
        time.sleep(0.1)
    return False


def stay(console: Console, port: int, log: Path) -> None:
    """Leave the console open until Ctrl-C."""
    who = [line for line in log.read_text(encoding="utf-8").splitlines() if "password" in line]
    console.print(f"\n[bold]console: http://{HOST}:{port}[/bold]")
    console.print(*who, "Ctrl-C ends it.", sep="\n")
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3_600)


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


def ends_by_itself() -> bool:
    """Whether nobody is there to look at the console."""
    return os.environ.get("DEMO_EXIT") == "1" or not sys.stdin.isatty()


def main() -> int:
    """Run the demo; returns the exit code."""
    console = Console(highlight=False)
    paths = sources()
    with tempfile.TemporaryDirectory(prefix="conveyor-demo-") as folder:
        app.url = f"sqlite:///{Path(folder).as_posix()}/demo.db"
        log, port = Path(folder) / "up.log", a_port()
        with everything(app.url, port, log):
            total = asyncio.run(run(console, paths))
            if not is_right(console, paths, total):
                return 1
            if not is_ready(port):
                console.print("[red]the console does not answer[/red]")
                return 1
            console.print(f"[green]✓[/green] the console answers on http://{HOST}:{port}")
            if not ends_by_itself():
                stay(console, port, log)
    return 0


def is_right(console: Console, paths: list[Path], total: Facts) -> bool:
    """Compare with a direct single-process computation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        direct, failed = count_directly(paths, ATTEMPTS)
    if total != direct:
        console.print(f"[red]the totals differ from a direct computation: {direct}[/red]")
        return False
    console.print(
        f"[green]✓[/green] the totals equal a direct single-process computation "
        f"({direct.files:,} files counted, {failed} not Python)"
    )
    return True


if __name__ == "__main__":
    sys.exit(main())
