"""What may be done to a queue: strategies of single calls on the machine."""

from typing import Any

from hypothesis import strategies as st

from conveyor.core.outcome import (
    Cancelled,
    Crashed,
    Interrupted,
    Outcome,
    Rejected,
    Released,
    Snoozed,
    Unroutable,
)
from conveyor.testing.conformance.rig import BOOM, failure, ok

Draft = tuple[dict[str, Any], float | None]
"""Fields of a task, and its delay."""
Move = tuple[str, dict[str, Any]]
"""A method of the machine and its arguments."""

QUEUES = ("q", "r")
NAMES = ("work", "rare")
# Nothing becomes due, or runs out, at an instant where the clock stands: whole seconds pass.
DICE = 0.3
LEASE_SECONDS = 15.25
DAY = 90_000

drafts = st.fixed_dictionaries(
    {
        "queue": st.sampled_from(QUEUES),
        "name": st.sampled_from(NAMES),
        "priority": st.sampled_from([0, 4, 5, 9]),
        "key": st.sampled_from([None, None, None, "k1", "k2"]),
        "args": st.sampled_from([(0,), (1,)]),
    }
)
delays = st.sampled_from([None, None, None, 2.5, 70.5])
batches = st.lists(st.tuples(drafts, delays), min_size=1, max_size=3)
seeds = st.lists(st.tuples(drafts, delays), min_size=4, max_size=8)
queues = st.sampled_from([("q",), ("r",), ("q", "r"), ("r", "q")])
picks = st.integers(0, 1_000)
few = st.lists(picks, min_size=1, max_size=3)
workers = st.integers(0, 2)
small = st.integers(0, 3)
outcomes: st.SearchStrategy[Outcome] = st.sampled_from(
    [
        ok("result"),
        failure(),
        failure(final=True),
        failure(delay=7.5),
        Snoozed(3.5),
        Interrupted(),
        Released(),
        Unroutable(),
        Cancelled(),
        Rejected(BOOM),
        Crashed(BOOM),
        Crashed(BOOM, alone=True),
    ]
)
mostly = st.sampled_from([True, True, True, False])
ends = st.lists(st.tuples(picks, outcomes), max_size=4)


def calls(method: str, /, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Move]:
    """A call of one of the machine's methods."""
    return st.tuples(st.just(method), st.fixed_dictionaries(arguments))


some_names = st.sampled_from([NAMES, ("work",), ("rare",), ()])
worker_moves = st.one_of(
    calls("work", worker=workers, served=queues, want=st.integers(1, 4), ended=ends, beats=mostly),
    calls("finish", number=st.integers(0, 2), outcome=outcomes, worker=workers),
    calls("finish", number=st.integers(0, 2), outcome=outcomes, worker=workers),
    calls("step_again"),
    calls("look_for_parked", worker=workers, names=some_names, served=queues, want=small),
    calls("watch", worker=workers, number=picks, stale=st.integers(0, 1)),
)
operations = ["cancel", "requeue", "reschedule", "discard"]
other_moves = st.one_of(
    calls("push", batch=batches),
    calls("push_again"),
    calls("keep", duty=st.sampled_from(["sweep", "sweep", "sweep and die", "tidy", "grace"])),
    calls(
        "operate", verb=st.sampled_from(["cancel", "requeue", "reschedule", "discard"]), numbers=few
    ),
    calls("pause", queue=st.sampled_from(QUEUES), paused=st.booleans()),
    calls("wait", seconds=st.sampled_from([1, 5, 16, 61, 700])),
    calls("wait_a_day"),
)
