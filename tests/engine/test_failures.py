"""Tasks that fail: retries, snoozes, rejections, and everything a task can raise."""

import asyncio
import sys
from typing import Any, NoReturn

import pytest

from conveyor import (
    Backoff,
    Conveyor,
    Fail,
    Middleware,
    Reject,
    Retry,
    Snooze,
    TaskFailed,
    current_task,
)
from conveyor.core.task import State
from tests.running import AT_ONCE, at_work, ended, reached


async def test_attempts_are_used_up_and_the_history_is_whole(app: Conveyor) -> None:
    @app.task
    async def fail() -> NoReturn:
        raise LookupError(f"attempt {current_task().attempt}")

    async with at_work(app):
        handle = await fail.enqueue()
        with pytest.raises(TaskFailed, match="LookupError: attempt 3") as failure:
            await handle.result(10)
    info = await handle.info()
    assert info.reason == "all 3 attempt(s) used up"
    assert [e.number for e in info.executions] == [1, 2, 3]
    assert [e.attempt for e in info.executions] == [1, 2, 3]
    assert [e.outcome for e in info.executions] == ["failed"] * 3
    assert [e.error and e.error.message for e in info.executions] == [
        "attempt 1",
        "attempt 2",
        "attempt 3",
    ]
    trace = failure.value.remote_traceback
    assert trace.startswith("Traceback (most recent call last)")
    assert "in fail" in trace
    assert "conveyor/worker" not in trace


async def test_it_succeeds_on_a_later_attempt(app: Conveyor) -> None:
    @app.task
    def settle_down() -> int:
        if current_task().attempt < 3:
            raise OSError("not yet")
        return current_task().fencing_token

    async with at_work(app):
        handle = await settle_down.enqueue()
        assert await handle.result(10) == 3
    info = await handle.info()
    assert (info.state, info.attempts, len(info.executions)) == (State.SUCCEEDED, 2, 3)


class Throttled(Exception):
    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


MAPPING = Retry(
    max_attempts=5,
    base=1_000.0,
    cap=1_000.0,
    on={
        KeyError: Fail(),
        LookupError: 77.0,
        OSError: Backoff(200.0, 200.0),
        FileNotFoundError: lambda exc, spent: 10.0 * spent,
        ValueError: lambda exc, spent: None,
    },
)


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (IndexError("as LookupError"), 77.0),
        (ConnectionError("as OSError"), 100.0),
        (FileNotFoundError("by callable"), 10.0),
        (ValueError("callable says nothing"), 500.0),
        (TypeError("not in the mapping"), 500.0),
        (Throttled(33.0), 33.0),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_each_exception_waits_as_the_policy_says(
    app: Conveyor, error: Exception, wait: float
) -> None:
    @app.task(retry=MAPPING)
    async def fail() -> NoReturn:
        raise error

    async with at_work(app, dice=0.5):
        handle = await fail.enqueue()
        info = await reached(handle, State.SCHEDULED)
    assert info.executions[0].retry_in == pytest.approx(wait)
    assert info.due_at is not None
    assert info.due_at - app.clock.time() == pytest.approx(wait, abs=5)
    assert "retrying" in info.flags


async def test_an_exception_mapped_to_fail_is_final(app: Conveyor) -> None:
    @app.task(retry=MAPPING)
    async def fail() -> NoReturn:
        raise KeyError("gone")

    async with at_work(app):
        info = await ended(await fail.enqueue())
    assert (info.state, info.attempts) == (State.FAILED, 1)
    assert info.reason == "not retryable: KeyError"


async def test_a_policy_that_raises_does_not_hide_the_failure(app: Conveyor) -> None:
    def broken(exc: BaseException, spent: int) -> NoReturn:
        raise ZeroDivisionError("in the policy")

    @app.task(retry=Retry(max_attempts=1, on={OSError: broken}))
    async def fail() -> NoReturn:
        raise OSError("the real one")

    async with at_work(app):
        info = await ended(await fail.enqueue())
    assert info.error is not None
    assert info.error.message == "the real one"
    assert "in the policy" in info.error.traceback


