"""Options say what is wrong with them, at the place where they are given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conveyor import Conveyor, Middleware, Reject, Retry, Snooze
from conveyor.core.errors import InvalidOption, UnknownTask

app = Conveyor("sqlite://")


@app.task(name="options.noop", queue="media", priority="high", timeout=timedelta(minutes=1))
async def noop() -> None:
    """Do nothing."""


def test_a_definition_resolves_its_options() -> None:
    options = noop.options
    assert (options.queue, options.priority, options.timeout) == ("media", 7, 60.0)


def test_with_options_changes_the_next_enqueue_only() -> None:
    call = noop.with_options(delay=timedelta(minutes=2), priority=9, key="k", queue="slow").bind()
    assert (call.options.delay, call.options.priority, call.options.key) == (120.0, 9, "k")
    assert call.options.queue == "slow"
    assert noop.options.delay is None


def test_at_takes_an_aware_datetime() -> None:
    at = datetime(2027, 1, 1, tzinfo=UTC)
    assert noop.with_options(at=at).bind().options.due_at == at.timestamp()


def test_the_later_of_delay_and_at_wins() -> None:
    at = datetime(2027, 1, 1, tzinfo=UTC)
    call = noop.with_options(at=at).with_options(delay=1).bind()
    assert (call.options.delay, call.options.due_at) == (1.0, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"priority": 10}, "priority=10"),
        ({"priority": "urgent"}, "low, normal, high, critical"),
        ({"priority": True}, "priority=True"),
        ({"priority": 7.5}, "priority=7.5"),
        ({"priority": []}, "priority=[]"),
        ({"queue": 5}, "queue=5"),
        ({"queue": b"q"}, "queue=b'q'"),
        ({"queue": "a b"}, "queue='a b'"),
        ({"queue": "{x}"}, "queue"),
        ({"delay": -1}, "delay=-1"),
        ({"delay": "soon"}, "seconds or a timedelta"),
        ({"delay": float("nan")}, "delay"),
        ({"delay": 10**400}, "…: at least 0 and at most one year"),
        ({"at": "2027-01-01"}, "at='2027-01-01': a datetime"),
        ({"at": datetime(2027, 1, 1)}, "time zone"),  # noqa: DTZ001 - a naive one is the point
        ({"delay": 1, "at": datetime(2027, 1, 1, tzinfo=UTC)}, "one of them"),
        ({"timeout": 0}, "timeout=0"),
        ({"max_attempts": 0}, "max_attempts=0"),
        ({"max_attempts": 2.5}, "max_attempts=2.5"),
        ({"max_attempts": True}, "max_attempts=True"),
        ({"max_attempts": "3"}, "max_attempts='3'"),
        ({"key": ""}, "key"),
        ({"key": "k" * 300}, "300 characters"),
        ({"key": 5}, "key=5"),
        ({"key": "a\0b"}, "NUL"),
        ({"key": "\ud800"}, "half a character"),
        ({"headers": "trace"}, "headers='trace'"),
        ({"headers": {"a": 1}}, "headers: 'a'=1"),
        ({"headers": {1: "a"}}, "headers: a name=1"),
        ({"headers": {"a": "\ud800"}}, "half a character"),
        ({"headers": {"a": "x" * 9_000}}, "at most 8,192"),
        ({"result_ttl": -5}, "result_ttl"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        noop.with_options(**options)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"executor": "gpu"}, "executor='gpu'"),
        ({"on_uncertain": "panic"}, "on_uncertain='panic'"),
        ({"queue": ""}, "queue=''"),
        ({"executor": ["process"]}, "executor=['process']"),
        ({"on_uncertain": []}, "on_uncertain=[]"),
        ({"retry": 5}, "retry=5: a Retry"),
        ({"name": ""}, "name=''"),
        ({"name": 5}, "name=5"),
        ({"name": "a\nb"}, "name='a\\nb'"),
        ({"name": "\ud800"}, "printable"),
        ({"name": "n" * 300}, "1 to 256"),
    ],
)
def test_bad_definitions_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        Conveyor("sqlite://").task(**options)
    assert said in str(caught.value)


def _numbers() -> Any:
    yield 1


async def _more_numbers() -> Any:
    yield 1


@pytest.mark.parametrize("thing", [5, "name", int, _numbers, _more_numbers])
def test_only_a_function_with_one_end_becomes_a_task(thing: Any) -> None:
    with pytest.raises(InvalidOption, match="a task"):
        Conveyor("sqlite://").task(thing)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"middleware": 5}, "middleware has 5"),
        ({"middleware": [Middleware]}, "middleware has <class"),
        ({"lifespan": 5}, "lifespan=5"),
        ({"retry": 5}, "retry=5"),
        ({"result_ttl": float("nan")}, "result_ttl=nan"),
    ],
)
def test_bad_apps_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        Conveyor("sqlite://", **options)
    assert said in str(caught.value)


async def test_what_is_no_call_no_id_and_no_time_is_named() -> None:
    async with Conveyor("sqlite://") as app:
        with pytest.raises(InvalidOption, match=r"task\.bind"):
            await app.enqueue_many([noop])  # type: ignore[arg-type]
        with pytest.raises(InvalidOption, match="task_id=5"):
            app.handle(5)  # type: ignore[arg-type]
        handle = app.handle("nothing")
        for timeout in (float("nan"), "soon", True):
            with pytest.raises(InvalidOption, match=f"timeout={timeout!r}"):
                await handle.result(timeout)  # type: ignore[arg-type]
        with pytest.raises(InvalidOption, match="half a character"):
            await handle.cancel("\ud800")


def test_a_handle_needs_an_open_app() -> None:
    with pytest.raises(InvalidOption, match="open app"):
        app.handle("nothing")


def test_two_tasks_of_one_name_are_refused() -> None:
    def other() -> int:
        return 1

    with pytest.raises(InvalidOption, match=r"two tasks are named 'options\.noop'"):
        app.task(name="options.noop")(other)


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(UnknownTask, match=r"did you mean options\.noop"):
        app.definition("options.nop")


def test_a_definition_still_is_its_function() -> None:
    @app.task(name="options.add")
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    assert add(1, 2) == 3
    assert add.__doc__ == "Add."


def test_snooze_and_retry_check_their_numbers() -> None:
    with pytest.raises(InvalidOption):
        Snooze(-1)
    with pytest.raises(InvalidOption):
        Retry(base=-1)
    with pytest.raises(InvalidOption):
        Retry(max_age=0)


def test_a_reason_is_a_text() -> None:
    assert Reject(404).reason == "404"  # type: ignore[arg-type]
