"""Graceful stops, leases that run out, and tasks that were leased too early."""

import asyncio
import time
from math import inf
from typing import Any

import pytest

from conveyor import Conveyor
from conveyor.core.task import State
from conveyor.tasks import Handle, TaskDefinition
from tests.running import at_work, ended, reached
from tests.worker.harness import soon

Block = TaskDefinition[[], str, Any]


class Gate:
    """A task that says when it runs and runs until it is let go."""

    def __init__(self, app: Conveyor, **options: Any) -> None:
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.runs: list[int] = []
        self.task: Block = app.task(name="block", **options)(self._block)
        self.quick: TaskDefinition[[int], int, Any] = app.task(name="quick")(self._quick)

    async def _block(self) -> str:
        self.started.set()
        await self.release.wait()
        return "done"

    async def _quick(self, n: int) -> int:
        self.runs.append(n)
        return n

    async def lease_ahead(self, app: Conveyor, behind: int) -> list[Handle[Any]]:
        """Let the engine (of one slot) learn that tasks are quick, then enqueue the blocking one
        with quick ones behind it; return all their handles when the first one runs."""
        await (await self.quick.enqueue(-1)).result(10)
        calls: list[Any] = [self.task.bind(), *(self.quick.bind(n) for n in range(behind))]
        handles = await app.enqueue_many(calls)
        await asyncio.wait_for(self.started.wait(), 10)
        return list(handles)


async def test_a_stop_lets_what_runs_end_and_gives_back_the_rest(app: Conveyor) -> None:
    gate = Gate(app)
    async with at_work(app, concurrency=1) as worker:
        blocking, *others = await gate.lease_ahead(app, 5)
        assert {(await other.info()).state for other in others} == {State.RUNNING}
        worker.engine.stop()
        for other in others:
            info = await reached(other, State.QUEUED)
            assert (info.attempts, info.executions) == (0, ())
        assert await blocking.status() is State.RUNNING
        gate.release.set()
        await asyncio.wait_for(asyncio.shield(worker.done), 10)
    assert await blocking.result(1) == "done"
    assert gate.runs == [-1]


async def test_what_does_not_end_in_time_is_interrupted_free_of_charge(app: Conveyor) -> None:
    gate = Gate(app)
    async with at_work(app, shutdown_grace=0.2) as worker:
        handle = await gate.task.enqueue()
        await asyncio.wait_for(gate.started.wait(), 10)
        await worker.stop()
    info = await handle.info()
    assert (info.state, info.attempts) == (State.QUEUED, 0)
    assert [e.outcome for e in info.executions] == ["interrupted"]
    gate.release.set()
    async with at_work(app):
        assert await handle.result(10) == "done"
    assert (await handle.info()).execution == 2


async def test_a_stopped_engine_leases_nothing_more(app: Conveyor) -> None:
    gate = Gate(app)
    async with at_work(app, concurrency=4) as worker:
        await gate.task.enqueue()
        await asyncio.wait_for(gate.started.wait(), 10)
        worker.engine.stop()
        late = await gate.quick.enqueue(1)
        gate.release.set()
        await asyncio.wait_for(asyncio.shield(worker.done), 10)
    assert await late.status() is State.QUEUED


async def test_an_idle_engine_stops_at_once_and_stopping_twice_is_fine(app: Conveyor) -> None:
    async with at_work(app) as worker:
        await soon(lambda: worker.engine.steps > 0)
        worker.engine.stop()
        await worker.stop(within=2)


async def test_an_abort_settles_nothing(app: Conveyor) -> None:
    gate = Gate(app)
    async with at_work(app) as worker:
        handle = await gate.task.enqueue()
        await asyncio.wait_for(gate.started.wait(), 10)
        worker.engine.abort()
        await asyncio.wait_for(asyncio.shield(worker.done), 10)
        assert await handle.status() is State.RUNNING


async def test_a_hoarded_task_goes_to_whoever_has_a_free_slot(app: Conveyor) -> None:
    gate = Gate(app)
    async with at_work(app, concurrency=1):
        blocking, *others = await gate.lease_ahead(app, 5)
        async with at_work(app, concurrency=1):
            for other in others:
                await other.result(10)
            gate.release.set()
            assert await blocking.result(10) == "done"
        infos = [await other.info() for other in others]
    assert {(info.attempts, info.execution, len(info.executions)) for info in infos} == {(0, 2, 1)}


@pytest.mark.parametrize("what", ["stop", "continue"])
async def test_when_the_lease_is_not_renewed_the_code_is_stopped_or_goes_on(
    app: Conveyor, what: Any
) -> None:
    gate = Gate(app, on_uncertain=what)
    async with at_work(app) as worker:
        handle = await gate.task.enqueue()
        await asyncio.wait_for(gate.started.wait(), 10)
        worker.board.lease_until = time.monotonic()
        await soon(lambda: worker.engine._fenced)
        late = await gate.quick.enqueue(1)
        if what == "stop":
            await reached(handle, State.QUEUED)
        assert await late.status() is State.QUEUED, "nothing is leased meanwhile"
        worker.board.lease_until = inf
        gate.release.set()
        assert await handle.result(10) == "done"
        assert await late.result(10) == 1
    expected = ["interrupted", "succeeded"] if what == "stop" else ["succeeded"]
    assert [e.outcome for e in (await ended(handle)).executions] == expected


async def test_a_superseded_execution_cannot_write(
    app: Conveyor, caplog: pytest.LogCaptureFixture
) -> None:
    """The lease ends behind the engine's back, as after a long SIGSTOP: the rescued task runs again
    elsewhere, and what the first one says later is refused and counted."""
    from conveyor.keeper.rescuer import rescue

    gates = [Gate(app)]
    async with Conveyor(app.url) as other:
        second = Gate(other)
        second.release.set()
        async with at_work(app) as slow:
            handle = await gates[0].task.enqueue()
            await asyncio.wait_for(gates[0].started.wait(), 10)
            await slow.broker.renew([slow.engine.token], 0)
            slow.engine._draining = True
            await rescue(slow.broker, app.clock, lambda: 0.5, "keeper")
            async with at_work(other):
                assert await handle.result(10) == "done"
                gates[0].release.set()
                await soon(lambda: slow.engine.completer.stale == 1)
    info = await handle.info()
    assert [(e.number, e.outcome) for e in info.executions] == [(1, "lost"), (2, "succeeded")]
    assert "settlement(s) refused, their leases had passed on" in caplog.text
