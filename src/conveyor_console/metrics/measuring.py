"""What this process measures of itself: requests, the loop, and what it read of the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conveyor.inspect import Event
from conveyor_console.console import Console

_DURATIONS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_TICK = 0.5
"""Seconds between looks at how late the loop is."""
_MOST_QUEUES = 200
"""Queues with series of their own; the rest is together under `other`."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ENDED = {"succeeded", "failed", "cancelled"}
OTHER = "other"


class Measurements:
    """The metrics, in a registry of their own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "conveyor_http_request_duration_seconds",
            "Requests by route, method and class of status.",
            ("method", "route", "status"),
            buckets=_DURATIONS,
            registry=self.registry,
        )
        self.executions = Counter(
            "conveyor_executions",
            "Executions that ended, by what became of the task; `returned`: it runs again.",
            ("queue", "outcome"),
            registry=self.registry,
        )
        self.lag = Gauge(
            "conveyor_api_loop_lag_seconds",
            "How late the event loop of the API was at worst since the last scrape.",
            registry=self.registry,
        )
        self._children: dict[tuple[str, str, int], Histogram] = {}
        self._queues: set[str] = set()
        self._worst = 0.0
        self._timer: asyncio.TimerHandle | None = None
        console.live.feed.readers.append(self._count)

    async def start(self) -> None:
        """Begin."""
        self._again()

    async def close(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()

    def took(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        key = (method, route, status // 100)
        child = self._children.get(key)
        if child is None:
            child = self.requests.labels(method, route, f"{status // 100}xx")
            self._children[key] = child
        child.observe(seconds)

    def worst_lag(self) -> float:
        """Return how late the loop was at worst since this was asked before."""
        worst, self._worst = self._worst, 0.0
        return worst

    def queue(self, name: str) -> str:
        """Return what a queue is called in metrics."""
        if name in self._queues:
            return name
        if len(self._queues) >= _MOST_QUEUES:
            return OTHER
        self._queues.add(name)
        return name

    def _again(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + _TICK
        self._timer = loop.call_at(due, self._ticked, due)

    def _ticked(self, due: float) -> None:
        self._worst = max(self._worst, asyncio.get_running_loop().time() - due)
        self._again()

    def _count(self, events: Sequence[Event]) -> None:
        for event in events:
            if not event.execution or event.state == "running":
                continue
            outcome = event.state if event.state in _ENDED else "returned"
            self.executions.labels(self.queue(event.queue), outcome).inc()


class Measured:
    """Measures requests: by the template of their route, never by their path."""

    def __init__(
        self, app: ASGIApp, *, measurements: Measurements, streams: frozenset[str]
    ) -> None:
        self._app = app
        self._measurements = measurements
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] != "http" or scope["path"] in self._streams:
            await self._app(scope, receive, send)
            return
        status = 500
        began = perf_counter()

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _METHODS else OTHER
            if route == "unmatched":
                method = "any"
            self._measurements.took(method, route, status, perf_counter() - began)
