"""Fuzz a console that really runs with schemathesis, as everybody who may call it.

`make fuzz ARGS="--store redis --examples 50 --seed 7"`. Everything is made for the run and thrown
away after it: store, database, server with warnings as errors, worker, one user of each role.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from conveyor import Conveyor
from conveyor_console.app import create_app
from conveyor_console.auth.permissions import SCOPES
from tests.servers import PostgresServer, ValkeyServer
from tests.worker.harness import ROOT, eventually

APP = "tests.console.fuzz_app:app"
PASSWORD = "a password of some length"
ROLES = ("viewer", "operator", "admin", "key", "nobody")
SCHEMATHESIS = ROOT / ".venv-fuzz/bin/schemathesis"
ENDLESS = "/api/v1/events"
# They would end the session that all others go on with, so they come last, on their own.
LAST = ("/api/v1/auth/logout", "/api/v1/auth/password", "/api/v1/auth/sessions/{session_id}")
CHECKS_LEFT_OUT = (
    # No schema says which cursor, filter, cron or name of a task there is, that one of two fields
    # must be given, or what version a row has: the answers to these are 412, 422 and 428.
    "positive_data_acceptance",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz as each role in turn; returns how many runs found something."""
    options = _parser().parse_args(arguments)
    # A store for each: an administrator changes accounts and keys of all others.
    return sum(_fuzzed_as(role, options) for role in options.roles)


