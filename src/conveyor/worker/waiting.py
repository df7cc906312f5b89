"""Leases that wait for a free slot of this worker. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from conveyor.core.gates import SLACK
from conveyor.core.task import Lease


class Waiting:
    """Leased and not started yet, each with the monotonic time it came in.

    Gated tasks go first: their limits count from the lease, so they are leased when they can start
    almost at once, while plain ones are leased ahead.
    """

    def __init__(self) -> None:
        self._gated: deque[tuple[Lease, float]] = deque()
        self._plain: deque[tuple[Lease, float]] = deque()

    def __len__(self) -> int:
        return len(self._gated) + len(self._plain)

    def __iter__(self) -> Iterator[Lease]:
        for lease, _ in (*self._gated, *self._plain):
            yield lease

    def add(self, lease: Lease, now: float) -> None:
        """Let a lease wait."""
        terms = lease.task.terms
        line = self._plain if terms is None or not terms.lane else self._gated
        line.append((lease, now))

    def next(self) -> Lease:
        """Take the one that starts next."""
        lease, _ = (self._gated or self._plain).popleft()
        return lease

    def late(self, now: float) -> list[Lease]:
        """Take those with a rate that waited longer than bursts leave room for: who starts on an
        old token starts beside those of newer ones, and more than the limit allows.
        """
        before = now - SLACK
        late = [
            lease
            for lease, since in self._gated
            if since < before and lease.task.terms is not None
            if any(gate.rate > 0 for gate in lease.task.terms.gates)
        ]
        return self.take([lease.task.id for lease in late]) if late else []

    def take(self, ids: Iterable[str]) -> list[Lease]:
        """Take those with these ids."""
        asked = set(ids)
        taken = [lease for lease in self if lease.task.id in asked]
        for line in (self._gated, self._plain) if taken else ():
            kept = [entry for entry in line if entry[0].task.id not in asked]
            line.clear()
            line.extend(kept)
        return taken

    def clear(self) -> list[Lease]:
        """Take all."""
        everything = list(self)
        self._gated.clear()
        self._plain.clear()
        return everything

    def overdue(self, before: float) -> list[tuple[Lease, float]]:
        """Take those that came in before then."""
        found = []
        for line in (self._gated, self._plain):
            while line and line[0][1] < before:
                found.append(line.popleft())
        return found

    @property
    def gated(self) -> int:
        """How many of them are gated."""
        return len(self._gated)

    @property
    def plain(self) -> int:
        """How many of them are not."""
        return len(self._plain)
