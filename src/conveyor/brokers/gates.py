"""The limits of a store, beside admission itself (which happens inside `Broker.step`).

How a step treats gated tasks (`Task.terms.lane` is set), on every store:

- A gated task waits in its lane, first come first served, never in the plain line. It is queued
  like any other: it can be delayed (it joins its lane when due), cancelled, listed, counted.
- A step leases plain tasks up to `want` and gated ones up to `min(want, slots)` (`Step.slots`,
  None: no bound of its own), in one order: a lane stands in the order of the claim at its head's
  `available_at - 60 s x priority`, but a *fair* lane at no less than the moment of its last turn
  (minus 60 s x priority), and a turn is `Fair.weight` tasks.
- A lane's head is admitted by `core.gates.admit` on the states of all its gates, in the same
  commit as its lease. When it is refused with a time, the lane is left alone until then, and the
  step's `next_due` is no later than that; when only an event can help, until a slot of that gate
  is freed or it is opened or tuned. Nothing polls.
- A slot is a lease: it is freed by the settlement (whatever the outcome) in the same commit; with
  `Gate.line`, only when the task is final, and a task that comes back from a retry stands at the
  head of its lane and keeps its slot. A freed slot lets the lane that has waited longest look.
- `on_full`: `queue` waits; `cancel_newest` ends the refused task as cancelled, `drop` as skipped,
  both with a reason that names the limit; `cancel_oldest` flags the longest-running holder of a
  slot for cancellation (once) and waits.
- A gated task whose `unique` is held until `queued` or `start` gives its key back in the commit of
  its lease. (That is why such tasks are gated: a plain claim looks at nothing but the line.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from conveyor.core.gates import Gate, GateState
from conveyor.core.task import Pause


class GateInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A gate, or with an empty `key` and no state of its own the limit as a whole."""

    limit: str
    key: str = ""
    state: GateState = GateState()
    holders: tuple[str, ...] = ()
    """Ids of the tasks that have a slot, at most 100."""
    pause: Pause | None = None
    """Who closed it, and why."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a queued task stands: what `why` shows."""

    now: float
    """The broker's clock."""
    ahead: int
    """Tasks that are claimed before it if nothing changes: in its lane, or in the plain line."""
    ahead_is_exact: bool = True
    """False when only the first 10,000 were counted."""
    gates: tuple[GateInfo, ...] = ()
    """The states of its gates, in the order of `terms.gates`."""


class Gates(Protocol):
    """What people and running tasks do with limits."""

    @property
    def span_queues(self) -> bool:
        """Whether a limit counts the tasks of all queues together. In a Redis Cluster each queue
        counts by itself: one script may touch the keys of one hash slot only.
        """

    async def reserve(self, gate: Gate) -> float:
        """Take `gate.cost` tokens of a rate gate and return the seconds to wait before using them
        (`core.gates.reserve`): the same bucket that admission draws from.
        """

    async def close(
        self,
        limit: str,
        key: str | None,
        until: float | None,
        pause: Pause,
        *,
        extend: bool = False,
    ) -> None:
        """Close one key of a limit, or with None all of it, until a time (epoch seconds; None:
        until it is opened). Survives restarts. With `extend` only for longer than it is closed
        already, whoever closed it: looked at and written in one step.
        """

    async def open(self, limit: str, key: str | None) -> None:
        """Take a closure back and let the lanes it held look again."""

    async def tune(self, limit: str, *, rate: float | None = None, most: int | None = None) -> None:
        """Use these numbers in place of those that tasks carry, for every key of the limit; None
        takes the tasks' own again. Lanes look again.
        """

    async def look(self, limit: str | None = None, most: int = 1_000) -> list[GateInfo]:
        """Return gates that have a state, by limit and key: busy, in debt, closed or tuned."""

    async def standing(self, task_ids: Sequence[str]) -> dict[str, Standing]:
        """Say where queued tasks stand; others are left out. Reads only."""
