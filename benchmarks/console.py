"""The console's API under load: server processes of its own, and an open-model client.

    python -m benchmarks.console --queue redis://127.0.0.1/0 --database postgresql://… --parts all

Parts: `enqueue` (rates up to what is refused), `bulk`, `overload` (twice what was reached),
`login` (beside twenty hashes), `lists` and `grammar` (against what is in the database: see
`benchmarks.history`; the latter asks in every way there is). Without addresses, all is in an SQLite
file in the temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import quote

import httpx
import psutil

from benchmarks.load import Load, Report, http, percentiles

_APP = """
from conveyor import Conveyor
app = Conveyor()

@app.task(name="bench.nothing")
async def nothing(number: int = 0) -> None: ...
"""
EMAIL, PASSWORD = "bench@example.com", "only for this benchmark"
PARTS = ("enqueue", "bulk", "overload", "login", "lists", "grammar")
_SIGN_IN = http(
    "POST",
    "/api/v1/auth/login",
    "",
    json.dumps({"email": EMAIL, "password": PASSWORD}).encode(),
)
_ONE = json.dumps({"name": "bench.nothing", "args": [1]}).encode()
QUESTIONS = (
    "",
    "state:failed",
    "task:shop.charge",
    "state:failed task:mail.*",
    "queue:bulk -state:failed",
    "queue:mail age>1h",
    "args.user_id:42",
    'queue:mail state:failed error:"timed out"',
    'error:"timed out after 7"',
    "args.user_id:none",
    "run>900ms",
)
VARIED = (
    "state:succeeded",
    "state:cancelled",
    "-state:succeeded",
    "state:failed,cancelled task:shop.charge,mail.send",
    "task:*",
    "task:*.send*",
    "task:nothing.*",
    "-task:mail.*",
    "queue:mail,bulk",
    "queue:mail queue:bulk",
    "-queue:default",
    "queue:m* task:shop.*",
    "queue:mail task:shop.charge state:failed",
    "id:01a21c6e-1e48-76e2-b59b-d1f631be4240",
    "id:01a2*",
    "key:some",
    "key:some*",
    "-key:some",
    "workflow:some",
    "worker:w",
    "worker:other",
    "by:somebody",
    "schedule:nightly",
    "fingerprint:0000000000000000",
    "reason:operator",
    "flag:revived",
    "args.kind:a",
    "args.user_id:4*",
    "-args.user_id:42",
    "args.user_id:42 args.kind:a queue:mail",
    "priority:5",
    "priority>5",
    "attempts>0",
    "attempts>3",
    "run>2s",
    "run<1ms",
    "age<1m",
    "age>6d",
    "enqueued>2026-01-01 enqueued<2026-01-02",
    "started<2020-01-01",
    "finished>2099-01-01",
    "timed",
    "nothing that anybody wrote",
    "state:failed timed task:image.resize",
    "-error:timed",
)
"""What else the grammar can say."""


class Servers:
    """Server processes of the console over one queue and one database."""

    def __init__(self, folder: Path, queue: str, database: str | None, count: int) -> None:
        (folder / "shop.py").write_text(_APP, "utf-8")
        environment = {
            **os.environ,
            "CONVEYOR_ADMIN_EMAIL": EMAIL,
            "CONVEYOR_ADMIN_PASSWORD": PASSWORD,
            "CONVEYOR_SECRET_KEY": "benchmark " * 4,
            "CONVEYOR_URL": queue,
        }
        if database is not None:
            environment["CONVEYOR_DATABASE_URL"] = database
        self.ports = [_free_port() for _ in range(count)]
        self._processes: list[subprocess.Popen[bytes]] = []
        conveyor = [sys.executable, "-m", "conveyor"]
        for command in (["migrate"], ["console", "migrate"]):
            subprocess.run([*conveyor, *command], cwd=folder, env=environment, check=True)
        for port in self.ports:
            command = [*conveyor, "serve", "shop:app", "--port", str(port)]
            self._processes.append(subprocess.Popen(command, cwd=folder, env=environment))

    def rss(self) -> float:
        """Return their resident memory, MB."""
        return sum(psutil.Process(one.pid).memory_info().rss for one in self._processes) / 2**20

    def stop(self) -> None:
        """End them."""
        for one in self._processes:
            one.send_signal(signal.SIGTERM)
        for one in self._processes:
            try:
                one.wait(15)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


@contextmanager
def _serving(options: argparse.Namespace) -> Iterator[Servers]:
    with tempfile.TemporaryDirectory() as folder:
        queue = options.queue or f"sqlite:///{folder}/bench.db"
        servers = Servers(Path(folder), queue, options.database, options.processes)
        try:
            yield servers
        finally:
            servers.stop()


async def _token(port: int) -> str:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(200):
            try:
                return str((await _login(client)).raise_for_status().json()["access_token"])
            except httpx.ConnectError:
                await asyncio.sleep(0.1)
    raise SystemExit("the server does not answer")


async def _login(client: httpx.AsyncClient, password: str = PASSWORD) -> httpx.Response:
    body = {"email": EMAIL, "password": password}
    return await client.post("/api/v1/auth/login", json=body)


class Client:
    """Asks the servers."""

    def __init__(self, servers: Servers, token: str, seconds: float) -> None:
        self.servers = servers
        self.token = token
        self.seconds = seconds
        self.reached = 0.0
        self.rounds = 2

    async def _enqueue(self, rate: float) -> Report:
        request = http("POST", "/api/v1/tasks", self.token, _ONE)
        load = Load(self.servers.ports, lambda: request, rate=rate)
        return await load.run(self.seconds)

    async def enqueue(self, rates: list[float]) -> None:
        """One task a request, at rising rates, after a second to get warm."""
        request = http("POST", "/api/v1/tasks", self.token, _ONE)
        await Load(self.servers.ports, lambda: request, rate=200).run(1)
        for rate in rates:
            report = await self._enqueue(rate)
            self.reached = max(self.reached, len(report.accepted) / report.took)
            print(f"enqueue, {rate:,.0f}/s due: {report.line()}", flush=True)

    async def overload(self, rates: list[float]) -> None:
        """Twice as many as are served, three times over: memory must not grow."""
        rate = 2 * (self.reached or rates[-1])
        for _ in range(self.rounds):
            report = await self._enqueue(rate)
            memory = self.servers.rss()
            print(f"overload, {rate:,.0f}/s due: {report.line()}; RSS {memory:.0f} MB", flush=True)

    async def bulk(self, rates: list[float]) -> None:
        """A thousand tasks a request, four callers."""
        tasks = [{"name": "bench.nothing", "args": [number]} for number in range(1_000)]
        body = json.dumps({"tasks": tasks}).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        end = perf_counter() + self.seconds
        took: list[float] = []

        async def caller(port: int) -> None:
            base = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=base, headers=headers, timeout=30) as client:
                while (began := perf_counter()) < end:
                    answer = await client.post("/api/v1/tasks/bulk", content=body)
                    answer.raise_for_status()
                    took.append(perf_counter() - began)

        began = perf_counter()
        await asyncio.gather(*(caller(port) for port in (self.servers.ports * 4)[:4]))
        rate = 1_000 * len(took) / (perf_counter() - began)
        print(f"bulk: {rate:,.0f} tasks/s, a request {percentiles(took)}", flush=True)

    async def login(self, rates: list[float]) -> None:
        """Enqueues at a tenth of the first rate, alone and beside twenty sign-ins at a time; and
        how long these take."""
        rate = rates[0] / 10
        print(f"beside nothing, {rate:,.0f}/s: {(await self._enqueue(rate)).line()}", flush=True)
        end = perf_counter() + self.seconds
        took: list[float] = []
        statuses: Counter[int] = Counter()

        async def person() -> None:
            # By hand: a client library's own work would be counted as the server's.
            reader, writer = await asyncio.open_connection("127.0.0.1", self.servers.ports[0])
            while (began := perf_counter()) < end:
                writer.write(_SIGN_IN)
                statuses[await _answered(reader)] += 1
                took.append(perf_counter() - began)
            writer.close()

        people = asyncio.gather(*(person() for _ in range(20)))
        report = await self._enqueue(rate)
        await people
        print(f"beside 20 sign-ins, {rate:,.0f}/s: {report.line()}", flush=True)
        print(
            f"sign-ins: {len(took) / self.seconds:,.1f}/s, {percentiles(took)}, {dict(statuses)}",
            flush=True,
        )

    async def lists(self, rates: list[float]) -> None:
        """Pages and details, twenty a second of each question, from all over the list."""
        base = f"http://127.0.0.1:{self.servers.ports[0]}/api/v1/tasks"
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(headers=headers, timeout=30) as client:
            ids = await _ids(client, base)
        starts = cycle(ids)
        for q in QUESTIONS:
            await self._ask(q, lambda q=q: f"?q={quote(q)}&limit=50&cursor={next(starts)}")
        await self._ask("one task", lambda: f"/{next(starts)}")

    async def grammar(self, rates: list[float]) -> None:
        """The same of questions of every kind; and all in other orders, and the largest pages."""
        base = f"http://127.0.0.1:{self.servers.ports[0]}/api/v1/tasks"
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(headers=headers, timeout=30) as client:
            starts = cycle(await _ids(client, base))
            pages = {
                sort: cycle(await _pages(client, base, sort)) for sort in ("finished", "-finished")
            }
        for q in VARIED:
            await self._ask(q, lambda q=q: f"?q={quote(q)}&limit=50&cursor={next(starts)}")
        for sort, cursors in pages.items():
            for q in ("", "state:failed", "args.user_id:none", "task:mail.* run>900ms"):
                await self._ask(
                    f"{sort}: {q}",
                    lambda q=q, sort=sort, cursors=cursors: (
                        f"?q={quote(q)}&sort={sort}{next(cursors)}"
                    ),
                )
        for q in ("", "state:failed"):
            await self._ask(f"200: {q}", lambda q=q: f"?q={q}&limit=200&cursor={next(starts)}")

    async def _ask(self, title: str, path: Any) -> None:
        make = lambda: http("GET", f"/api/v1/tasks{path()}", self.token)  # noqa: E731
        report = await Load(self.servers.ports, make, rate=20, connections=8).run(self.seconds)
        print(f"{title or 'the newest':<45} {percentiles(report.accepted)}", flush=True)
        if set(report.statuses) != {200}:
            print(f"    {dict(report.statuses)}, unanswered {report.unanswered}")


async def _answered(reader: asyncio.StreamReader) -> int:
    """Read an answer to its end; returns its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, rest = head.partition(b"content-length:")
    await reader.readexactly(int(rest.partition(b"\r")[0]))
    return int(head[9:12])


