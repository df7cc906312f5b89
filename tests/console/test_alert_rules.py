"""When alerts begin and end: tables, and what must hold for any course of values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyor_console.alerts.rules import (
    OPEN,
    Standing,
    Status,
    Terms,
    acknowledge,
    decide,
    telling,
)

T0 = datetime(2026, 11, 27, 12, tzinfo=UTC)
START = Standing(Status.OK, T0)
TERMS = Terms("above", 10, clear=5, for_seconds=20, clear_seconds=10)


def course(terms: Terms, values: list[float | None], step: float = 10) -> list[str]:
    """The statuses of a rule that measures a value every `step` seconds."""
    standing, found = START, []
    for index, value in enumerate(values):
        standing = decide(terms, standing, value, T0 + timedelta(seconds=step * index))
        found.append(standing.status.value)
    return found


@pytest.mark.parametrize(
    ("values", "statuses"),
    [
        ([0, 10], ["ok", "ok"]),
        ([11, 11, 11], ["pending", "pending", "firing"]),
        ([11, 11, 3, 11, 11, 11], ["pending", "pending", "ok", "pending", "pending", "firing"]),
        ([11, 7, 11], ["pending", "pending", "firing"]),
        ([11, None, 11], ["pending", "pending", "firing"]),
        ([11, 11, 11, 7, 7, 7], ["pending", "pending", *["firing"] * 4]),
        ([11, 11, 11, 5, 5], ["pending", "pending", "firing", "firing", "resolved"]),
        ([11, 11, 11, 5, 6, 5, 5], ["pending", "pending", *["firing"] * 4, "resolved"]),
        ([11, 11, 11, 5, 11, 5, 5], ["pending", "pending", *["firing"] * 4, "resolved"]),
        ([11, 11, 11, 5, 5, 11], ["pending", "pending", "firing", "firing", "resolved", "pending"]),
        ([None, None], ["ok", "ok"]),
    ],
)
def test_the_course_of_a_rule(values: list[float | None], statuses: list[str]) -> None:
    assert course(TERMS, values) == statuses


def test_a_rule_about_too_little() -> None:
    terms = Terms("below", 1, for_seconds=0)
    assert course(terms, [1, 0, 0, 1]) == ["ok", "firing", "firing", "resolved"]


def test_only_what_fires_is_acknowledged_and_it_ends_all_the_same() -> None:
    assert acknowledge(START, T0) is None
    firing = replace(START, status=Status.FIRING)
    taken = acknowledge(firing, T0)
    assert taken is not None
    assert taken.status is Status.ACKNOWLEDGED
    assert acknowledge(taken, T0) is None
    assert decide(TERMS, taken, 99, T0).status is Status.ACKNOWLEDGED
    ending = decide(TERMS, taken, 0, T0)
    assert decide(TERMS, ending, 0, T0 + timedelta(seconds=10)).status is Status.RESOLVED


def test_what_is_told() -> None:
    firing = replace(START, status=Status.FIRING)
    kind, quiet = telling(firing, silenced=True)
    assert (kind, quiet.announced) == (None, False)
    kind, told = telling(quiet, silenced=False)
    assert (kind, told.announced) == ("firing", True)
    assert telling(told, silenced=False) == (None, told)
    kind, over = telling(replace(told, status=Status.RESOLVED), silenced=True)
    assert (kind, over.announced) == ("resolved", False)
    assert telling(replace(quiet, status=Status.RESOLVED), silenced=False)[0] is None


values = st.one_of(st.none(), st.floats(-20, 20))
steps = st.lists(st.tuples(values, st.floats(0, 60), st.booleans(), st.booleans()), max_size=40)


@given(
    st.floats(-10, 10), st.floats(0, 5), st.floats(0, 100), st.floats(0, 100),
    st.sampled_from(["above", "below"]), steps,
)  # fmt: skip
def test_whatever_is_measured_the_course_makes_sense(
    threshold: float,
    gap: float,
    for_seconds: float,
    clear_seconds: float,
    comparison: str,
    course: list[tuple[float | None, float, bool, bool]],
) -> None:
    above = comparison == "above"
    clear = threshold - gap if above else threshold + gap
    terms = Terms("above" if above else "below", threshold, clear, for_seconds, clear_seconds)
    standing, now, told = START, T0, 0
    for value, seconds, silenced, taken in course:
        now += timedelta(seconds=seconds)
        before, standing = standing, decide(terms, standing, value, now)
        if value is None:
            assert standing == before
        if standing.status is Status.FIRING and before.status not in OPEN:
            assert value is not None
            assert terms.breached(value)
            assert standing.breached_at is not None
            assert (now - standing.breached_at).total_seconds() >= for_seconds - 1e-3
        if standing.status is Status.RESOLVED and before.status is not Status.RESOLVED:
            assert before.status in OPEN
            assert value is not None
            assert terms.cleared(value)
        if taken:
            standing = acknowledge(standing, now) or standing
        kind, standing = telling(standing, silenced=silenced)
        told += {"firing": 1, "resolved": -1, None: 0}[kind]
        assert told in {0, 1}
        assert bool(told) == standing.announced
        assert not (kind == "firing" and silenced)
