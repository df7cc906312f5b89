"""The retry policy: jitter within its bounds, the mapping along the MRO, Retry-After."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyor.core.amounts import MAX_DELAY
from conveyor.core.errors import InvalidOption
from conveyor.core.retry import Backoff, Fail, Retry, Verdict, retry_after

NOW = 1_800_000_000.0
dice = st.floats(0, 1, exclude_max=True)
seconds = st.floats(0, MAX_DELAY)


def judge(
    retry: Retry, exc: BaseException, *, spent: int = 1, age: float = 0.0, roll: float = 0.5
) -> Verdict:
    return retry.judge(exc, attempts_spent=spent, age=age, now=NOW, dice=roll)


class Slow(Exception):
    """An exception that says how long to wait."""

    def __init__(self, after: Any) -> None:
        super().__init__("slow down")
        self.retry_after = after


class StatusError(Exception):
    """Shaped like `httpx.HTTPStatusError` and `requests.HTTPError`."""

    def __init__(self, headers: Any) -> None:
        super().__init__("429")
        self.response = SimpleNamespace(headers=headers)


class TestBackoff:
    @given(seconds, seconds, st.integers(1, 1_000_000), dice)
    def test_the_wait_is_within_its_ceiling(
        self, base: float, cap: float, spent: int, roll: float
    ) -> None:
        wait = Backoff(base, cap).delay(spent, roll)
        assert 0 <= wait <= cap
        if spent <= 20:
            assert wait <= base * 2 ** (spent - 1)

    @given(seconds, seconds, st.integers(1, 100))
    def test_the_whole_range_is_used(self, base: float, cap: float, spent: int) -> None:
        backoff = Backoff(base, cap)
        assert backoff.delay(spent, 0.0) == 0
        ceiling = min(cap, base * 2.0 ** min(spent - 1, 62))
        assert backoff.delay(spent, 0.5) == ceiling / 2

    def test_the_ceiling_doubles_up_to_the_cap(self) -> None:
        backoff = Backoff(2, 10)
        assert [2 * backoff.delay(n, 0.5) for n in range(1, 6)] == [2, 4, 8, 10, 10]

    @pytest.mark.parametrize(
        ("base", "cap"), [(-1, 1), (1, -1), (float("nan"), 1), (1, float("inf")), (1, 4e7)]
    )
    def test_waits_that_cannot_be_waited_are_refused(self, base: float, cap: float) -> None:
        with pytest.raises(InvalidOption, match="seconds from 0 to one year"):
            Backoff(base, cap)


class TestPolicy:
    @pytest.mark.parametrize("attempts", [0, -1, 1_000_001])
    def test_a_policy_needs_an_attempt(self, attempts: int) -> None:
        with pytest.raises(InvalidOption, match=f"max_attempts={attempts}: a whole number"):
            Retry(max_attempts=attempts)

    @pytest.mark.parametrize("age", [0, -5.0])
    def test_an_age_limit_is_above_nothing(self, age: float) -> None:
        with pytest.raises(InvalidOption, match="max_age="):
            Retry(max_age=age)

    @pytest.mark.parametrize(
        "options",
        [
            {"max_attempts": 2.5},
            {"max_attempts": True},
            {"max_attempts": "3"},
            {"base": "2"},
            {"cap": True},
            {"max_age": float("nan")},
            {"max_age": "5"},
            {"on": [ValueError]},
            {"on": {"ValueError": Fail()}},
            {"on": {int: 3}},
            {"on": {ValueError: "x"}},
            {"on": {ValueError: None}},
            {"on": {ValueError: Fail}},
            {"on": {ValueError: -1}},
            {"on": {ValueError: float("nan")}},
        ],
    )
    def test_what_would_fail_only_with_a_task_is_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidOption):
            Retry(**options)

    def test_its_backoff_is_checked(self) -> None:
        with pytest.raises(InvalidOption, match="base=-1"):
            Retry(base=-1)

    def test_without_directives_the_tasks_own_backoff_counts(self) -> None:
        assert judge(Retry(), ValueError()) == Verdict(final=False, delay=None)

    def test_too_old_is_final_whatever_is_left(self) -> None:
        retry = Retry(max_age=60, on={ValueError: 1})
        assert not judge(retry, ValueError(), age=59.9).final
        assert judge(retry, ValueError(), age=60).final
        assert judge(retry, Slow(5), age=61).final


class TestMapping:
    def test_the_most_specific_class_counts(self) -> None:
        retry = Retry(on={Exception: 1, OSError: 2, ConnectionError: Fail()})
        assert judge(retry, ValueError()).delay == 1
        assert judge(retry, FileNotFoundError()).delay == 2
        assert judge(retry, ConnectionResetError()).final

    def test_the_order_of_bases_counts_not_that_of_the_mapping(self) -> None:
        class Both(LookupError, ConnectionError):
            pass

        assert judge(Retry(on={LookupError: 1, ConnectionError: 2}), Both()).delay == 1
        assert judge(Retry(on={ConnectionError: 2, LookupError: 1}), Both()).delay == 1

    def test_a_backoff_of_its_own(self) -> None:
        retry = Retry(on={ValueError: Backoff(base=100, cap=150)})
        assert judge(retry, ValueError(), spent=1).delay == 50
        assert judge(retry, ValueError(), spent=2).delay == 75

    @pytest.mark.parametrize(("given_seconds", "waited"), [(0, 0), (7, 7), (1.5, 1.5), (-3, 0)])
    def test_fixed_seconds(self, given_seconds: float, waited: float) -> None:
        assert judge(Retry(on={ValueError: lambda *_: given_seconds}), ValueError()).delay == waited

    def test_fixed_seconds_are_bounded(self) -> None:
        assert judge(Retry(on={ValueError: lambda *_: 1e300}), ValueError()).delay == MAX_DELAY

    def test_a_callable_decides_by_exception_and_attempts(self) -> None:
        def by_code(exc: BaseException, attempts_spent: int) -> float | Fail | None:
            if exc.args == ("fatal",):
                return Fail()
            return None if exc.args == ("default",) else 10.0 * attempts_spent

        retry = Retry(on={OSError: by_code})
        assert judge(retry, OSError("fatal")).final
        assert judge(retry, OSError("default")) == Verdict()
        assert judge(retry, OSError("busy"), spent=3).delay == 30

    def test_base_exceptions_can_be_named(self) -> None:
        assert judge(Retry(on={BaseException: Fail()}), KeyboardInterrupt()).final


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("asked", "wait"),
        [
            (30, 30),
            ("30", 30),
            (" 30 ", 30),
            (2.5, 2.5),
            (-5, 0),
            ("-5", 0),
            (1e12, MAX_DELAY),
            (10**400, None),
            (float("inf"), MAX_DELAY),
            (timedelta(minutes=2), 120),
            (timedelta(minutes=-2), 0),
            (datetime.fromtimestamp(NOW + 90, UTC), 90),
            (datetime.fromtimestamp(NOW + 90, timezone(timedelta(hours=-7))), 90),
            (datetime.fromtimestamp(NOW - 90, UTC), 0),
            (float("nan"), None),
            ("nan", None),
            ("soon", None),
            ("", None),
            ([], None),
            (None, None),
        ],
    )
    def test_an_attribute_is_understood(self, asked: Any, wait: float | None) -> None:
        assert retry_after(Slow(asked), NOW) == wait

    @pytest.mark.parametrize(
        ("header", "wait"),
        [
            ("120", 120),
            (format_datetime(datetime.fromtimestamp(NOW + 60, UTC), usegmt=True), 60),
            (format_datetime(datetime.fromtimestamp(NOW - 60, UTC), usegmt=True), 0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_DELAY),
            ("Fri, 99 Foo 2027", None),
            ("Sun, 06 Nov 20270 08:49:37 GMT", None),
        ],
    )
    def test_a_response_header_is_understood(self, header: str, wait: float | None) -> None:
        assert retry_after(StatusError({"Retry-After": header}), NOW) == wait

    @pytest.mark.parametrize("headers", [{}, None, "Retry-After: 3", {"Retry-After": None}])
    def test_a_response_without_it_asks_for_nothing(self, headers: Mapping[str, Any]) -> None:
        assert retry_after(StatusError(headers), NOW) is None

    def test_an_ordinary_exception_asks_for_nothing(self) -> None:
        assert retry_after(ValueError("x"), NOW) is None

    def test_it_goes_before_a_backoff_but_not_before_what_is_fixed(self) -> None:
        slow = Slow(33)
        assert judge(Retry(), slow).delay == 33
        assert judge(Retry(on={Slow: Backoff(1, 1)}), slow).delay == 33
        assert judge(Retry(on={Slow: 5}), slow).delay == 5
        assert judge(Retry(on={Slow: Fail()}), slow).final

    @given(st.one_of(st.text(), st.floats(), st.integers(), st.binary(), st.datetimes()))
    def test_nonsense_never_raises(self, asked: Any) -> None:
        for exc in (Slow(asked), StatusError({"Retry-After": asked})):
            wait = retry_after(exc, NOW)
            assert wait is None or 0 <= wait <= MAX_DELAY