async def _ids(client: httpx.AsyncClient, base: str) -> list[str]:
    """Return two hundred ids between the newest task and the oldest: UUIDv7 are times."""
    page = (await client.get(base, params={"limit": 1})).raise_for_status().json()
    newest = int(page["items"][0]["id"].replace("-", "")[:12], 16)
    found: list[str] = []
    for back in range(200):
        moment = f"{newest - 200 * back:012x}"
        cursor = f"{moment[:8]}-{moment[8:]}-7fff-bfff-ffffffffffff"
        answer = await client.get(base, params={"limit": 1, "cursor": cursor})
        found += [item["id"] for item in answer.raise_for_status().json()["items"]]
    return found


async def _pages(client: httpx.AsyncClient, base: str, sort: str) -> list[str]:
    """Return parameters that name the first pages of an order."""
    found, cursor = [""], ""
    for _ in range(20):
        answer = await client.get(f"{base}?sort={sort}&limit=200{cursor}")
        cursor = f"&cursor={answer.raise_for_status().json()['next_cursor']}"
        found.append(cursor)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _measure(servers: Servers, options: argparse.Namespace) -> None:
    tokens = [await _token(port) for port in servers.ports]
    client = Client(servers, tokens[0], options.seconds)
    for part in PARTS:
        if part in options.parts:
            await getattr(client, part)(options.rates)


def main() -> None:
    """Serve and ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queue")
    parser.add_argument("--database")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--parts", nargs="+", default=["enqueue", "bulk", "overload", "login"])
    parser.add_argument("--rates", nargs="+", type=float, default=[1_500, 2_000, 2_500])
    parser.add_argument("--seconds", type=float, default=6)
    options = parser.parse_args()
    with _serving(options) as servers:
        try:
            import uvloop
        except ImportError:
            asyncio.run(_measure(servers, options))
        else:
            uvloop.run(_measure(servers, options))


if __name__ == "__main__":
    main()