def _fuzzed_as(role: str, options: argparse.Namespace) -> int:
    """Fuzz everything as one role; returns how many runs found something."""
    print(f"== {role} on {options.store}", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conveyor-fuzz-")))
        where = stack.enter_context(environment(options.store, folder))
        address = stack.enter_context(served(folder, where))
        stack.enter_context(_working(folder, where))
        token = _seeded(address)[role]
        found = 0
        for chosen in (_paths("exclude", *LAST, ENDLESS), _paths("include", *LAST)):
            found += bool(_fuzzed(address, token, options, folder, chosen))
        # The fuzzer may have closed a door, but the server must still be there.
        assert httpx.get(f"{address}/readyz").status_code == 200
        log = (folder / "served.log").read_text(encoding="utf-8")
    wrong = re.search("Traceback|Warning|ERROR", log)
    print(f"== the server said: {log[-5_000:] if wrong else 'nothing wrong'}", flush=True)
    return found + bool(wrong)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.console.fuzzing", description=__doc__)
    parser.add_argument("--store", choices=["sqlite", "redis", "postgres"], default="sqlite")
    parser.add_argument("--roles", nargs="+", choices=ROLES, default=ROLES)
    parser.add_argument("--examples", type=int, default=20, help="per operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--schemathesis", type=Path, default=SCHEMATHESIS)
    parser.add_argument("more", nargs="*", help="after --: for schemathesis")
    return parser


@contextmanager
def environment(store: str, folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a console and its worker over empty stores."""
    with ExitStack() as stack:
        url = f"sqlite:///{(folder / 'conveyor.db').as_posix()}"
        database = url
        if store != "sqlite":
            database = stack.enter_context(PostgresServer()).create_database()
            url = database
        if store == "redis":
            url = stack.enter_context(ValkeyServer()).url
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CONVEYOR_")}
        yield {
            **kept,
            "CONVEYOR_URL": url,
            "CONVEYOR_DATABASE_URL": database,
            "CONVEYOR_SECRET_KEY": "a secret of a fuzzing run, long enough",
            "CONVEYOR_ADMIN_EMAIL": "first@example.com",
            "CONVEYOR_ADMIN_PASSWORD": PASSWORD,
            "CONVEYOR_REGISTRATION": "open",
            "CONVEYOR_ACCESS_SECONDS": "86400",
            # Made-up URLs reach nobody: only this machine, where nothing listens on this port.
            "CONVEYOR_OUTGOING_NETWORKS": "127.0.0.0/8",
            "CONVEYOR_OUTGOING_PORTS": "9",
        }


@contextmanager
def served(folder: Path, where: dict[str, str], name: str = "") -> Iterator[str]:
    """`conveyor serve`, migrated, with warnings as errors; the address. `name` tells replicas
    apart."""
    for what in (["migrate"], ["console", "migrate"]):
        subprocess.run(_command(*what), cwd=ROOT, env=where, check=True)
    said = folder / f"served{name}.log"
    with said.open("wb") as log:
        server = subprocess.Popen(
            _command("serve", APP, "--port", "0"), cwd=ROOT, env=where, stderr=log
        )
    try:
        found = eventually(
            lambda: re.search(r"console: (http://\S+)", said.read_text()) or server.poll(), 60
        )
        assert isinstance(found, re.Match), said.read_text()
        yield str(found[1])
    finally:
        server.terminate()
        server.wait(60)


@contextmanager
def _working(folder: Path, where: dict[str, str]) -> Iterator[None]:
    """A worker that is there again after somebody shut it down."""
    over = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def run() -> None:
        while not over.is_set():
            with (folder / "worked.log").open("ab") as log:
                running[:] = [
                    subprocess.Popen(
                        _command("worker", APP), cwd=ROOT, env=where, stderr=log, stdout=log
                    )
                ]
            if over.is_set():
                running[0].terminate()
            running[0].wait()
            over.wait(1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        for worker in running:
            worker.terminate()
        thread.join(60)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "conveyor", *arguments]


def _seeded(address: str) -> dict[str, str | None]:
    """Make one of everything, so that answers have something in them; the tokens of the roles."""
    with httpx.Client(base_url=f"{address}/api/v1", timeout=30) as http:

        def post(path: str, body: dict[str, Any]) -> Any:
            answer = http.post(path, json=body)
            assert answer.is_success, (path, answer.text)
            return answer.json()

        def token(email: str) -> str:
            granted = post("/auth/login", {"email": email, "password": PASSWORD})
            return str(granted["access_token"])

        http.headers["Authorization"] = f"Bearer {token('first@example.com')}"
        for role in ("viewer", "operator", "admin"):
            post(
                "/users",
                {"email": f"{role}@example.com", "password": PASSWORD, "role": role, "name": role},
            )
        for name, more in (("fuzz.take", {"delay": 3_600.0}), ("fuzz.take", {}), ("fuzz.fail", {})):
            post("/tasks", {"name": name, **more})
        url = "http://127.0.0.1:9/"
        post("/webhooks", {"name": "hook", "url": url, "topics": ["task.failed"]})
        channel = post("/alerts/channels", {"name": "c", "kind": "webhook", "target": url})
        post(
            "/alerts/rules",
            {
                "name": "rule",
                "metric": http.get("/alerts/metrics").json()["items"][0],
                "threshold": 0,
                "channels": [channel["id"]],
            },
        )
        post("/schedules", {"name": "often", "task": "fuzz.take", "every": 5})
        tokens: dict[str, str | None] = {
            role: token(f"{role}@example.com") for role in ("viewer", "operator", "admin")
        }
        tokens["key"] = _key(http)
    return {**tokens, "nobody": None}


def _key(http: httpx.Client) -> str:
    """An API key that may all that keys may."""
    made = http.post("/api-keys", json={"name": "all", "scopes": sorted(SCOPES)})
    assert made.is_success, made.text
    return str(made.json()["key"])


def _paths(verb: str, *paths: str) -> list[str]:
    return [word for path in paths for word in (f"--{verb}-path", path)]


def _fuzzed(
    address: str,
    token: str | None,
    options: argparse.Namespace,
    folder: Path,
    chosen: Sequence[str],
) -> int:
    """Run schemathesis over operations as the bearer of a token; its exit code."""
    described = folder / "openapi.json"
    if not described.exists():
        app = create_app(Conveyor("sqlite:///:memory:"))
        described.write_text(json.dumps(app.openapi()), encoding="utf-8")
    command = [str(options.schemathesis), "run", str(described), "--url", address, *chosen]
    command += ["--checks", "all", "--exclude-checks", ",".join(CHECKS_LEFT_OUT)]
    command += ["--max-examples", str(options.examples), "--seed", str(options.seed)]
    command += ["--request-timeout", "20", "--continue-on-failure", "--no-color"]
    if token is not None:
        command += ["--header", f"Authorization: Bearer {token}"]
    return subprocess.run([*command, *options.more], cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