async def test_a_snooze_costs_no_attempt(app: Conveyor) -> None:
    @app.task(retry=Retry(max_attempts=1))
    async def wait_for_it() -> int:
        task = current_task()
        if task.fencing_token < 5:
            raise Snooze(0)
        return task.attempt

    async with at_work(app):
        handle = await wait_for_it.enqueue()
        assert await handle.result(10) == 1
    info = await handle.info()
    assert [e.outcome for e in info.executions] == ["snoozed"] * 4 + ["succeeded"]
    assert info.attempts == 0


async def test_a_snooze_waits_as_long_as_it_asks(app: Conveyor) -> None:
    @app.task
    def later() -> NoReturn:
        raise Snooze(120)

    async with at_work(app):
        info = await reached(await later.enqueue(), State.SCHEDULED)
    assert info.due_at is not None
    assert info.due_at - app.clock.time() == pytest.approx(120, abs=5)


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_a_rejected_task_is_a_dead_letter_at_once(app: Conveyor, kind: str) -> None:
    def refuse() -> NoReturn:
        raise Reject("the address does not exist")

    async def refuse_async() -> NoReturn:
        refuse()

    task = app.task(refuse_async if kind == "loop" else refuse)
    async with at_work(app):
        handle = await task.enqueue()
        with pytest.raises(TaskFailed, match="the address does not exist") as failure:
            await handle.result(10)
        assert "in refuse\n    raise Reject(" in failure.value.remote_traceback
    info = await handle.info()
    assert info.reason == "the address does not exist"
    assert (info.attempts, [e.outcome for e in info.executions]) == (1, ["rejected"])


class OwnBase(BaseException):
    pass


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


def raise_it(what: str) -> Any:
    match what:
        case "SystemExit":
            sys.exit(3)
        case "RecursionError":
            return recurse()
        case "MemoryError":
            raise MemoryError
    errors: dict[str, BaseException] = {
        "KeyboardInterrupt": KeyboardInterrupt(),
        "GeneratorExit": GeneratorExit(),
        "OwnBase": OwnBase("mine"),
        "StopIteration": StopIteration(),
        "StopAsyncIteration": StopAsyncIteration(),
        "CancelledError": asyncio.CancelledError(),
        "Unprintable": Unprintable(),
        "ExceptionGroup": ExceptionGroup("several", [ValueError("a"), OSError("b")]),
    }
    raise errors[what]


EVERYTHING = [
    "SystemExit",
    "KeyboardInterrupt",
    "GeneratorExit",
    "OwnBase",
    "StopIteration",
    "StopAsyncIteration",
    "CancelledError",
    "Unprintable",
    "ExceptionGroup",
    "RecursionError",
    "MemoryError",
]


class Layer(Middleware):
    async def execute(self, task: Any, call_next: Any) -> Any:
        return await call_next()


@pytest.mark.parametrize("layers", [(), (Layer(),)], ids=["plain", "middleware"])
async def test_nothing_a_task_raises_hurts_the_worker(
    broker_url: str, layers: tuple[Middleware, ...]
) -> None:
    async with Conveyor(broker_url, retry=AT_ONCE, middleware=layers) as app:

        @app.task
        def in_thread(what: str) -> Any:
            return raise_it(what)

        @app.task
        async def on_loop(what: str) -> Any:
            return raise_it(what)

        @app.task
        async def fine(n: int) -> int:
            return n

        async with at_work(app, concurrency=2):
            for task in (in_thread, on_loop):
                for what in EVERYTHING:
                    handle = await task.with_options(max_attempts=1).enqueue(what)
                    info = await ended(handle)
                    assert info.state is State.FAILED, what
                    assert info.error is not None, what
                    if what != "StopIteration":  # Python itself makes a RuntimeError of it
                        assert info.error.type.rpartition(".")[2] == what
                    assert await (await fine.enqueue(7)).result(10) == 7
