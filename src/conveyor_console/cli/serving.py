"""Runs the ASGI server, alone or with a worker beside it."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn

from conveyor import Conveyor
from conveyor_console.app import create_app
from conveyor_console.live.live import Live
from conveyor_console.settings import Settings, is_loopback

_DRAIN = 40.0
"""Seconds a worker gets to drain (contract D7), and some."""


_YOUNG = (5_000, 10, 10)
"""When to collect (`gc.set_threshold`): a request makes hundreds of objects that go with it."""


class Server(uvicorn.Server):
    """uvicorn that says where it listens in our words, and ends with what runs beside it."""

    def __init__(
        self, config: uvicorn.Config, live: Live, beside: subprocess.Popen[bytes] | None
    ) -> None:
        super().__init__(config)
        self._live = live
        self._beside = beside

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            sys.stderr.write(f"console: http://{shown}:{port}\n")
            _freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams first: they would not end by themselves."""
        await self._live.end_streams("the server stops")
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Look after the worker beside us."""
        if self._beside is not None and self._beside.poll() is not None:
            self.should_exit = True
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Tell the worker too: it drains while requests end. uvicorn's own would raise the signal
        again at the end, and a clean stop would not exit with 0."""
        if self._beside is not None:
            tell_to_end(self._beside)
        self.force_exit = self.should_exit
        self.should_exit = True


def _freeze() -> None:
    """Keep what lives as long as the process out of the garbage collector's sight: looking through
    all of it would hold every request up for a quarter of a second, now and then."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_YOUNG)


_told: set[int] = set()


def tell_to_end(worker: subprocess.Popen[bytes]) -> None:
    """Let a worker drain: once only, a second SIGTERM would stop it at once."""
    if worker.poll() is None and worker.pid not in _told:
        _told.add(worker.pid)
        worker.terminate()


def serve_until_stopped(
    queue: Conveyor,
    settings: Settings,
    host: str,
    port: int,
    beside: subprocess.Popen[bytes] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    if not is_loopback(host) and "cookie_secure" not in settings.model_fields_set:
        settings = settings.model_copy(update={"cookie_secure": True})
    app = create_app(queue, settings)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # see kit/addresses.py
        timeout_graceful_shutdown=10,
    )
    server = Server(config, app.state.console.live, beside)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    return 0 if server.started else 1


def worker_beside(
    target: str,
    options: Sequence[str],
    queue: Conveyor,
    settings: Settings,
    *,
    host: str,
    port: int,
) -> int:
    """Run a worker as a process of its own, and the console here; one ends with the other."""
    command = [sys.executable, "-m", "conveyor", "worker", target, "--url", queue.url, *options]
    # A group of its own: Ctrl-C reaches it once, through us, and not twice.
    worker = subprocess.Popen(command, start_new_session=os.name == "posix")
    try:
        code = serve_until_stopped(queue, settings, host, port, beside=worker)
    finally:
        tell_to_end(worker)
        try:
            ended = worker.wait(_DRAIN)
        except subprocess.TimeoutExpired:
            worker.kill()
            ended = 1
    return code or ended
