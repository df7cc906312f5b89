"""What is looked up for a scrape: the queue as it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from conveyor.inspect import QueueInfo, WorkerInfo
from conveyor_console.console import Console
from conveyor_console.metrics.measuring import Measurements

FRESH = 2.0
"""Seconds for which an answer is good: scrapers that hurry do not ask the queue again."""
_STATES = ("queued", "scheduled", "running", "parked")


class Scrape:
    """Answers scrapers."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._measurements = console.part(Measurements)
        self._at = float("-inf")
        self._text = b""

    async def start(self) -> None:
        """Nothing to begin: it answers."""

    async def close(self) -> None:
        """Nothing to end."""

    async def text(self, alerts_open: int) -> bytes:
        """Return the metrics in Prometheus' text format. Raises what the broker raises."""
        now = self._console.clock.monotonic()
        if now - self._at >= FRESH:
            inspector = await self._console.queue.inspector()
            queues, workers = await inspector.queues(), await inspector.workers()
            self._measurements.lag.set(self._measurements.worst_lag())
            self._text = generate_latest(self._measurements.registry) + generate_latest(
                self._standing(queues, workers, alerts_open)
            )
            self._at = now
        return self._text

    def _standing(
        self, queues: Iterable[QueueInfo], workers: Iterable[WorkerInfo], alerts_open: int
    ) -> CollectorRegistry:
        """What stands now, in a registry of this scrape: what is gone is not shown any more."""
        registry = CollectorRegistry()
        tasks = Gauge(
            "conveyor_queue_tasks", "Tasks by queue and state.", ("queue", "state"),
            registry=registry,
        )  # fmt: skip
        wait = Gauge(
            "conveyor_queue_oldest_wait_seconds", "Longest wait of a queued task.", ("queue",),
            registry=registry,
        )  # fmt: skip
        paused = Gauge("conveyor_queue_paused", "Paused queues.", ("queue",), registry=registry)
        depth: Counter[tuple[str, str]] = Counter()
        for one in queues:
            name = self._measurements.queue(one.name)
            depth.update({(name, state): getattr(one, state) for state in _STATES})
            paused.labels(name).set(one.pause is not None)
            wait.labels(name).set(one.oldest_wait or 0.0)
        for (name, state), count in depth.items():
            tasks.labels(name, state).set(count)
        self._process(registry, list(workers), alerts_open)
        return registry

    def _process(
        self, registry: CollectorRegistry, workers: list[WorkerInfo], alerts_open: int
    ) -> None:
        for name, text, value in (
            ("conveyor_workers", "Workers with a live lease.", len(workers)),
            ("conveyor_workers_running", "Tasks they run.", sum(w.running for w in workers)),
            ("conveyor_workers_capacity", "Tasks they could.", sum(w.concurrency for w in workers)),
            ("conveyor_event_streams", "Open event streams.", len(self._console.live.streams)),
            ("conveyor_alerts_open", "Alerts that are open.", alerts_open),
        ):
            Gauge(name, text, registry=registry).set(value)
