"""How much memory idle event streams take, and how soon they tell: a server process, and this one
that opens them.

    python -m benchmarks.streams [--streams 1000] [--seconds 40] [--changes 20]

Prints the server's resident memory before, with the streams, and per stream; then how long it is
from an enqueue, and from the pause of a queue, until each stream has told of it (from when the
request is sent; this process, which reads all of them, included); then how quickly it ends with all
of them open.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import psutil

from benchmarks.load import percentiles

_APP = """
from conveyor import Conveyor
app = Conveyor()

@app.task(name="bench.nothing")
async def nothing() -> None: ...
"""
EMAIL, PASSWORD = "bench@example.com", secrets.token_urlsafe(12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--changes", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = _measure(Path(folder), options.streams, options.seconds, options.changes)
        asyncio.run(measured)


async def _measure(folder: Path, streams: int, seconds: float, changes: int) -> None:
    port = _free_port()
    server = _serve(folder, port)
    try:
        token = await _token(f"http://127.0.0.1:{port}")
        process = psutil.Process(server.pid)
        before = process.memory_info().rss
        opened = [await _open(port, token) for _ in range(streams)]
        cpu = sum(process.cpu_times()[:2])
        await asyncio.sleep(seconds)
        idle = sum(process.cpu_times()[:2]) - cpu
        after = process.memory_info().rss
        print(f"before {before / 2**20:.1f} MB, with {streams} streams {after / 2**20:.1f} MB")
        print(f"{(after - before) / streams / 1024:.1f} KB a stream, CPU {idle / seconds:.1%}")
        await _latencies(f"http://127.0.0.1:{port}", token, [one for one, _ in opened], changes)
        began = time.perf_counter()
        server.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(server.wait, 30)
        print(f"ended with {code} after {time.perf_counter() - began:.2f} s")
        for _, writer in opened:
            writer.close()
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def _serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    (folder / "shop.py").write_text(_APP, "utf-8")
    environment = {
        **os.environ,
        "CONVEYOR_ADMIN_EMAIL": EMAIL,
        "CONVEYOR_ADMIN_PASSWORD": PASSWORD,
        "CONVEYOR_URL": f"sqlite:///{folder / 'bench.db'}",
    }
    command = [sys.executable, "-m", "conveyor", "serve", "shop:app", "--port", str(port)]
    migrate = [sys.executable, "-m", "conveyor", "migrate"]
    subprocess.run(migrate, cwd=folder, env=environment, check=True)
    return subprocess.Popen(command, cwd=folder, env=environment)


async def _token(base: str) -> str:
    async with httpx.AsyncClient(base_url=base) as client:
        for _ in range(100):
            try:
                answer = await client.post(
                    "/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD}
                )
                return str(answer.raise_for_status().json()["access_token"])
            except httpx.ConnectError:
                await asyncio.sleep(0.1)
    raise SystemExit("the server does not answer")


async def _latencies(
    base: str, token: str, readers: Sequence[asyncio.StreamReader], changes: int
) -> None:
    heard = [Heard(reader) for reader in readers]
    headers = {"Authorization": f"Bearer {token}"}
    dice = random.Random(7)
    found: dict[str, list[float]] = {"enqueue": [], "pause": []}
    async with httpx.AsyncClient(base_url=f"{base}/api/v1", headers=headers) as client:
        for number in range(changes):
            # So that the server's rounds are met at every moment of theirs.
            await asyncio.sleep(1 + dice.random())
            sent = time.perf_counter()
            body = {"name": "bench.nothing", "queue": f"bench{number}"}
            answer = await client.post("/tasks", json=body)
            found["enqueue"] += await _all(heard, answer.raise_for_status().json()["id"], sent)
            await asyncio.sleep(1 + dice.random())
            sent = time.perf_counter()
            reason = f"reason {number}."
            answer = await client.post(f"/queues/bench{number}/pause", json={"reason": reason})
            answer.raise_for_status()
            found["pause"] += await _all(heard, reason, sent)
    for one in heard:
        one.reading.cancel()
    await asyncio.gather(*(one.reading for one in heard), return_exceptions=True)
    for what, took in found.items():
        print(f"{what}: {percentiles(took)}")


async def _all(heard: Sequence[Heard], text: str, sent: float) -> list[float]:
    """Wait until every stream has told of something; returns how long that took."""
    return [at - sent for at in await asyncio.gather(*(one.of(text.encode()) for one in heard))]


class Heard:
    """What one stream has told, and when."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._told = bytearray()
        self._at = 0.0
        self._news = asyncio.Event()
        self.reading = asyncio.create_task(self._read())

    async def of(self, text: bytes) -> float:
        """Return when it had told of this."""
        async with asyncio.timeout(30):
            while text not in self._told:
                self._news.clear()
                await self._news.wait()
        self._told.clear()
        return self._at

    async def _read(self) -> None:
        while chunk := await self._reader.read(65_536):
            self._at = time.perf_counter()
            self._told += chunk
            self._news.set()


async def _open(port: int, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a stream and read until its first frame."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4_096)
    request = (
        f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    writer.write(request.encode())
    await reader.readuntil(b"event: hello")
    return reader, writer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
