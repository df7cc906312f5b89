"""What rules are about: numbers that can be measured, by name. Others may add their own."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from conveyor import Conveyor
from conveyor.inspect import Event, QueueInfo, WorkerInfo

WINDOW = 300
"""Seconds that rates look back."""
FORGOTTEN = 15.0
"""Seconds after a look at the workers that the next one compares with it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was looked up for one evaluation, once for all rules."""

    now: datetime
    queues: Sequence[QueueInfo]
    workers: Sequence[WorkerInfo]
    lagging: Sequence[str]
    changes: Counter[tuple[str, str]]
    """Changes of the last `WINDOW` seconds, by queue and state."""
    lost: int
    """Workers that disappeared within the window without saying good-bye."""


Measure = Callable[[Snapshot, str], Awaitable[float | None]]
"""Measures for a target: a queue's name, "" for all; None when there is nothing to say."""


async def oldest_wait(seen: Snapshot, queue: str) -> float | None:
    """Seconds that the longest-waiting task has been available; paused queues do not count."""
    waits = [
        one.oldest_wait
        for one in _chosen(seen, queue)
        if one.oldest_wait is not None and one.pause is None
    ]
    return max(waits, default=0.0)


async def depth(seen: Snapshot, queue: str) -> float | None:
    """Tasks that wait to run."""
    return float(sum(one.queued for one in _chosen(seen, queue)))


async def failure_rate(seen: Snapshot, queue: str) -> float | None:
    """Of the tasks that ended within five minutes, the part that failed for good: 0 to 1."""
    failed, succeeded = _changed(seen, queue, "failed"), _changed(seen, queue, "succeeded")
    ended = failed + succeeded
    return failed / ended if ended else None


async def dead_letters(seen: Snapshot, queue: str) -> float | None:
    """Tasks that became dead letters within five minutes."""
    return float(_changed(seen, queue, "failed"))


async def live_workers(seen: Snapshot, queue: str) -> float | None:
    """Workers with a live lease, of a queue or at all."""
    return float(sum(not queue or not one.queues or queue in one.queues for one in seen.workers))


async def lost_workers(seen: Snapshot, _: str) -> float | None:
    """Workers that died within five minutes."""
    return float(seen.lost)


async def schedule_misses(seen: Snapshot, schedule: str) -> float | None:
    """Schedules that are overdue by more than a minute; with a target only that one."""
    return float(sum(not schedule or name == schedule for name in seen.lagging))


MEASURES: dict[str, Measure] = {
    "queue.oldest_wait": oldest_wait,
    "queue.depth": depth,
    "tasks.failure_rate": failure_rate,
    "tasks.dead_letters": dead_letters,
    "workers.live": live_workers,
    "workers.lost": lost_workers,
    "schedules.missed": schedule_misses,
}
"""The metrics of rules. A tenant adds its own, as `campaign.bounce_rate`, before the app starts."""


class Window:
    """Counts changes of the last `WINDOW` seconds."""

    def __init__(self) -> None:
        self._batches: deque[tuple[float, Counter[tuple[str, str]]]] = deque()
        self._total: Counter[tuple[str, str]] = Counter()

    def add(self, events: Sequence[Event], at: float) -> None:
        """Take a batch in that came at a monotonic time."""
        counts = Counter(
            (one.queue, one.state) for one in events if one.state in {"failed", "succeeded"}
        )
        if counts:
            self._batches.append((at, counts))
            self._total.update(counts)

    def at(self, at: float) -> Counter[tuple[str, str]]:
        """Return the counts of the window that ends now."""
        while self._batches and self._batches[0][0] <= at - WINDOW:
            self._total.subtract(self._batches.popleft()[1])
        return +self._total


class Roll:
    """Remembers which workers there were, to know which are lost: a worker that stops says so by
    giving its lease back, one that dies is seen with a lease until the lease runs out. Who has not
    looked for `FORGOTTEN` seconds, as a replica that did not lead, cannot tell one from the other
    of those that went meanwhile, and says nothing of them."""

    def __init__(self) -> None:
        self._leases: dict[str, float] = {}
        self._looked = 0.0
        self._lost: deque[float] = deque()

    def lost(self, workers: Sequence[WorkerInfo], wall: float) -> int:
        """Return how many were lost within the window that ends at `wall` (epoch seconds)."""
        here = {one.id: one.lease_until or wall for one in workers}
        if wall - self._looked > FORGOTTEN:
            self._leases = {}
        self._looked = wall
        for worker, until in self._leases.items():
            # Gone before its lease ran out: it said good-bye.
            if worker not in here and until <= wall:
                self._lost.append(wall)
        self._leases = here
        while self._lost and self._lost[0] <= wall - WINDOW:
            self._lost.popleft()
        return len(self._lost)


async def look(
    queue: Conveyor, now: datetime, changes: Counter[tuple[str, str]], roll: Roll
) -> Snapshot:
    """Look everything up that rules may ask for. Raises what the broker raises."""
    inspector = await queue.inspector()
    workers = await inspector.workers()
    return Snapshot(
        now=now,
        queues=await inspector.queues(),
        workers=workers,
        lagging=await queue.schedules.lagging(),
        changes=changes,
        lost=roll.lost(workers, now.timestamp()),
    )


def _chosen(seen: Snapshot, queue: str) -> list[QueueInfo]:
    return [one for one in seen.queues if not queue or one.name == queue]


def _changed(seen: Snapshot, queue: str, state: str) -> int:
    return sum(
        count
        for (name, what), count in seen.changes.items()
        if what == state and (not queue or name == queue)
    )
