"""The one place that decides what becomes of a task.

                        enqueue
                           │  due later ┌───────────┐
                           ├───────────▶│ scheduled │◀──────────────┐ retry, snooze
                           ▼            └─────┬─────┘               │
                      ┌────────┐    due       │                     │
        ┌────────────▶│ queued │◀─────────────┘                     │
        │             └───┬────┘◀──────────── released, interrupted, lost
 requeue│                 │ lease (execution number + 1)            │
        │             ┌───▼─────┐                                   │
        │             │ running │───────────────────────────────────┘
        │             └───┬─────┘
        │       ┌─────────┼──────────────┐
   ┌────┴───┐   │   ┌─────▼─────┐  ┌─────▼─────┐
   │ failed │◀──┘   │ succeeded │  │ cancelled │      (blocked and skipped: workflows)
   └────────┘       └───────────┘  └───────────┘

`decide` is pure: the dice and the policy's verdict are handed in. Brokers store transition;
they decide only this: a transition that would let a task live on becomes `cancelled` when the
task's cancellation is on record (see `conveyor.brokers.base.Settlement`).
"""

from __future__ import annotations

import msgspec

from conveyor.core.outcome import (
    Cancelled,
    Committed,
    Crashed,
    Failed,
    Interrupted,
    Lost,
    Outcome,
    Rejected,
    Released,
    Snoozed,
    Struck,
    Succeeded,
    TimedOut,
    Unroutable,
)
from conveyor.core.retry import Backoff, Verdict
from conveyor.core.task import (
    CRASHES_BEFORE_QUARANTINE,
    MAX_LOSSES,
    Counters,
    ErrorInfo,
    Lease,
    State,
)


class Transition(msgspec.Struct, frozen=True):
    """What the task becomes: its next state, and what it has used up by then."""

    to: State
    counters: Counters
    delay: float = 0.0
    """Seconds until due, when `to` is scheduled."""
    reason: str | None = None
    """Why it is dead or parked, in a sentence."""
    error: ErrorInfo | None = None
    result: bytes | None = None
    parked: bool = False
    """Waiting for a worker that knows its name (`to` is queued)."""


LOST_ERROR = ErrorInfo("conveyor.WorkerLost", "the worker went silent and its lease ran out")


def decide(lease: Lease, outcome: Outcome, *, dice: float) -> Transition:  # noqa: PLR0911
    """Say what becomes of the leased task after `outcome`.

    `dice` is uniform in [0, 1) and spreads retries. What only the task definition knows (final
    exceptions, `Retry-After`, the age limit) is already in the outcome, see `conveyor.core.retry`.
    """
    counters = lease.counters
    match outcome:
        case Succeeded(result) | Committed(result):
            return Transition(State.SUCCEEDED, counters, result=result)
        case Failed(error, final, delay):
            verdict = Verdict(final=final, delay=delay)
            return _retry_or_die(lease, _spend(counters), error, verdict, dice)
        case TimedOut(error):
            return _retry_or_die(lease, _spend(counters), error, Verdict(), dice)
        case Rejected(error):
            return Transition(State.FAILED, _spend(counters), reason=error.message, error=error)
        case Cancelled():
            return Transition(State.CANCELLED, counters)
        case Crashed(error, alone):
            return _after_crash(lease, error, alone=alone, dice=dice)
        case Lost():
            return _after_loss(lease)
        case _:
            return _live_on(lease, _free_of_charge(lease, outcome))


def _free_of_charge(
    lease: Lease, outcome: Snoozed | Interrupted | Released | Unroutable | Struck
) -> Transition:
    counters = lease.counters
    if isinstance(outcome, Snoozed):
        spent = msgspec.structs.replace(counters, snoozes=counters.snoozes + 1)
        return Transition(State.SCHEDULED, spent, delay=outcome.delay)
    if isinstance(outcome, Struck):
        delay, reason = outcome.delay, outcome.reason
        return Transition(State.SCHEDULED, counters, delay=delay, reason=reason)
    if isinstance(outcome, Unroutable):
        reason = f"no live worker knows the task {lease.task.name!r}"
        return Transition(State.QUEUED, counters, reason=reason, parked=True)
    return Transition(State.QUEUED, counters)


def cancellation(by: str, reason: str) -> str:
    """Return a cancellation as a sentence: what a cancelled task shows as its reason."""
    return "cancelled" + (f" by {by}" if by else "") + (f": {reason}" if reason else "")


def _spend(counters: Counters) -> Counters:
    return msgspec.structs.replace(counters, attempts=counters.attempts + 1, losses=0)


def _live_on(lease: Lease, transition: Transition) -> Transition:
    """A cancelled task is never given another run, whatever its last one ended in."""
    if not lease.cancel_requested:
        return transition
    return Transition(State.CANCELLED, transition.counters, error=transition.error)


def _retry_or_die(
    lease: Lease, spent: Counters, error: ErrorInfo, verdict: Verdict, dice: float
) -> Transition:
    task = lease.task
    if verdict.final and not lease.cancel_requested:
        return Transition(State.FAILED, spent, reason=f"not retryable: {error.type}", error=error)
    if spent.attempts >= task.max_attempts and not lease.cancel_requested:
        reason = f"all {task.max_attempts} attempt(s) used up"
        return Transition(State.FAILED, spent, reason=reason, error=error)
    delay = verdict.delay
    if delay is None:
        delay = Backoff(task.retry_base, task.retry_cap).delay(spent.attempts, dice)
    return _live_on(lease, Transition(State.SCHEDULED, spent, delay=delay, error=error))


def _after_crash(lease: Lease, error: ErrorInfo, *, alone: bool, dice: float) -> Transition:
    spent = _spend(lease.counters)
    spent = msgspec.structs.replace(spent, crashes=spent.crashes + 1)
    if alone and spent.crashes >= CRASHES_BEFORE_QUARANTINE and not lease.cancel_requested:
        reason = f"poison: {spent.crashes} processes died running it, the last one alone"
        return Transition(State.FAILED, spent, reason=reason, error=error)
    return _retry_or_die(lease, spent, error, Verdict(), dice)


def _after_loss(lease: Lease) -> Transition:
    spent = msgspec.structs.replace(lease.counters, losses=lease.counters.losses + 1)
    if spent.losses > MAX_LOSSES and not lease.cancel_requested:
        reason = f"lost its worker {spent.losses} times in a row"
        return Transition(State.FAILED, spent, reason=reason, error=LOST_ERROR)
    return _live_on(lease, Transition(State.QUEUED, spent, error=LOST_ERROR))
