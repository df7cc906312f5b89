"""What an idle worker does not carry about: modules that only other processes or stores need."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.worker.harness import ROOT, eventually

COMMAND_LINE = {"typer", "rich", "pydantic", "conveyor.cli", "conveyor.testing"}
PACKAGING = {"importlib.metadata", "importlib.resources"}
SELDOM = {"calendar", "dataclasses", "difflib", "email", "sysconfig", "zipfile", "zoneinfo"}
DRIVERS = {"asyncpg", "hiredis", "redis", "sqlite3"}
URLS = {
    "sqlite:///queue.db": DRIVERS - {"sqlite3"},
    "postgresql://localhost/queue": DRIVERS - {"asyncpg"},
    # What finds Sentinels and clusters is as large as all the rest of Conveyor.
    "redis://localhost/0": DRIVERS - {"hiredis"},
}
CONSOLE = {"cryptography", "fastapi", "httpx", "opentelemetry", "sqlalchemy"}
NEVER = COMMAND_LINE | PACKAGING | SELDOM | CONSOLE
SUPERVISOR, CHILD = "conveyor.worker.main", "conveyor.worker.child, conveyor.worker.engine"


def imported(modules: str, url: str) -> set[str]:
    """Names of what a fresh process has imported once it is ready to connect."""
    # What was there before is the tests' own: measuring coverage takes a database, too.
    code = (
        f"import json, sys; before = set(sys.modules); import {modules}; "
        f"from conveyor.brokers.url import connect; connect({url!r}); "
        "print(json.dumps(list(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("modules", [SUPERVISOR, CHILD], ids=["supervisor", "child"])
def test_a_process_imports_only_what_it_needs(modules: str, url: str) -> None:
    assert imported(modules, url) & (NEVER | URLS[url]) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the list of processes")
def test_the_command_becomes_the_supervisor(tmp_path: Path) -> None:
    """Its number stays, what parsed its arguments goes; people still see what was asked for."""
    words = ["worker", "tests.worker.apps:app", "--url", f"sqlite:///{tmp_path}/queue.db"]
    started = subprocess.Popen(
        [sys.executable, "-m", "conveyor", *words], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    process = psutil.Process(started.pid)
    try:
        eventually(process.children)
        command = process.cmdline()
        assert command[1:3] == ["-m", SUPERVISOR]
        assert command[4:] == words
        process.terminate()
        assert started.wait(20) == 0
    finally:
        started.kill()
        started.wait()
