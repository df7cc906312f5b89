"""What rules mean for one call, and which rules are refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from conveyor.core.errors import InvalidArguments, InvalidOption
from conveyor.core.gates import Gate
from conveyor.core.limits import Concurrency, Rate, SharedLimits
from conveyor.core.rules import Rules, rules_of
from conveyor.core.task import Fair, Terms
from conveyor.core.task import Unique as UniqueTerm
from conveyor.core.uniqueness import Debounce, Unique


async def async_key(*args: Any) -> str:
    return "key"


def terms(*args: Any, priority: int = 5, payload: bytes = b"", **rules: Any) -> Terms:
    found = rules_of(**{**NOTHING, **rules})
    assert found is not None
    return found.named("work").terms("work", priority, payload, args, {})


NOTHING: dict[str, Any] = dict.fromkeys(
    ("rate_limit", "concurrency", "fair_by", "partition_by", "unique", "debounce")
)


def test_no_rule_means_none() -> None:
    assert rules_of(**NOTHING) is None


@pytest.mark.parametrize(
    ("text", "per_second"),
    [("50/s", 50), ("100/m", 100 / 60), ("1000/h", 1000 / 3600), ("5/10s", 0.5), ("0.5/s", 0.5),
     (" 1 / d ", 1 / 86_400), ("30/2m", 0.25)],
)  # fmt: skip
def test_rates(text: str, per_second: float) -> None:
    assert Rate(text).per_second == pytest.approx(per_second)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rate("fast"),
        lambda: Rate("5"),
        lambda: Rate("0/s"),
        lambda: Rate("5/0s"),
        lambda: Rate("-1/s"),
        lambda: Rate("5/week"),
        lambda: Rate(5),  # type: ignore[arg-type]
        lambda: Rate("5/s", burst=0),
        lambda: Rate("5/s", burst=True),
        lambda: Rate("5/s", cost=2),
        lambda: Rate("5/s", cost=0),
        lambda: Rate("5/s", name=""),
        lambda: Rate("5/s", name="a\nb"),
        lambda: Concurrency(0),
        lambda: Concurrency(True),
        lambda: Concurrency(1.5),  # type: ignore[arg-type]
        lambda: Concurrency(1, on_full="wait"),
        lambda: Unique("forever"),
        lambda: Unique(0),
        lambda: Unique(-5),
        lambda: Unique(on_conflict="ignore"),
        lambda: Debounce(0),
        lambda: Debounce(5, max=1),
        lambda: Debounce(5, keep="newest"),
        lambda: Debounce(5, key="shop"),  # type: ignore[arg-type]
        lambda: Unique(key="shop"),  # type: ignore[arg-type]
        lambda: Rate("5/s", burst="5"),  # type: ignore[arg-type]
        lambda: Rate("5/s", key="tenant"),  # type: ignore[arg-type]
        lambda: Rate("5/s", key=async_key),
        lambda: Rate("5/s", cost=async_key),
        lambda: Concurrency(1, key=async_key),
        lambda: Concurrency(1, name=7),  # type: ignore[arg-type]
        lambda: rules_of(**{**NOTHING, "fair_by": async_key}),
        lambda: terms(rate_limit=Rate("5/s", name="x"), concurrency=Concurrency(1, name="x")),
        lambda: terms(rate_limit=[Rate("5/s", name="x"), Rate("9/h", name="x")]),
        lambda: rules_of(**{**NOTHING, "rate_limit": Concurrency(1)}),
        lambda: rules_of(**{**NOTHING, "concurrency": [Concurrency(1), Rate("1/s")]}),
        lambda: rules_of(**{**NOTHING, "fair_by": "tenant"}),
        lambda: rules_of(**{**NOTHING, "debounce": 5}),
        lambda: rules_of(**{**NOTHING, "debounce": Debounce(5), "unique": "until_done"}),
    ],
)
def test_rules_that_make_no_sense(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidOption) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_limits_become_gates() -> None:
    found = terms(
        "acme",
        rate_limit=Rate("50/s", burst=10, name="crm"),
        concurrency=Concurrency(3, key=lambda tenant: tenant, on_full="drop"),
    )
    assert found.gates == (
        Gate("crm", "", rate=50.0, burst=10.0),
        Gate("work:concurrency", "acme", most=3, on_full="drop"),
    )
    assert found.lane


def test_several_nameless_limits_do_not_meet() -> None:
    found = terms(rate_limit=[Rate("1/s"), Rate("10/m"), Rate("5/s", name="shared")])
    assert [gate.limit for gate in found.gates] == ["work:rate", "work:rate2", "shared"]


def test_a_cost_may_be_told_from_the_arguments() -> None:
    limit = Rate("5/s", burst=10, cost=len)
    assert terms([1, 2, 3], rate_limit=limit).gates[0].cost == 3
    with pytest.raises(InvalidArguments, match="cost is 11"):
        terms(list(range(11)), rate_limit=limit)


@pytest.mark.parametrize("key", [lambda _: None, lambda _: "x" * 257, lambda _: 1 / 0, lambda: "x"])
def test_a_key_function_that_fails(key: Callable[..., Any]) -> None:
    with pytest.raises(InvalidArguments, match="nothing was enqueued"):
        terms("acme", concurrency=Concurrency(1, key=key))


def test_fairness_with_and_without_weight() -> None:
    assert terms("acme", fair_by=lambda tenant: tenant).fair == Fair("acme")
    assert terms("acme", fair_by=lambda tenant: (tenant, 3)).fair == Fair("acme", 3)
    with pytest.raises(InvalidArguments, match="weight"):
        terms("acme", fair_by=lambda tenant: (tenant, 0))


def test_a_partition_is_a_line() -> None:
    (gate,) = terms("acme", partition_by=lambda tenant: tenant).gates
    assert (gate.key, gate.most, gate.line) == ("acme", 1, True)


def test_lanes_differ_by_priority_gates_and_fairness() -> None:
    limit = Concurrency(3, key=lambda tenant: tenant)
    lanes = {
        terms("a", concurrency=limit).lane,
        terms("b", concurrency=limit).lane,
        terms("a", concurrency=limit, priority=9).lane,
        terms("a", concurrency=limit, fair_by=lambda tenant: tenant).lane,
        terms("a", fair_by=lambda tenant: tenant).lane,
    }
    assert len(lanes) == 5
    assert terms("a", concurrency=limit).lane in lanes


@pytest.mark.parametrize(
    ("unique", "term"),
    [
        ("until_done", UniqueTerm("k", "done")),
        ("while_queued", UniqueTerm("k", "queued")),
        ("until_start", UniqueTerm("k", "start")),
        (60, UniqueTerm("k", "period", 60.0)),
        (timedelta(minutes=2), UniqueTerm("k", "period", 120.0)),
        (Unique(on_conflict="replace"), UniqueTerm("k", "done", 0.0, "replace")),
    ],
)
def test_uniqueness(unique: Any, term: UniqueTerm) -> None:
    found = terms(payload=b"x", unique=unique).unique
    assert found is not None
    assert UniqueTerm("k", *_fields(found)[1:]) == term
    other = terms(payload=b"y", unique=unique).unique
    assert other is not None
    assert found.key != other.key


def _fields(term: UniqueTerm) -> list[Any]:
    return [getattr(term, name) for name in term.__struct_fields__]


def test_only_keys_that_are_freed_by_a_lease_need_a_lane() -> None:
    assert terms(unique="until_done").lane == ""
    assert terms(unique=5).lane == ""
    assert terms(unique="until_start").lane
    assert terms(unique="while_queued").lane


def test_unique_keys_come_from_the_arguments() -> None:
    rule = Unique(key=lambda user, *rest: user)
    assert terms("ada", 1, unique=rule).unique == terms("ada", 2, unique=rule).unique
    assert terms("ada", unique=rule).unique != terms("bob", unique=rule).unique


def test_debounce() -> None:
    found = terms("ada", debounce=Debounce(5, max=60, key=lambda user: user)).unique
    assert found == UniqueTerm(
        "debounce:ada", "queued", 5.0, "replace", debounce=True, longest=60.0
    )
    assert Rules(debounce=Debounce(timedelta(seconds=2))).debounce is not None
    first = terms("ada", debounce=Debounce(5, keep="first")).unique
    assert first == UniqueTerm("debounce:", "queued", 5.0, "return", debounce=True)


def test_tasks_that_share_a_limit_state_the_same_numbers() -> None:
    shared = SharedLimits()
    shared.add("call", [Rate("50/s", burst=10, name="crm"), Concurrency(3, name="printer")])
    shared.add("other", [Rate("3000/m", burst=10, name="crm", cost=2, key=len)])
    shared.add("other", [Concurrency(3, name="printer", on_full="drop")])
    for limit in (
        Rate("40/s", burst=10, name="crm"),
        Rate("50/s", name="crm"),
        Concurrency(50, name="crm"),
        Concurrency(4, name="printer"),
    ):
        with pytest.raises(InvalidOption, match=r"for task 'call' and .* for task 'third'"):
            shared.add("third", [limit])
    # A module that is loaded again may state its own anew.
    shared.add("own", [Rate("1/s", name="own:rate")])
    shared.add("own", [Rate("2/s", name="own:rate")])
