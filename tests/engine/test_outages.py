"""Replies that are lost and brokers that are away, from the engine's side of the connection."""

from collections.abc import Sequence
from typing import Any

from conveyor import Conveyor
from conveyor.brokers.base import Broker, Holding, Note, Step, StepReply
from conveyor.core.errors import BrokerUnavailable
from conveyor.core.task import State
from tests.running import at_work, ended
from tests.worker.harness import soon


class Unreliable:
    """A broker whose connection fails when told: before a call is sent, or after it was done."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.lose_replies = 0
        self.lose_steps = 0
        self.lose_held = 0
        self.lose_others = 0
        self.lost: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    async def step(self, step: Step) -> StepReply:
        if self.lose_steps:
            self.lose_steps -= 1
            raise BrokerUnavailable("nothing was sent")
        reply = await self._broker.step(step)
        if self.lose_replies and (reply.leases or step.settlements):
            self.lose_replies -= 1
            self.lost.append(f"{len(reply.leases)} leases, {len(step.settlements)} settlements")
            raise BrokerUnavailable("the reply was lost")
        return reply

    async def held(self, worker: str | None = None, limit: int = 1_000) -> list[Holding]:
        if self.lose_held:
            self.lose_held -= 1
            raise BrokerUnavailable("still away")
        return await self._broker.held(worker, limit)

    async def annotate(self, notes: Sequence[Note]) -> list[bool]:
        if self.lose_others:
            self.lose_others -= 1
            raise BrokerUnavailable("away for notes")
        return await self._broker.annotate(notes)

    async def adopt(
        self, worker: str, names: Sequence[str], queues: Sequence[str], want: int
    ) -> Any:
        if self.lose_others:
            self.lose_others -= 1
            raise BrokerUnavailable("away for adoption")
        return await self._broker.adopt(worker, names, queues, want)


async def unreliable(app: Conveyor) -> tuple[Unreliable, Any]:
    broker = Unreliable((await app.client()).broker)
    shown: Any = broker
    return broker, shown


async def test_leases_whose_reply_was_lost_are_taken_up(app: Conveyor) -> None:
    runs = []

    @app.task
    async def run(n: int) -> int:
        runs.append(n)
        return n

    faults, broker = await unreliable(app)
    handles = await app.enqueue_many(run.bind(n) for n in range(20))
    faults.lose_replies = 1
    async with at_work(app, broker=broker, concurrency=30):
        assert [await handle.result(10) for handle in handles] == list(range(20))
    assert faults.lost == ["20 leases, 0 settlements"]
    assert sorted(runs) == list(range(20))
    assert {(await handle.info()).execution for handle in handles} == {1}


async def test_settlements_whose_reply_was_lost_are_stored_once(app: Conveyor) -> None:
    runs = []

    @app.task
    async def run(n: int) -> int:
        runs.append(n)
        return n

    faults, broker = await unreliable(app)
    async with at_work(app, broker=broker, concurrency=30) as worker:
        await (await run.enqueue(-1)).result(10)
        faults.lose_replies = 5
        handles = await app.enqueue_many(run.bind(n) for n in range(20))
        assert [await handle.result(20) for handle in handles] == list(range(20))
        await soon(lambda: not worker.engine.completer.pending)
        assert worker.engine.completer.stale == 0
    assert sorted(runs) == list(range(-1, 20))


async def test_a_broker_that_was_away_loses_nothing(app: Conveyor) -> None:
    @app.task
    async def run(n: int) -> int:
        if n % 3 == 0:
            raise ValueError("some fail")
        return n

    faults, broker = await unreliable(app)
    async with at_work(app, broker=broker):
        faults.lose_steps, faults.lose_held, faults.lose_others = 2, 2, 1
        handles = await app.enqueue_many(
            run.with_options(max_attempts=1).bind(n) for n in range(30)
        )
        states = [(await ended(handle, 20)).state for handle in handles]
    assert states == [State.FAILED if n % 3 == 0 else State.SUCCEEDED for n in range(30)]
    assert await broker.inspector.check() == []


async def test_notes_that_could_not_be_stored_are_stored_later(app: Conveyor) -> None:
    import asyncio

    from conveyor import current_task

    release = asyncio.Event()

    @app.task
    async def work() -> None:
        current_task().progress(1, 2, "half")
        await release.wait()

    faults, broker = await unreliable(app)
    async with at_work(app, broker=broker):
        faults.lose_others = 3
        handle = await work.enqueue()

        async def noted() -> bool:
            return (await handle.info()).progress is not None

        await soon(noted)
        release.set()
        await handle.result(10)


async def test_an_engine_stops_also_while_the_broker_is_away(app: Conveyor) -> None:
    faults, broker = await unreliable(app)
    async with at_work(app, broker=broker) as worker:
        await soon(lambda: worker.engine.steps > 0)
        faults.lose_steps = faults.lose_held = 10_000
        await soon(lambda: faults.lose_held < 10_000)
        worker.engine.abort()
        faults.lose_steps = faults.lose_held = 0
        await worker.stop()
