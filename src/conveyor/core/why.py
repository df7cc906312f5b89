"""Why a task is not running: every gate it stands before, and what opens it. Pure.

There is no second admission here: limits are asked by `core.gates.refusal`, the function that
stores admit by.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf

import msgspec

from conveyor.core.gates import Gate, GateState, refusal
from conveyor.core.strike import STRUCK, Strike
from conveyor.core.task import Pause, State, TaskInfo


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that keeps a task from running, or the last word on one that does not wait."""

    code: str
    """finished, running, cancelling, due, retry, struck, paused, no_worker, not_served,
    unknown_name, closed, rate, full, line, behind, busy or next."""
    text: str
    """A sentence."""
    opens: str = ""
    """What has to happen."""
    at: float | None = None
    """When that happens by itself, epoch seconds."""
    ids: tuple[str, ...] = ()
    """Tasks it waits for."""


class GateView(msgspec.Struct, frozen=True, kw_only=True):
    """A gate of the task with its state."""

    gate: Gate
    state: GateState
    holders: tuple[str, ...] = ()
    pause: Pause | None = None


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """A live worker as far as it matters here."""

    id: str
    queues: tuple[str, ...]
    """Empty: every queue."""
    names: tuple[str, ...]
    free: int
    """Slots that run nothing."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that `why` needs to know, read at one moment."""

    info: TaskInfo
    now: float
    ahead: int | None = None
    """Tasks that are claimed before it, when it is queued."""
    exact: bool = True
    gates: tuple[GateView, ...] = ()
    pause: Pause | None = None
    """Of its queue."""
    workers: tuple[WorkerView, ...] = ()
    strikes: tuple[Strike, ...] = ()


def why(facts: Facts) -> list[Reason]:
    """Say what keeps the task from running, the most decisive reasons first; never empty."""
    state = facts.info.state
    if state.is_final:
        return [_finished(facts)]
    if state is State.RUNNING:
        return [_running(facts)]
    reasons = [
        *(_struck(facts) or _due(facts)),
        *_paused(facts),
        *_workers(facts),
        *(found for view in facts.gates for found in _gate(view, facts)),
    ]
    if state is State.QUEUED:
        reasons += _rank(facts, blocked=bool(reasons))
    return reasons


def _finished(facts: Facts) -> Reason:
    info = facts.info
    said = info.reason if info.reason != info.state else ""
    text = f"it is final: {info.state}" + (f", {said}" if said else "")
    again = "" if info.state is State.SUCCEEDED else "requeue it"
    return Reason(code="finished", text=text, opens=again)


def _running(facts: Facts) -> Reason:
    info = facts.info
    where = f"by worker {info.worker}" if info.worker else "by a worker"
    if "cancelling" in info.flags:
        return Reason(
            code="cancelling", text=f"it runs {where}, which was told to stop it", opens="its end"
        )
    since = "" if info.started_at is None else f", for {_span(facts.now - info.started_at)}"
    return Reason(code="running", text=f"it is being run {where}{since}")


def _due(facts: Facts) -> list[Reason]:
    info = facts.info
    if info.state is not State.SCHEDULED or info.due_at is None:
        return []
    left = _span(max(0.0, info.due_at - facts.now))
    if info.attempts and info.error is not None:
        text = f"it failed ({info.error.type}) and is tried again in {left}"
        return [Reason(code="retry", text=text, opens="time, or a requeue", at=info.due_at)]
    return [
        Reason(code="due", text=f"it is due in {left}", opens="time, or a requeue", at=info.due_at)
    ]


def _struck(facts: Facts) -> list[Reason]:
    struck = [
        Reason(
            code="struck",
            text=strike.sentence(),
            opens=f"lifting strike {strike.id!r}" + (" or time" if strike.until else ""),
            at=strike.until,
        )
        for strike in facts.strikes
        if strike.hits(facts.info, facts.now)
    ]
    reason = facts.info.reason or ""
    if not struck and facts.info.state is State.SCHEDULED and STRUCK in reason:
        # Positional arguments have names only where the code is: the worker said what it saw.
        return [
            Reason(code="struck", text=reason, opens="lifting the strike", at=facts.info.due_at)
        ]
    return struck


