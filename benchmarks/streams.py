"""How much memory idle event streams take: a server process, and this one that opens them.

    python -m benchmarks.streams [--streams 1000] [--seconds 40]

Prints the server's resident memory before, with the streams, and per stream; then how quickly it
ends with all of them open.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

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
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(Path(folder), options.streams, options.seconds))


async def _measure(folder: Path, streams: int, seconds: float) -> None:
    port = _free_port()
    server = _serve(folder, port)
    try:
        token = await _token(f"http://127.0.0.1:{port}")
        process = psutil.Process(server.pid)
        before = process.memory_info().rss
        writers = [await _open(port, token) for _ in range(streams)]
        cpu = sum(process.cpu_times()[:2])
        await asyncio.sleep(seconds)
        idle = sum(process.cpu_times()[:2]) - cpu
        after = process.memory_info().rss
        print(f"before {before / 2**20:.1f} MB, with {streams} streams {after / 2**20:.1f} MB")
        print(f"{(after - before) / streams / 1024:.1f} KB a stream, CPU {idle / seconds:.1%}")
        began = time.perf_counter()
        server.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(server.wait, 30)
        print(f"ended with {code} after {time.perf_counter() - began:.2f} s")
        for writer in writers:
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


async def _open(port: int, token: str) -> asyncio.StreamWriter:
    """Open a stream and read until its first frame."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4_096)
    request = (
        f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    writer.write(request.encode())
    await reader.readuntil(b"event: hello")
    return writer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
