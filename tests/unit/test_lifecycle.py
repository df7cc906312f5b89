"""decide(): every outcome against the counters that matter, and what must always hold."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyor.core.lifecycle import LOST_ERROR, Transition, decide
from conveyor.core.outcome import (
    Cancelled,
    Crashed,
    Failed,
    Interrupted,
    Lost,
    Outcome,
    Rejected,
    Released,
    Snoozed,
    Succeeded,
    TimedOut,
    Unroutable,
)
from conveyor.core.task import MAX_LOSSES, UNTOUCHED, Counters, ErrorInfo, Lease, State, Task

BOOM = ErrorInfo("builtins.ValueError", "boom")
ALL_USED_UP = "all 5 attempt(s) used up"
POISON = "poison: {} processes died running it, the last one alone"


def a_lease(counters: Counters = UNTOUCHED, *, cancelled: bool = False, **fields: Any) -> Lease:
    task = Task("id", "work", "q", 5, b"", 0.0, **fields)
    return Lease(task, 1, counters, cancel_requested=cancelled)


def used(**counters: int) -> Counters:
    return Counters(**counters)


# outcome, counters before, state, counters after, delay at dice 0.5, reason, error
ALIVE_OR_DEAD = [
    (Succeeded(b"r"), UNTOUCHED, State.SUCCEEDED, UNTOUCHED, 0, None, None),
    (Succeeded(b"r"), used(attempts=3), State.SUCCEEDED, used(attempts=3), 0, None, None),
    (Cancelled(), used(attempts=2), State.CANCELLED, used(attempts=2), 0, None, None),
    (Rejected(BOOM), UNTOUCHED, State.FAILED, used(attempts=1), 0, "boom", BOOM),
    # Failures: full jitter of 2 · 2ⁿ seconds, halved by the dice.
    (Failed(BOOM), UNTOUCHED, State.SCHEDULED, used(attempts=1), 1, None, BOOM),
    (Failed(BOOM), used(attempts=3), State.SCHEDULED, used(attempts=4), 8, None, BOOM),
    (Failed(BOOM), used(attempts=4), State.FAILED, used(attempts=5), 0, ALL_USED_UP, BOOM),
    (Failed(BOOM), used(attempts=9), State.FAILED, used(attempts=10), 0, ALL_USED_UP, BOOM),
    (
        Failed(BOOM, final=True),
        UNTOUCHED,
        State.FAILED,
        used(attempts=1),
        0,
        "not retryable: builtins.ValueError",
        BOOM,
    ),
    (Failed(BOOM, delay=77.0), UNTOUCHED, State.SCHEDULED, used(attempts=1), 77, None, BOOM),
    (Failed(BOOM, delay=0.0), UNTOUCHED, State.SCHEDULED, used(attempts=1), 0, None, BOOM),
    (Failed(BOOM), used(losses=9), State.SCHEDULED, used(attempts=1), 1, None, BOOM),
    (TimedOut(BOOM), UNTOUCHED, State.SCHEDULED, used(attempts=1), 1, None, BOOM),
    (TimedOut(BOOM), used(attempts=4), State.FAILED, used(attempts=5), 0, ALL_USED_UP, BOOM),
    # What is free of charge, even when no attempt is left.
    (Snoozed(30.0), UNTOUCHED, State.SCHEDULED, used(snoozes=1), 30, None, None),
    (Snoozed(30.0), used(attempts=9), State.SCHEDULED, used(attempts=9, snoozes=1), 30, None, None),
    (Interrupted(), used(attempts=9), State.QUEUED, used(attempts=9), 0, None, None),
    (Released(), used(losses=2), State.QUEUED, used(losses=2), 0, None, None),
    # Losses: 25 in a row are forgiven.
    (Lost(), UNTOUCHED, State.QUEUED, used(losses=1), 0, None, LOST_ERROR),
    (
        Lost(),
        used(attempts=4, losses=MAX_LOSSES - 1),
        State.QUEUED,
        used(attempts=4, losses=MAX_LOSSES),
        0,
        None,
        LOST_ERROR,
    ),
    (
        Lost(),
        used(losses=MAX_LOSSES),
        State.FAILED,
        used(losses=MAX_LOSSES + 1),
        0,
        f"lost its worker {MAX_LOSSES + 1} times in a row",
        LOST_ERROR,
    ),
    # Crashes: only one that happened alone can prove poison.
    (Crashed(BOOM), UNTOUCHED, State.SCHEDULED, used(attempts=1, crashes=1), 1, None, BOOM),
    (
        Crashed(BOOM),
        used(attempts=2, crashes=2),
        State.SCHEDULED,
        used(attempts=3, crashes=3),
        4,
        None,
        BOOM,
    ),
    (
        Crashed(BOOM, alone=True),
        used(attempts=1, crashes=1),
        State.SCHEDULED,
        used(attempts=2, crashes=2),
        2,
        None,
        BOOM,
    ),
    (
        Crashed(BOOM, alone=True),
        used(attempts=2, crashes=2),
        State.FAILED,
        used(attempts=3, crashes=3),
        0,
        POISON.format(3),
        BOOM,
    ),
    (
        Crashed(BOOM),
        used(attempts=4),
        State.FAILED,
        used(attempts=5, crashes=1),
        0,
        ALL_USED_UP,
        BOOM,
    ),
]


@pytest.mark.parametrize(
    ("outcome", "before", "to", "after", "delay", "reason", "error"), ALIVE_OR_DEAD
)
def test_what_becomes_of_a_task(
    outcome: Outcome,
    before: Counters,
    to: State,
    after: Counters,
    delay: float,
    reason: str | None,
    error: ErrorInfo | None,
) -> None:
    result = outcome.result if isinstance(outcome, Succeeded) else None
    expected = Transition(to, after, delay=delay, reason=reason, error=error, result=result)
    assert decide(a_lease(before), outcome, dice=0.5) == expected


def test_an_unknown_name_is_parked_free_of_charge() -> None:
    assert decide(a_lease(used(attempts=9)), Unroutable(), dice=0.5) == Transition(
        State.QUEUED,
        used(attempts=9),
        reason="no live worker knows the task 'work'",
        parked=True,
    )


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Succeeded(b""), State.SUCCEEDED),
        (Rejected(BOOM), State.FAILED),
        (Cancelled(), State.CANCELLED),
        (Failed(BOOM), State.CANCELLED),
        (Failed(BOOM, final=True), State.CANCELLED),
        (TimedOut(BOOM), State.CANCELLED),
        (Crashed(BOOM), State.CANCELLED),
        (Crashed(BOOM, alone=True), State.CANCELLED),
        (Snoozed(1), State.CANCELLED),
        (Interrupted(), State.CANCELLED),
        (Released(), State.CANCELLED),
        (Unroutable(), State.CANCELLED),
        (Lost(), State.CANCELLED),
    ],
)
@pytest.mark.parametrize(
    "counters", [UNTOUCHED, used(attempts=9, crashes=2, losses=MAX_LOSSES)], ids=["new", "worn"]
)
def test_what_becomes_of_a_task_whose_cancellation_is_known(
    outcome: Outcome, state: State, counters: Counters
) -> None:
    """It is over either way: who cancelled it sees `cancelled`, not the failure that followed."""
    transition = decide(a_lease(counters, cancelled=True), outcome, dice=0.5)
    assert transition.to is state
    assert (transition.delay, transition.parked) == (0, False)


def test_a_single_attempt_is_not_retried() -> None:
    transition = decide(a_lease(max_attempts=1), Failed(BOOM), dice=0.5)
    assert (transition.to, transition.reason) == (State.FAILED, "all 1 attempt(s) used up")


def test_the_backoff_is_the_tasks_own() -> None:
    lease = a_lease(used(attempts=2), retry_base=10.0, retry_cap=30.0)
    assert decide(lease, Failed(BOOM), dice=0.5).delay == 15.0
    assert decide(lease, TimedOut(BOOM), dice=0.1).delay == 3.0


def test_the_third_death_must_come_alone() -> None:
    assert not a_lease(used(crashes=1)).must_run_alone
    assert a_lease(used(crashes=2)).must_run_alone


errors = st.builds(ErrorInfo, st.just("builtins.OSError"), st.text(max_size=5))
delays = st.floats(0, 1e6)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Succeeded, st.binary(max_size=3)),
    st.builds(Failed, errors, st.booleans(), st.none() | delays),
    st.builds(TimedOut, errors),
    st.builds(Snoozed, delays),
    st.builds(Rejected, errors),
    st.builds(Crashed, errors, st.booleans()),
    *(st.builds(kind) for kind in (Cancelled, Interrupted, Released, Unroutable, Lost)),
)
small = st.integers(0, 30)
leases = st.builds(
    a_lease,
    st.builds(Counters, small, small, small, small),
    cancelled=st.booleans(),
    max_attempts=st.integers(1, 10),
)


@given(leases, outcomes, st.floats(0, 1, exclude_max=True))
def test_every_decision_makes_sense(lease: Lease, outcome: Outcome, dice: float) -> None:
    before = lease.counters
    transition = decide(lease, outcome, dice=dice)
    after = transition.counters
    assert transition.to in {
        State.SUCCEEDED,
        State.FAILED,
        State.CANCELLED,
        State.QUEUED,
        State.SCHEDULED,
    }
    assert (transition.result is not None) == (transition.to is State.SUCCEEDED)
    assert (transition.to is State.FAILED) <= (transition.error is not None)
    assert (transition.to is State.FAILED) <= (transition.reason is not None)
    assert transition.delay == 0 or transition.to is State.SCHEDULED
    assert 0 <= after.attempts - before.attempts <= 1
    assert 0 <= after.crashes - before.crashes <= (outcome.name == "crashed")
    assert 0 <= after.snoozes - before.snoozes <= (outcome.name == "snoozed")
    assert after.losses in {before.losses, 0, before.losses + 1}
    if lease.cancel_requested:
        assert transition.to.is_final


@given(st.lists(outcomes, min_size=1, max_size=200))
def test_failures_alone_cannot_go_on_for_ever(ends: list[Outcome]) -> None:
    """Attempts and losses are bounded on every path."""
    counters = UNTOUCHED
    for outcome in ends:
        transition = decide(a_lease(counters), outcome, dice=0.0)
        counters = transition.counters
        if transition.to.is_final:
            return
        assert counters.attempts < 5
        assert counters.losses <= MAX_LOSSES