def _paused(facts: Facts) -> list[Reason]:
    pause = facts.pause
    if pause is None:
        return []
    text = f"queue {facts.info.queue!r} is paused{_by(pause)}"
    return [Reason(code="paused", text=text, opens="resuming the queue")]


def _workers(facts: Facts) -> list[Reason]:
    info = facts.info
    if not facts.workers:
        return [Reason(code="no_worker", text="no worker is live", opens="starting a worker")]
    serving = _serving(facts)
    if not serving:
        text = f"none of {len(facts.workers)} live worker(s) serves queue {info.queue!r}"
        return [Reason(code="not_served", text=text, opens=f"a worker with --queues {info.queue}")]
    if not any(info.name in worker.names for worker in serving):
        text = f"no live worker of queue {info.queue!r} knows the task {info.name!r}"
        return [Reason(code="unknown_name", text=text, opens="a worker whose code defines it")]
    return []


def _serving(facts: Facts) -> list[WorkerView]:
    queue = facts.info.queue
    return [worker for worker in facts.workers if not worker.queues or queue in worker.queues]


def _gate(view: GateView, facts: Facts) -> list[Reason]:
    holds = facts.info.id in view.holders
    refused = refusal(view.gate, view.state, facts.now, holds=holds)
    if refused is None:
        return []
    name = _name(view.gate)
    if refused.why == "closed":
        pause = view.pause
        until = "" if refused.at is None else f" for {_span(refused.at - facts.now)} more"
        text = f"{name} is paused{until}{_by(pause) if pause else ''}"
        return [Reason(code="closed", text=text, opens="resuming the limit", at=refused.at)]
    if refused.why == "rate":
        rate = view.gate.rate if view.state.rate is None else view.state.rate
        wait = _span((refused.at or facts.now) - facts.now)
        text = f"{name} lets {_rate(rate)} start: its next token comes in {wait}"
        return [Reason(code="rate", text=text, opens="time", at=refused.at)]
    most = view.gate.most if view.state.most is None else view.state.most
    who = ", ".join(view.holders[:3]) + (" …" if len(view.holders) > 3 else "")
    if view.gate.line:
        text = f"{name} runs one task at a time, in order: {who or 'another one'} is before it"
        return [Reason(code="line", text=text, opens="its final end", ids=view.holders)]
    text = f"{name} allows {most} at a time, and {view.state.running} run: {who}".rstrip(": ")
    return [Reason(code="full", text=text, opens="the end of one of them", ids=view.holders)]


def _rank(facts: Facts, *, blocked: bool) -> list[Reason]:
    ahead = facts.ahead
    if ahead:
        count = f"{ahead}" if facts.exact else f"more than {ahead}"
        text = f"{count} task(s) go before it in queue {facts.info.queue!r}"
        return [Reason(code="behind", text=text, opens="their start")]
    if blocked:
        return []
    serving = [worker for worker in _serving(facts) if facts.info.name in worker.names]
    if not any(worker.free > 0 for worker in serving):
        text = f"it is the next one, and all slots of {len(serving)} worker(s) are busy"
        return [Reason(code="busy", text=text, opens="the end of a running task")]
    return [Reason(code="next", text="it is the next one: a worker takes it within a second")]


def sentences(reasons: Sequence[Reason]) -> str:
    """Return reasons as text, one a line."""
    return "\n".join(
        reason.text + (f" (opens with: {reason.opens})" if reason.opens else "")
        for reason in reasons
    )


def _name(gate: Gate) -> str:
    return f"limit {gate.limit!r}" + (f" of {gate.key!r}" if gate.key else "")


def _by(pause: Pause) -> str:
    return (f" by {pause.by}" if pause.by else "") + (f": {pause.reason}" if pause.reason else "")


def _rate(per_second: float) -> str:
    for each, unit in ((1.0, "s"), (60.0, "min"), (3_600.0, "h")):
        if per_second * each >= 1:
            return f"{per_second * each:g} per {unit}"
    return f"{per_second * 86_400:g} per day"


def _span(seconds: float) -> str:
    if isinf(seconds):
        return "ever"
    if seconds < 60:
        return f"{max(0.0, seconds):.1f} s"
    for size, unit in ((86_400, "d"), (3_600, "h")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.1f} min"
