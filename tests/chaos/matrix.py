"""The small worker of the crash matrix: one process, forked in milliseconds, that may be killed."""

from __future__ import annotations

import asyncio
import os
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import Any

from conveyor import Conveyor, Retry, Snooze, current_task
from conveyor.keeper.rescuer import rescue
from conveyor.system import SystemClock, new_id
from conveyor.tasks import TaskDefinition
from conveyor.worker.board import LocalBoard
from conveyor.worker.engine import Engine
from conveyor.worker.settings import WorkerSettings

LEASE = 600.0
_LONG = 86_400.0
_context = get_context("forkserver")
_context.set_forkserver_preload(
    [__name__, "conveyor.brokers.redis.broker", "conveyor.brokers.postgres.broker"]
)


class Scenario:
    """Four tasks that between them take every way from a lease to an end."""

    def __init__(self, url: str, log: str) -> None:
        self.app = app = Conveyor(url, retry=Retry(max_attempts=3, base=0.0, cap=0.0))
        self._log = log
        self.plain = self._add(app.task(name="plain")(self._plain))
        self.flaky = self._add(app.task(name="flaky")(self._flaky))
        self.sleepy = self._add(app.task(name="sleepy")(self._sleepy))
        self.parent = self._add(app.task(name="parent")(self._parent))

    @staticmethod
    def _add(task: Any) -> TaskDefinition[[], int, Any]:
        found: TaskDefinition[[], int, Any] = task
        return found

    def _note(self) -> int:
        """Leave a line for this execution, before anything else that user code does."""
        task = current_task()
        descriptor = os.open(self._log, os.O_APPEND | os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, f"{task.id} {task.fencing_token}\n".encode())
        os.close(descriptor)
        return task.fencing_token

    async def _plain(self) -> int:
        return self._note()

    async def _flaky(self) -> int:
        if self._note() == 1:
            raise ValueError("the first execution fails")
        return 1

    async def _sleepy(self) -> int:
        if self._note() == 1:
            raise Snooze(0)
        return 1

    async def _parent(self) -> int:
        self._note()
        await self.plain.with_options(key="child").enqueue()
        put_off = await self.plain.with_options(key="put off", delay=_LONG).enqueue()
        await put_off.reschedule(delay=0)
        return 1


def start(url: str, token: str, log: str) -> BaseProcess:
    """Start a process that works under the lease `token` until nothing is left to do."""
    process = _context.Process(target=_main, args=(url, token, log))
    process.start()
    return process


def _main(url: str, token: str, log: str) -> None:
    asyncio.run(_work(url, token, log))


async def _work(url: str, token: str, log: str) -> None:
    scenario = Scenario(url, log)
    async with scenario.app as app:
        engine = Engine(
            app,
            (await app.client()).broker,
            settings=WorkerSettings(burst=True, concurrency=2, queues=("default",)),
            token=token,
            board=LocalBoard(),
            clock=SystemClock(),
        )
        await engine.run()


class Round:
    """One round of the matrix, from the outside: on a connection that is not cut."""

    def __init__(self, url: str, log: str) -> None:
        self.scenario = Scenario(url, log)
        self.token = new_id()
        self.ids: list[str] = []

    async def prepare(self) -> None:
        """Enqueue the tasks, and make the lease of the process that will be killed."""
        scenario = self.scenario
        async with scenario.app as app:
            definitions = (scenario.plain, scenario.flaky, scenario.sleepy, scenario.parent)
            handles = await app.enqueue_many(definition.bind() for definition in definitions)
            self.ids = [handle.id for handle in handles]
            await (await app.client()).broker.renew([self.token], LEASE)

    async def rescue(self) -> int:
        """End the lease of the dead and put back what it held; returns how many tasks."""
        async with self.scenario.app as app:
            broker = (await app.client()).broker
            await broker.renew([self.token], 0)
            found = await rescue(broker, app.clock, lambda: 0.5, "keeper")
            self.token = new_id()
            await broker.renew([self.token], LEASE)
            return found

    async def verdict(self) -> list[str]:
        """Say what is wrong in the end; nothing when all is well."""
        async with self.scenario.app as app:
            inspector = await app.inspector()
            wrong = [f"{v.invariant}: {v.message} {v.ids}" for v in await inspector.check()]
            counts = {s.value: n for s, n in (await inspector.counts()).items() if n}
            if counts != {"succeeded": 6}:
                wrong.append(f"the six tasks ended as {counts}")
            for task_id in self.ids:
                info = await inspector.get(task_id)
                numbers = [execution.number for execution in info.executions]
                if numbers != sorted(set(numbers)):
                    wrong.append(f"{info.name}: executions {numbers}")
            return wrong
