"""What every conformance test holds: brokers on one store, a clock, and short words for both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest

from conveyor.brokers.base import LEASE_SECONDS, Broker, Pushed, Settlement, Step, StepReply
from conveyor.core import codec
from conveyor.core.clock import Clock
from conveyor.core.lifecycle import decide
from conveyor.core.outcome import Failed, Outcome, Released, Succeeded, Unroutable
from conveyor.core.task import ErrorInfo, Execution, Final, Lease, NewTask, State, Task, TaskInfo
from conveyor.system import new_id
from conveyor.testing.clock import ManualClock

ConnectBroker = Callable[[Clock | None], Broker]
"""Makes a broker, not opened yet, on the store of this test."""

BOOM = ErrorInfo("builtins.ValueError", "boom", "Traceback: boom")


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a store can do beyond the contract of a single process."""

    shared: bool = True
    """Several brokers at a time see the same store, and it outlives them all."""
    bells: bool = True
    """`listen` rings by itself; without, workers rely on their poll once a second."""
    limits_span_queues: bool = True
    """A limit counts the tasks of all queues, and tokens taken inside tasks with them; without (a
    Redis Cluster), those of each queue by themselves.
    """


class Rig:
    """A store under test. Its brokers share `clock`; `broker` is the one most tests need."""

    def __init__(self, connect: ConnectBroker, capabilities: Capabilities) -> None:
        self.clock = ManualClock()
        self.capabilities = capabilities
        self.broker: Broker
        self._connect = connect
        self._open = AsyncExitStack()

    async def start(self) -> None:
        """Open the first broker."""
        self.broker = await self.another()

    async def stop(self) -> None:
        """Close every broker."""
        await self._open.aclose()

    async def another(self, *, given_clock: bool = True) -> Broker:
        """Open one more broker on the same store, as another process would; skip the test when
        the store cannot be shared.
        """
        if hasattr(self, "broker") and not self.capabilities.shared:
            pytest.skip("this store belongs to one broker")
        broker = self.unopened(given_clock=given_clock)
        self._open.push_async_callback(broker.close)
        await broker.open()
        return broker

    def unopened(self, *, given_clock: bool = True) -> Broker:
        """Make a broker on the same store and leave it as it is."""
        return self._connect(self.clock if given_clock else None)

    def task(self, name: str = "work", *, args: Sequence[Any] = (), **fields: Any) -> Task:
        """Make a task for queue `q` at normal priority unless told otherwise."""
        payload = codec.encode([list(args), {}], what="arguments")
        fields = {
            "id": new_id(),
            "queue": "q",
            "priority": 5,
            "payload": payload,
            "enqueued_at": self.clock.time(),
            **fields,
        }
        if fields.get("key") is not None:
            fields.setdefault("digest", f"digest of {args!r}")
        return Task(name=name, **fields)

    async def push(
        self, *tasks: Task, delay: float | None = None, due_at: float | None = None
    ) -> list[Pushed]:
        """Push tasks, all with the same due time."""
        return await self.broker.push([NewTask(task, delay, due_at) for task in tasks])

    async def pushed(
        self, name: str = "work", *, delay: float | None = None, **fields: Any
    ) -> Task:
        """Make and push one task."""
        task = self.task(name, **fields)
        answers = await self.push(task, delay=delay)
        assert answers == [Pushed(task.id)]
        return task

    async def worker(self, token: str = "w", seconds: float = LEASE_SECONDS) -> str:
        """Make the lease of a worker good for `seconds` from now."""
        assert (await self.broker.renew([token], seconds))[token].alive
        return token

    async def step(
        self,
        *settlements: Settlement,
        want: int = 10,
        queues: Sequence[str] = ("q",),
        worker: str = "w",
    ) -> StepReply:
        """One step of a worker, whose lease must be live already for it to get any task."""
        return await self.broker.step(Step(worker, queues, want, settlements))

    async def lease(self, *, queues: Sequence[str] = ("q",), worker: str = "w") -> Lease:
        """Renew the worker and lease exactly one task."""
        await self.worker(worker)
        (lease,) = (await self.step(want=1, queues=queues, worker=worker)).leases
        return lease

    def settlement(self, lease: Lease, outcome: Outcome, *, dice: float = 0.5) -> Settlement:
        """What a worker sends when `outcome` ended the execution of `lease`."""
        transition = decide(lease, outcome, dice=dice)
        if isinstance(outcome, Released | Unroutable):
            return Settlement(lease, transition)
        record = Execution(
            number=lease.execution,
            attempt=lease.attempt,
            outcome=outcome.name,
            worker=lease.worker,
            started_at=lease.leased_at,
            duration=self.clock.time() - lease.leased_at,
            error=transition.error,
            retry_in=transition.delay if transition.to is State.SCHEDULED else None,
        )
        return Settlement(lease, transition, record)

    async def settle(self, lease: Lease, outcome: Outcome, *, dice: float = 0.5) -> bool:
        """Settle one execution and lease nothing. Says whether it was accepted."""
        settlement = self.settlement(lease, outcome, dice=dice)
        reply = await self.step(settlement, want=0, worker=lease.worker)
        assert not reply.leases
        assert set(reply.refused) <= {lease.task.id}
        return not reply.refused

    async def info(self, task: Task) -> TaskInfo:
        """Everything the store knows of the task."""
        return await self.broker.inspector.get(task.id)

    async def state(self, task: Task) -> State:
        """The state of the task."""
        return (await self.info(task)).state

    async def final(self, task: Task) -> Final | None:
        """What the task ended in, None while it is alive."""
        return (await self.broker.finals([task.id])).get(task.id)

    async def counts(self) -> dict[State, int]:
        """Tasks by state, those states left out that have none."""
        counts = await self.broker.inspector.counts()
        return {state: number for state, number in counts.items() if number}

    async def waiting_ids(self, *, want: int = 10, queues: Sequence[str] = ("q",)) -> list[str]:
        """Lease up to `want` and return the ids in the order of the claim."""
        await self.worker()
        return [lease.task.id for lease in (await self.step(want=want, queues=queues)).leases]

    async def is_healthy(self) -> bool:
        """Whether the store's own check finds no violation; says which when it does."""
        violations = await self.broker.inspector.check()
        assert violations == []
        return True


def ok(value: Any = None) -> Succeeded:
    """Return a success with a result."""
    return Succeeded(codec.encode(value, what="result"))


def failure(*, final: bool = False, delay: float | None = None) -> Failed:
    """Return a failure by an exception."""
    return Failed(BOOM, final=final, delay=delay)


def ids(tasks: Sequence[Task]) -> list[str]:
    """Return the ids of tasks, in order."""
    return [task.id for task in tasks]


@pytest.fixture
async def rig(connect_broker: ConnectBroker, capabilities: Capabilities) -> AsyncIterator[Rig]:
    """An empty store with one open broker and a clock that stands still."""
    made = Rig(connect_broker, capabilities)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
