"""How a rate falls and recovers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conveyor.core.aimd import (
    HOLD,
    Adapt,
    carried,
    fresh,
    is_ours,
    is_refusal,
    rate_at,
    recovered,
    refused,
)
from conveyor.core.errors import InvalidOption
from conveyor.core.limits import Rate

NOW = 1_000.0
FULL = fresh(100.0, Adapt(least="10/s", recover=100.0))


def test_a_refusal_halves_the_rate_once_for_one_trouble() -> None:
    half = refused(FULL, NOW)
    assert half is not None
    assert (half.applied, half.before, rate_at(half, NOW)) == (50.0, 100.0, 50.0)
    assert refused(half, NOW + HOLD - 0.01) is None
    quarter = refused(half, NOW + HOLD)
    assert quarter is not None
    assert quarter.applied == pytest.approx(25.5)


def test_it_never_falls_below_the_least() -> None:
    learned = FULL
    for n in range(10):
        slower = refused(learned, NOW + 2 * n)
        assert slower is not None
        learned = slower
    assert learned.applied == 10.0


def test_it_grows_in_a_straight_line_and_is_told_in_steps() -> None:
    half = refused(FULL, NOW)
    assert half is not None
    assert rate_at(half, NOW + 20) == pytest.approx(70.0)
    assert rate_at(half, NOW - 20) == 50.0
    assert recovered(half, NOW + 4.9) is None
    faster = recovered(half, NOW + 5)
    assert faster is not None
    assert faster.applied == pytest.approx(55.0)
    assert faster.before == 50.0
    whole = recovered(half, NOW + 500)
    assert whole is not None
    assert whole.applied == 100.0


def test_what_was_learned_lives_on_under_new_numbers() -> None:
    half = refused(FULL, NOW)
    assert half is not None
    new = carried(half, fresh(40.0, Adapt()))
    assert (new.stated, new.rate, new.applied, new.at) == (40.0, 40.0, 50.0, NOW)


def test_a_rate_that_a_person_told_is_pinned() -> None:
    half = refused(FULL, NOW)
    assert half is not None
    assert is_ours(half, 50.0)
    assert is_ours(half, None)  # Written, and not told yet.
    assert not is_ours(half, 20.0)
    slower = refused(half, NOW + 10)
    assert slower is not None
    assert not is_ours(slower, None)  # Somebody took it back.


class Broken(Exception):
    @property
    def response(self) -> Any:
        raise ValueError


@pytest.mark.parametrize(
    ("attributes", "says"),
    [({"retry_after": 5}, True), ({"status": 429}, True), ({"status_code": 503}, True),
     ({"response": SimpleNamespace(status_code=429)}, True), ({"status": 404}, False), ({}, False)],
)  # fmt: skip
def test_refusals(attributes: dict[str, Any], says: bool) -> None:
    exc = RuntimeError("no")
    for name, value in attributes.items():
        setattr(exc, name, value)
    assert is_refusal(exc, NOW) is says
    assert not is_refusal(Broken(), NOW)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Adapt(least="0/s"),
        lambda: Adapt(least="slow"),
        lambda: Adapt(factor=1.0),
        lambda: Adapt(factor=0),
        lambda: Adapt(recover=0),
        lambda: Rate("5/s", adapt="1/s"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense(make: Any) -> None:
    with pytest.raises(InvalidOption):
        make()
