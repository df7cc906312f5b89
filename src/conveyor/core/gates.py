"""Admission: whether a task may start now, and if not, when. Pure; stores keep the states.

A task that carries gates waits in a *lane* (its queue, priority, gates and fairness key) instead of
the plain line of its queue. A *gate* is one limit for one key. A lane's first task is admitted when
every one of its gates agrees, all of them together or none (a refusal takes nothing):

- a *rate* gate keeps a theoretical arrival time (GCRA, ITU-T I.371 §A): a token costs `1 / rate`
  seconds of it, and `burst` tokens may be taken at once;
- a *slots* gate counts the running tasks that carry it: a slot is a lease, there is no counter that
  could leak. In a *line* (partition key) a task keeps its slot until it is final, so that whoever
  is behind it waits through its retries;
- both may be *closed* until a time by a person or by a task that met a 429.

The stores mirror `admit` (in Lua, in SQL) and are held to it, case by case, by the conformance
suite. `explain` is the same function asked in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import inf

import msgspec

SLACK = 0.075
"""Seconds of a burst that are held back: workers start what they leased up to so much later, and
the bound (burst + rate x seconds in any window) is promised for starts."""


class Gate(msgspec.Struct, frozen=True, array_like=True):
    """One limit for one key, as a task carries it. Either `rate` or `most` is above 0."""

    limit: str
    """Name of the limit; tasks that name the same one share it."""
    key: str = ""
    rate: float = 0.0
    """Tokens per second."""
    burst: float = 1.0
    """Tokens that may be taken at once."""
    cost: float = 1.0
    """Tokens that this task takes; never more than `burst`."""
    most: int = 0
    """Slots: tasks that may run at a time."""
    line: bool = False
    """A slot is kept through retries, until the task is final."""
    on_full: str = "queue"
    """What becomes of a task that finds no slot: queue, cancel_oldest, cancel_newest, drop."""

    @property
    def id(self) -> str:
        """Name and key in one string."""
        return f"{self.limit}\n{self.key}"


class GateState(msgspec.Struct, frozen=True):
    """What a store knows of a gate."""

    tat: float = 0.0
    """Theoretical arrival time, epoch seconds."""
    running: int = 0
    """Slots taken."""
    closed_until: float = 0.0
    """Epoch seconds; infinity when it was closed without an end."""
    rate: float | None = None
    """Tokens per second in place of the task's own, when somebody tuned the limit."""
    most: int | None = None
    """Slots in place of the task's own."""


class Refusal(msgspec.Struct, frozen=True):
    """The gate that refuses, and when to ask again; None: when a slot is freed or it is opened."""

    gate: Gate
    at: float | None
    why: str
    """closed, rate or full."""


def interval(gate: Gate, state: GateState) -> float:
    """Seconds that one token costs."""
    return 1.0 / (gate.rate if state.rate is None else state.rate)


def tolerance(gate: Gate, each: float) -> float:
    """Seconds that the theoretical arrival time may be ahead of now after taking."""
    # Nothing is held back from a task that costs the whole burst: it would never be admitted.
    return gate.burst * each - max(0.0, min(SLACK, (gate.burst - gate.cost) * each / 2))


def refusal(gate: Gate, state: GateState, now: float, *, holds: bool = False) -> Refusal | None:
    """Say why `gate` does not admit one task now, or None. `holds`: it has its slot already."""
    if state.closed_until > now:
        until = state.closed_until
        return Refusal(gate, None if until == inf else until, "closed")
    if gate.rate > 0:
        each = interval(gate, state)
        at = max(state.tat, now) + gate.cost * each - tolerance(gate, each)
        return Refusal(gate, at, "rate") if at > now else None
    most = gate.most if state.most is None else state.most
    return None if holds or state.running < most else Refusal(gate, None, "full")


def admit(
    gates: Sequence[Gate], states: Sequence[GateState], now: float, *, holds: Sequence[bool] = ()
) -> list[GateState] | Refusal:
    """Admit one task through all its gates: their states afterwards, or the refusal that keeps it
    waiting longest (one that only an event ends counts as longest)."""
    kept = holds or [False] * len(gates)
    refusals = [
        refused
        for gate, state, has in zip(gates, states, kept, strict=True)
        if (refused := refusal(gate, state, now, holds=has)) is not None
    ]
    if refusals:
        return max(refusals, key=lambda refused: inf if refused.at is None else refused.at)
    return [
        _taken(gate, state, now, has) for gate, state, has in zip(gates, states, kept, strict=True)
    ]


def _taken(gate: Gate, state: GateState, now: float, holds: bool) -> GateState:
    if gate.rate > 0:
        spent = max(state.tat, now) + gate.cost * interval(gate, state)
        return msgspec.structs.replace(state, tat=spent)
    return state if holds else msgspec.structs.replace(state, running=state.running + 1)


def admit_run(
    gates: Sequence[Gate], states: Sequence[GateState], now: float, most: int
) -> tuple[int, list[GateState]]:
    """Admit up to `most` tasks that carry the same gates, none of which has its slot already: how
    many, and the states afterwards. Exactly what as many calls of `admit` come to.
    """
    count = most
    for gate, state in zip(gates, states, strict=True):
        count = _run(gate, state, now, count)[0]
    if count <= 0:
        return 0, list(states)
    return count, [
        _run(gate, state, now, count)[1] for gate, state in zip(gates, states, strict=True)
    ]


def _run(gate: Gate, state: GateState, now: float, most: int) -> tuple[int, GateState]:
    """Admit up to `most` tasks through one gate."""
    if state.closed_until > now:
        return 0, state
    if gate.rate <= 0:
        free = (gate.most if state.most is None else state.most) - state.running
        count = max(0, min(most, free))
        return count, msgspec.structs.replace(state, running=state.running + count)
    each = interval(gate, state)
    cost, ahead = gate.cost * each, tolerance(gate, each)
    tat, count = max(state.tat, now), 0
    # Added up one by one: a product would round to another float than the tasks one by one.
    while count < most:
        spent = tat + cost
        if spent - ahead > now:
            break
        tat = spent
        count += 1
    return count, msgspec.structs.replace(state, tat=tat) if count else state


def reserve(gate: Gate, state: GateState, now: float) -> tuple[GateState, float]:
    """Take `cost` tokens of a rate gate whatever they cost: the state afterwards, and how many
    seconds to wait before using them. In the order of the calls, so nobody is overtaken. Nothing is
    taken of a gate that is closed without end: the answer is infinity."""
    if state.closed_until == inf:
        return state, inf
    start = max(now, state.closed_until)
    each = interval(gate, state)
    spent = max(state.tat, start) + gate.cost * each
    at = max(start, spent - tolerance(gate, each))
    return msgspec.structs.replace(state, tat=spent), at - now


def lane_of(priority: int, gates: Sequence[Gate], fair: str | None) -> str:
    """Return the name of the lane within its queue: 32 hex digits."""
    parts = [str(priority), *(gate.id for gate in gates), "" if fair is None else f"fair\n{fair}"]
    return blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
