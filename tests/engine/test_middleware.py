"""Middleware: an onion around every enqueue and every execution."""

import threading
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import msgspec
import pytest

from conveyor import Conveyor, CurrentTask, Middleware, TaskFailed, current_task
from conveyor.core.task import NewTask
from conveyor.middleware.base import PushNext, RunNext
from tests.running import AT_ONCE, at_work, ended

inside: ContextVar[str] = ContextVar("inside", default="")


class Noting(Middleware):
    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    async def enqueue(self, task: NewTask, call_next: PushNext) -> Any:
        self.notes.append(f"{self.name}: enqueue")
        headers = {**task.task.headers, self.name: str(len(task.task.headers))}
        changed = msgspec.structs.replace(task.task, headers=headers)
        pushed = await call_next(msgspec.structs.replace(task, task=changed))
        self.notes.append(f"{self.name}: enqueued")
        return pushed

    async def execute(self, task: CurrentTask, call_next: RunNext) -> Any:
        self.notes.append(f"{self.name}: execute")
        token = inside.set(f"{inside.get()}{self.name}")
        try:
            value = await call_next()
        except Exception as exc:
            self.notes.append(f"{self.name}: saw {type(exc).__name__}")
            raise
        finally:
            inside.reset(token)
        self.notes.append(f"{self.name}: executed")
        return value


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
async def layered(broker_url: str, notes: list[str]) -> AsyncIterator[Conveyor]:
    layers = [Noting("a", notes), Middleware(), Noting("b", notes)]
    async with Conveyor(broker_url, middleware=layers, retry=AT_ONCE) as app:
        yield app


ORDER = ["a: execute", "b: execute", "run", "b: executed", "a: executed"]


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_the_first_is_outermost_on_both_sides(
    layered: Conveyor, notes: list[str], kind: str
) -> None:
    def run(n: int) -> list[Any]:
        notes.append("run")
        return [n, current_task().headers, threading.current_thread().name]

    async def run_async(n: int) -> list[Any]:
        return run(n)

    task = layered.task(run_async if kind == "loop" else run)
    handle = await task.enqueue(7)
    assert notes == ["a: enqueue", "b: enqueue", "b: enqueued", "a: enqueued"]
    notes.clear()
    async with at_work(layered):
        value: Any = await handle.result(10)
    n, headers, thread = value
    assert (n, headers) == (7, {"a": "0", "b": "1"})
    assert notes == ORDER
    assert (thread == "conveyor-task") is (kind == "thread")


async def test_context_variables_reach_the_function(layered: Conveyor) -> None:
    @layered.task
    async def on_loop() -> str:
        return inside.get()

    @layered.task
    def in_thread() -> str:
        return inside.get() + str(current_task().attempt)

    async with at_work(layered):
        assert await (await on_loop.enqueue()).result(10) == "ab"
        assert await (await in_thread.enqueue()).result(10) == "ab1"


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_it_sees_what_the_task_raises(layered: Conveyor, notes: list[str], kind: str) -> None:
    def fail() -> None:
        raise LookupError("lost")

    async def fail_async() -> None:
        fail()

    task = layered.task(fail_async if kind == "loop" else fail)
    async with at_work(layered):
        handle = await task.with_options(max_attempts=1).enqueue()
        with pytest.raises(TaskFailed, match="LookupError: lost"):
            await handle.result(10)
    assert notes[-2:] == ["b: saw LookupError", "a: saw LookupError"]


class Refusing(Middleware):
    async def enqueue(self, task: NewTask, call_next: PushNext) -> Any:
        raise PermissionError("nobody may enqueue")


async def test_what_the_client_side_raises_reaches_the_caller(broker_url: str) -> None:
    async with Conveyor(broker_url, middleware=[Refusing()]) as app:

        @app.task
        async def run() -> None: ...

        with pytest.raises(PermissionError, match="nobody may enqueue"):
            await run.enqueue()
        with pytest.raises(PermissionError, match="nobody may enqueue"):
            await app.enqueue_many([run.bind()])
        counts = await (await app.inspector()).counts()
        assert not any(counts.values())


class Replacing(Middleware):
    async def execute(self, task: CurrentTask, call_next: RunNext) -> Any:
        if task.attempt == 1:
            raise ConnectionError("the first attempt never gets through")
        return (await call_next()) * 2


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_it_may_change_the_outcome(broker_url: str, kind: str) -> None:
    async with Conveyor(broker_url, middleware=[Replacing()], retry=AT_ONCE) as app:
        runs = []

        def run(n: int) -> int:
            runs.append(n)
            return n

        async def run_async(n: int) -> int:
            return run(n)

        task = app.task(run_async if kind == "loop" else run)
        async with at_work(app):
            handle = await task.enqueue(21)
            assert await handle.result(10) == 42
        info = await ended(handle)
    assert runs == [21]
    assert [e.outcome for e in info.executions] == ["failed", "succeeded"]
    assert info.executions[0].error is not None
    assert info.executions[0].error.type == "ConnectionError"


async def test_enqueue_many_goes_through_it_in_order(layered: Conveyor, notes: list[str]) -> None:
    @layered.task
    async def run(n: int) -> int:
        return n

    async with at_work(layered):
        handles = await layered.enqueue_many(run.bind(n) for n in range(50))
        assert [await handle.result(10) for handle in handles] == list(range(50))
    assert notes.count("a: enqueue") == 50
