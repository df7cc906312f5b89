"""Tasks, and short words, for the tests of workflows on a running engine."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from conveyor import Conveyor, Reject
from conveyor.flows.sweeper import Sweeper
from conveyor.system import SystemClock
from conveyor.workflows import WorkflowHandle
from tests.running import AtWork, at_work


class User(msgspec.Struct):
    email: str
    contacts: list[int]


class Tasks:
    """Tasks that leave a trace."""

    def __init__(self, app: Conveyor) -> None:
        self.ran: Counter[str] = Counter()
        self.let_go = asyncio.Event()
        ran, let_go = self.ran, self.let_go

        @app.task(name="create")
        async def create(email: str, contacts: int = 3) -> User:
            ran["create"] += 1
            return User(email, list(range(contacts)))

        @app.task(name="score")
        async def score(user: User) -> dict[str, int]:
            assert isinstance(user, User)
            ran["score"] += 1
            return {"risk": len(user.email)}

        @app.task(name="note")
        async def note(what: str, value: Any = None) -> str:
            ran[what] += 1
            return what

        @app.task(name="double")
        async def double(number: int) -> int:
            ran["double"] += 1
            return 2 * number

        @app.task(name="total")
        def total(numbers: list[int]) -> int:
            ran["total"] += 1
            return sum(numbers)

        @app.task(name="fail")
        async def fail(number: int = 0) -> int:
            ran["fail"] += 1
            raise Reject("no way")

        @app.task(name="hang")
        async def hang(number: int = 0) -> int:
            ran["hang"] += 1
            await let_go.wait()
            return number

        self.create, self.score, self.note, self.double = create, score, note, double
        self.total, self.fail, self.hang = total, fail, hang


async def states(handle: WorkflowHandle[Any]) -> dict[str, str]:
    return {node.name: str(node.state) for node in (await handle.info()).nodes}


class Hurried(SystemClock):
    """A clock on which ten times the seconds pass: a keeper that looks again after two seconds by
    it does so five times a second."""

    @staticmethod
    def monotonic() -> float:
        return 10 * SystemClock.monotonic()


@asynccontextmanager
async def kept(app: Conveyor, **settings: Any) -> AsyncIterator[AtWork]:
    """Run an engine with a keeper's sweeper in a hurry beside it."""
    async with at_work(app, **settings) as worker:
        sweeper = Sweeper(worker.broker, Hurried())

        async def sweep() -> None:
            while True:
                await sweeper.round()
                await asyncio.sleep(0.05)

        sweeping = asyncio.create_task(sweep())
        try:
            yield worker
        finally:
            sweeping.cancel()
            await asyncio.wait([sweeping])


def is_over(handle: WorkflowHandle[Any]) -> Any:
    async def over() -> bool:
        return await handle.status() != "running"

    return over
