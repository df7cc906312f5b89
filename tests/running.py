"""An app at work on a real store in the test's own process: the real engine, a local board."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from conveyor import Conveyor, Retry
from conveyor.brokers.base import Broker
from conveyor.core.task import State, TaskInfo
from conveyor.system import SystemClock, new_id
from conveyor.tasks import Handle
from conveyor.worker.board import LocalBoard
from conveyor.worker.engine import Engine
from conveyor.worker.settings import WorkerSettings
from tests.worker.harness import soon

T = TypeVar("T")
LONG = 3_600.0
AT_ONCE = Retry(max_attempts=3, base=0.0, cap=0.0)
"""Three attempts without a wait between them."""


class AtWork:
    """A running engine, its board and its broker."""

    def __init__(self, engine: Engine, board: LocalBoard, broker: Broker) -> None:
        self.engine = engine
        self.board = board
        self.broker = broker
        self.done: asyncio.Task[None]

    async def stop(self, within: float = 10.0) -> None:
        """Drain it and wait until it has left."""
        self.engine.stop()
        await asyncio.wait_for(asyncio.shield(self.done), within)


@asynccontextmanager
async def at_work(
    app: Conveyor, *, broker: Broker | None = None, dice: float = 0.5, **settings: Any
) -> AsyncIterator[AtWork]:
    """Run the app's engine until the block ends. A failure of the engine fails the block.

    It serves the queue `default`: with `queues=()` every queue, of which it finds a new one within
    a second only.
    """
    broker = broker or (await app.client()).broker
    token, board = new_id(), LocalBoard()
    await broker.renew([token], LONG)
    defaults = {"queues": ("default",), "concurrency": 4, "kill_grace": 0.3, "shutdown_grace": 5.0}
    engine = Engine(
        app,
        broker,
        settings=WorkerSettings(**{**defaults, **settings}),
        token=token,
        board=board,
        clock=SystemClock(),
        dice=lambda: dice,
    )
    worker = AtWork(engine, board, broker)
    worker.done = asyncio.create_task(engine.run(), name="engine under test")
    try:
        yield worker
        assert not worker.done.done() or worker.done.exception() is None
    finally:
        engine.stop()
        try:
            await asyncio.wait_for(worker.done, 15)
        finally:
            await broker.renew([token], 0)


async def reached(handle: Handle[Any], state: State, within: float = 10.0) -> TaskInfo:
    """Wait until the task is in `state` and return what is known of it then."""

    async def there() -> TaskInfo | None:
        info = await handle.info()
        return info if info.state is state else None

    info: TaskInfo = await soon(there, within)
    return info


async def ended(handle: Handle[Any], within: float = 10.0) -> TaskInfo:
    """Wait until the task is in a final state, whichever, and return what is known of it."""

    async def over() -> TaskInfo | None:
        info = await handle.info()
        return info if info.state.is_final else None

    info: TaskInfo = await soon(over, within)
    return info


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How many have passed."""
        return time.monotonic() - self._began
