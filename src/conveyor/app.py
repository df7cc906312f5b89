"""The app: a broker URL, task definitions, and the ways in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast, overload

from conveyor.brokers.url import connect
from conveyor.client import Client, TaskHandle, created_or_raise
from conveyor.core.codec import decoder
from conveyor.core.errors import IdempotencyConflict, InvalidOption, UnknownTask
from conveyor.core.options import Options, priority_level, queue_name, seconds
from conveyor.core.record import new_task
from conveyor.core.retry import Retry
from conveyor.flows.builder import Workflow
from conveyor.flows.handle import WorkflowHandle, decode_plain
from conveyor.flows.loaded import Definition
from conveyor.middleware.base import Middleware, push_chain
from conveyor.naming import module_name
from conveyor.portal import Portal
from conveyor.system import SystemClock, new_id
from conveyor.tasks import BoundTask, Executor, P, TaskDecorator, TaskDefinition

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker, Inspector
    from conveyor.core.clock import Clock
    from conveyor.core.task import NewTask

T = TypeVar("T")
DEFAULT_URL = "sqlite:///conveyor.db"
Lifespan = Callable[["Conveyor"], AbstractAsyncContextManager[Mapping[str, Any] | None]]


class Conveyor:
    """A task queue: definitions on one side, a broker on the other.

    `url` names the broker: `sqlite:///file.db`, `postgresql://…`, `redis://…`; default: the
    environment variable CONVEYOR_URL, else `sqlite:///conveyor.db`. `middleware` wraps every
    enqueue and execution. `lifespan` is an async context manager function entered once per worker
    process: the mapping it yields is `current_task().state`. `retry` and `result_ttl` (seconds)
    are the defaults of all tasks.

    Nothing connects before the first use. `async with app:` closes everything at its end.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        middleware: Sequence[Middleware] = (),
        lifespan: Lifespan | None = None,
        retry: Retry | None = None,
        result_ttl: float | timedelta = 86_400.0,
        clock: Clock | None = None,
    ) -> None:
        self.url = url or os.environ.get("CONVEYOR_URL") or DEFAULT_URL
        self.middleware = tuple(middleware)
        self.lifespan = lifespan
        self.retry = retry or Retry()
        self.result_ttl = seconds(result_ttl, "result_ttl")
        self.clock: Clock = clock or SystemClock()
        self._given_clock = clock
        self.definitions: dict[str, TaskDefinition[..., Any, Any]] = {}
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = (
            weakref.WeakKeyDictionary()
        )
        self._opening: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, asyncio.Future[Client]
        ] = weakref.WeakKeyDictionary()
        self._portal = Portal()
        self._push = push_chain(self.middleware, self._push_one)

    # -- definitions

    @overload
    def task(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /
    ) -> TaskDefinition[P, T, Coroutine[Any, Any, T]]: ...
    @overload
    def task(self, fn: Callable[P, T], /) -> TaskDefinition[P, T, T]: ...
    @overload
    def task(
        self,
        fn: None = None,
        /,
        *,
        name: str | None = None,
        queue: str = "default",
        priority: int | str = "normal",
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        result_ttl: float | timedelta | None = None,
        executor: Executor = "auto",
        on_uncertain: Literal["stop", "continue"] = "stop",
    ) -> TaskDecorator: ...
    def task(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        queue: str = "default",
        priority: int | str = "normal",
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        result_ttl: float | timedelta | None = None,
        executor: Executor = "auto",
        on_uncertain: Literal["stop", "continue"] = "stop",
    ) -> Any:
        """Turn a function into a task definition.

        `name` defaults to `module.qualname`; `queue` is the lane its tasks wait in; `priority` is
        0–9 (9 first) or low, normal, high, critical; `timeout` bounds one execution (seconds);
        `result_ttl` keeps the result (seconds). `executor="process"` runs it in a process of its
        own that can be killed; else async functions run on the loop and others in a thread.
        `on_uncertain="continue"` lets it run on through a broker outage (its writes stay fenced).
        Raises `InvalidOption` for a value that makes no sense or a name that is taken.
        """
        if executor not in {"auto", "process"}:
            raise InvalidOption(f"executor={executor!r}: 'auto' or 'process'")
        if on_uncertain not in {"stop", "continue"}:
            raise InvalidOption(f"on_uncertain={on_uncertain!r}: 'stop' or 'continue'")
        policy = retry or self.retry
        options = Options(
            queue=queue_name(queue),
            priority=priority_level(priority),
            max_attempts=policy.max_attempts,
            retry_base=policy.base,
            retry_cap=policy.cap,
            timeout=None if timeout is None else seconds(timeout, "timeout", least=0.001),
            result_ttl=(
                self.result_ttl if result_ttl is None else seconds(result_ttl, "result_ttl")
            ),
        )

        def define(function: Callable[..., Any]) -> TaskDefinition[..., Any, Any]:
            return self._register(
                TaskDefinition(
                    function,
                    name=name or f"{module_name(function.__module__)}.{function.__qualname__}",
                    dispatcher=self,
                    options=options,
                    retry=policy,
                    executor=executor,
                    on_uncertain=on_uncertain,
                )
            )

        return define if fn is None else define(fn)

    def _register(self, definition: TaskDefinition[..., Any, Any]) -> TaskDefinition[..., Any, Any]:
        taken = self.definitions.get(definition.name)
        if taken is not None and taken.code_version != definition.code_version:
            raise InvalidOption(
                f"two tasks are named {definition.name!r}: give one of them another with name=…"
            )
        self.definitions[definition.name] = definition
        return definition

    def definition(self, name: str) -> TaskDefinition[..., Any, Any]:
        """Return the definition of that name. Raises `UnknownTask` with the nearest names."""
        try:
            return self.definitions[name]
        except KeyError:
            raise UnknownTask(name, self.definitions) from None

    # -- enqueueing

    async def dispatch(self, call: BoundTask[T]) -> TaskHandle[T]:
        """Enqueue one bound call."""
        task = self._new_task(call)
        pushed = await self._push(task)
        created = created_or_raise(pushed, task.task.key)
        return TaskHandle(pushed.id, await self.client(), _result_decoder(call), created)

    def dispatch_sync(self, call: BoundTask[T]) -> TaskHandle[T]:
        """Enqueue one bound call from synchronous code."""
        handle: TaskHandle[T] = self.run_sync(self.dispatch(call))
        return handle

    async def enqueue_many(self, calls: Iterable[BoundTask[T]]) -> list[TaskHandle[T]]:
        """Enqueue many bound calls, one round trip per thousand; handles in order.

        Each thousand is stored whole or not at all. Raises what `enqueue` raises; with
        `IdempotencyConflict` the others of its thousand are stored.
        """
        client = await self.client()
        handles: list[TaskHandle[T]] = []
        conflict: IdempotencyConflict | None = None
        bound = list(calls)
        for start in range(0, len(bound), 1_000):
            part = bound[start : start + 1_000]
            tasks = [self._new_task(call) for call in part]
            if self._push == self._push_one:
                answers = await client.push_many(tasks)
            else:
                answers = await asyncio.gather(*map(self._push, tasks))
            for call, task, answer in zip(part, tasks, answers, strict=True):
                if answer.conflict and conflict is None:
                    conflict = IdempotencyConflict(task.task.key or "", answer.id)
                handles.append(TaskHandle(answer.id, client, _result_decoder(call), answer.created))
            if conflict is not None:
                raise conflict
        return handles

    def enqueue_many_sync(self, calls: Iterable[BoundTask[T]]) -> list[TaskHandle[T]]:
        """Do what `enqueue_many` does, from synchronous code."""
        handles: list[TaskHandle[T]] = self.run_sync(self.enqueue_many(calls))
        return handles

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """Return a handle of a task by its id, for use on the current event loop."""
        client = self._clients.get(asyncio.get_running_loop())
        if client is None:
            raise InvalidOption("app.handle() needs an open app: use it inside `async with app:`")
        return TaskHandle(task_id, client, cast("Callable[[bytes], Any]", _plain), True)

    # -- workflows

    def workflow(self, name: str, *, queue: str = "default") -> Workflow:
        """Begin to build a workflow; `queue` is where its waits and sub-workflows are kept."""
        return Workflow(self, name, queue=queue)

    def workflow_from(self, definition: str | bytes | Mapping[str, Any]) -> Definition:
        """Read a workflow from its JSON definition. Raises `InvalidWorkflow`, also when a task
        that is defined here takes other arguments; names that are not are left to the workers."""
        return Definition(self, definition)

    def workflow_handle(self, run_id: str) -> WorkflowHandle[Any]:
        """Return a handle of a run by its id."""
        return WorkflowHandle(run_id, self, decode_plain)

    def _new_task(self, call: BoundTask[Any]) -> NewTask:
        return new_task(
            new_id(),
            call.definition.name,
            call.options,
            call.args,
            call.kwargs,
            self.clock.time(),
        )

    async def _push_one(self, task: NewTask) -> Any:
        return await (await self.client()).push(task)

    # -- connections

    async def client(self) -> Client:
        """Return this event loop's client, connecting on first use."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is not None:
            return client
        opening = self._opening.get(loop)
        if opening is None:
            opening = self._opening[loop] = asyncio.ensure_future(self._open())
        try:
            return await asyncio.shield(opening)
        finally:
            self._opening.pop(loop, None)

    async def _open(self) -> Client:
        broker = connect(self.url, clock=self._given_clock)
        try:
            await broker.open()
        except BaseException:
            await broker.close()
            raise
        return self.attach(broker)

    def attach(self, broker: Broker) -> Client:
        """Use an open broker for the running event loop; closing the app closes it."""
        client = Client(broker)
        self._clients[asyncio.get_running_loop()] = client
        return client

    async def inspector(self) -> Inspector:
        """Return the read-only view of the broker."""
        return (await self.client()).broker.inspector

    def run_sync(self, coroutine: Any) -> Any:
        """Run one of the app's coroutines from synchronous code, on the loop of a worker this
        thread belongs to, else on a background loop of the app's own."""
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for loop in list(self._clients):
            if loop is not here and loop.is_running():
                return asyncio.run_coroutine_threadsafe(coroutine, loop).result()
        return self._portal.run(coroutine)

    async def close(self) -> None:
        """Close this loop's connections and those made for synchronous callers."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()
        if self._portal.started:
            await asyncio.to_thread(self.close_sync)

    def close_sync(self) -> None:
        """Close the connections that synchronous calls made."""
        if not self._portal.started:
            return
        client = self._clients.pop(self._portal.loop, None)
        if client is not None:
            self._portal.run(client.close())
        self._portal.close()

    async def __aenter__(self) -> Self:
        await self.client()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def resources(self) -> AsyncIterator[Mapping[str, Any]]:
        """Enter the lifespan, yielding what tasks see as `current_task().state`."""
        if self.lifespan is None:
            yield {}
            return
        async with self.lifespan(self) as state:
            yield state or {}


def _plain(data: bytes) -> Any:
    return decoder(Any)(data)


def _result_decoder(call: BoundTask[T]) -> Callable[[bytes], T]:
    return call.definition.decode_result
