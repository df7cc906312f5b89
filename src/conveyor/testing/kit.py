"""Run an app's tasks inside a test: real broker, real engine, a clock the test moves.

Nothing is mocked and nothing is "eager": arguments are encoded and decoded, retries are scheduled,
dead letters are kept. The store is the SQLite broker in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from conveyor.brokers.base import Filter
from conveyor.brokers.url import connect
from conveyor.core.codec import decode, encode
from conveyor.core.task import State, TaskInfo
from conveyor.keeper.ticker import Ticker
from conveyor.schedules.publisher import Publisher
from conveyor.system import new_id
from conveyor.testing.clock import ManualClock
from conveyor.worker.board import LocalBoard
from conveyor.worker.engine import Engine
from conveyor.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.brokers.base import Broker
    from conveyor.tasks import TaskDefinition

_LONG = 365 * 86_400.0
_PAGE = 1_000


class Harness:
    """An app on a fresh in-memory broker, for one test."""

    def __init__(self, app: Conveyor, broker: Broker, clock: ManualClock) -> None:
        self.app = app
        self.broker = broker
        self.clock = clock
        self._ticker = Ticker(broker, clock, new_id())

    async def fire(self) -> int:
        """Fire every schedule that is due by the clock, those declared in code included; returns
        how many tasks that enqueued. Nothing runs yet: `drain` does that.

        A schedule begins with the first `fire` (or `run_for`) that sees it.
        """
        await Publisher(
            self.app, self.broker, scope="harness", born=self.clock.time(), dice=lambda: 0.5
        ).once()
        before = self._ticker.fired
        self._ticker.look_again()
        while await self._ticker.tick() == 0.0:
            pass
        return self._ticker.fired - before

    async def run_for(self, seconds: float, *, concurrency: int = 1) -> dict[State, int]:
        """Let `seconds` pass: schedules fire at their times, delayed tasks and retries run at
        theirs, and each sees the clock as it is then. Returns as `drain` does.
        """
        end = self.clock.time() + seconds
        await self.fire()
        await self._run(concurrency)
        while True:
            due = [info.due_at for info in await self.tasks(State.SCHEDULED) if info.due_at]
            fires = [
                info.next_at for info in await self.app.schedules.list() if info.next_at is not None
            ]
            at = min((*due, *fires), default=end)
            if at >= end:
                break
            self.clock.advance(max(0.001, at - self.clock.time()))
            await self.fire()
            await self._run(concurrency)
        self.clock.advance(max(0.0, end - self.clock.time()))
        await self.fire()
        return await self.drain(concurrency=concurrency)

    async def drain(self, *, scheduled: bool = False, concurrency: int = 1) -> dict[State, int]:
        """Run every task that is due, and those they enqueue, until none is left.

        With `scheduled=True` the clock moves on to each next due time, so that delayed tasks and
        retries run too. One at a time unless `concurrency` says otherwise. Returns how many tasks
        are in each state afterwards.
        """
        await self._run(concurrency)
        while scheduled and await self._advance():
            await self._run(concurrency)
        return await self.broker.inspector.counts()

    async def tasks(self, *states: State) -> list[TaskInfo]:
        """Return the tasks in these states (all, if none are named), oldest first."""
        found: list[TaskInfo] = []
        before: str | None = None
        while page := await self.broker.inspector.tasks(
            Filter(states=states, before=before, limit=_PAGE)
        ):
            found += page
            before = page[-1].id
        return found[::-1]

    async def assert_enqueued(
        self,
        definition: TaskDefinition[..., Any, Any],
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
        count: int | None = None,
    ) -> list[TaskInfo]:
        """Assert that tasks of this definition wait to run, and return them.

        Only what is given is compared; `count` asks for exactly so many, else at least one. The
        failure lists what was enqueued instead.
        """
        waiting = await self.tasks(State.QUEUED, State.SCHEDULED)
        found = [
            info
            for info in waiting
            if info.name == definition.name
            and (args is None or list(info.args) == _stored(list(args)))
            and (kwargs is None or info.kwargs == _stored(dict(kwargs)))
            and (queue is None or info.queue == queue)
            and (priority is None or info.priority == priority)
        ]
        if (count is None and not found) or (count is not None and len(found) != count):
            seen = "\n".join(f"  {info.name}{info.args}{info.kwargs or ''}" for info in waiting)
            wanted = "at least one" if count is None else str(count)
            raise AssertionError(
                f"expected {wanted} waiting task(s) of {definition.name} like that, found "
                f"{len(found)}; waiting are:\n{seen or '  none'}"
            )
        return found

    async def _run(self, concurrency: int) -> None:
        token = new_id()
        await self.broker.renew([token], _LONG)
        settings = WorkerSettings(target="", burst=True, concurrency=concurrency)
        engine = Engine(
            self.app,
            self.broker,
            settings=settings,
            token=token,
            board=LocalBoard(),
            clock=self.clock,
        )
        await engine.run()
        await self.broker.renew([token], 0)

    async def _advance(self) -> bool:
        due = [info.due_at for info in await self.tasks(State.SCHEDULED) if info.due_at]
        if not due:
            return False
        self.clock.advance(max(0.001, min(due) - self.clock.time() + 0.001))
        return True


def _stored(value: Any) -> Any:
    """Return the value as it comes back from the store, untyped."""
    return decode(encode(value, what="expected arguments"))


@asynccontextmanager
async def harness(app: Conveyor, *, clock: ManualClock | None = None) -> AsyncIterator[Harness]:
    """Put `app` on a fresh in-memory broker with a manual clock, until the block ends."""
    hands = clock or ManualClock()
    broker = connect("sqlite://", clock=hands)
    await broker.open()
    before = app.clock
    app.clock = hands
    app.attach(broker)
    _active[app] = kit = Harness(app, broker, hands)
    try:
        yield kit
    finally:
        del _active[app]
        app.clock = before
        await app.close()


_active: dict[Conveyor, Harness] = {}


async def drain(
    app: Conveyor, *, scheduled: bool = False, concurrency: int = 1
) -> dict[State, int]:
    """Do what `Harness.drain` does, for the app's active harness."""
    return await _kit(app).drain(scheduled=scheduled, concurrency=concurrency)


async def assert_enqueued(
    definition: TaskDefinition[..., Any, Any],
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    **where: Any,
) -> list[TaskInfo]:
    """Do what `Harness.assert_enqueued` does, for the active harness of the definition's app."""
    app = cast("Conveyor", definition.dispatcher)
    return await _kit(app).assert_enqueued(definition, args, kwargs, **where)


def _kit(app: Conveyor) -> Harness:
    try:
        return _active[app]
    except KeyError:
        raise RuntimeError(
            "this app is not under test: use `async with conveyor.testing.harness(app)`"
        ) from None
