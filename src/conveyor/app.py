"""The app: a broker URL, task definitions, and the ways in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

import msgspec
from typing_extensions import Unpack

from conveyor.brokers.url import opened
from conveyor.client import Client, TaskHandle, conflict_of, created_or_raise
from conveyor.core.amounts import seconds
from conveyor.core.codec import MAX_PAYLOAD, decoder
from conveyor.core.errors import ConveyorError, InvalidOption, InvalidURL, UnknownTask
from conveyor.core.record import new_task
from conveyor.core.retry import Retry
from conveyor.defining import Defaults, TaskOptions, definer, policy_of
from conveyor.flows.builder import Workflow
from conveyor.flows.handle import WorkflowHandle, decode_plain
from conveyor.flows.loaded import Definition
from conveyor.middleware.base import Middleware, push_chain
from conveyor.offload import MAX_BLOB
from conveyor.packing import Packing
from conveyor.portal import Portal
from conveyor.schedules.door import Scheduling
from conveyor.system import SystemClock, new_id
from conveyor.tasks import BoundTask, P, TaskDecorator, TaskDefinition

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker, Inspector
    from conveyor.core.clock import Clock
    from conveyor.core.task import NewTask
    from conveyor.offload import Offload
    from conveyor.sealing import Keyring

T = TypeVar("T")
DEFAULT_URL = "sqlite:///conveyor.db"
Lifespan = Callable[["Conveyor"], AbstractAsyncContextManager[Mapping[str, Any] | None]]


class Conveyor(Scheduling):
    """A task queue: definitions on one side, a broker on the other.

    `url` names the broker: `sqlite:///file.db`, `postgresql://…`, `redis://…`; default: the
    environment variable CONVEYOR_URL, else `sqlite:///conveyor.db`. `middleware` wraps every
    enqueue and execution. `lifespan` is an async context manager function entered once per worker
    process: the mapping it yields is `current_task().state`. `retry` and `result_ttl` (seconds)
    are the defaults of all tasks. `keys` seal the arguments that tasks name in `encrypt`; `offload`
    says where large arguments go.

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
        keys: Keyring | None = None,
        offload: Offload | None = None,
        clock: Clock | None = None,
    ) -> None:
        if url is not None and not isinstance(url, str):
            raise InvalidURL(f"url={type(url).__name__}: a broker URL is a text")
        self.url = url if url is not None else os.environ.get("CONVEYOR_URL") or DEFAULT_URL
        self.middleware = _layers(middleware)
        if lifespan is not None and not callable(lifespan):
            raise InvalidOption(f"lifespan={lifespan!r}: an async context manager function")
        self.lifespan = lifespan
        self.retry = policy_of(retry, Retry())
        self.result_ttl = seconds(result_ttl, "result_ttl")
        self.packing = Packing(keys, offload)
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
    def task(self, fn: None = None, /, **options: Unpack[TaskOptions]) -> TaskDecorator: ...
    def task(self, fn: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]) -> Any:
        """Turn a function into a task definition.

        `name` defaults to `module.qualname`; `queue` is the lane its tasks wait in; `priority` is
        0–9 (9 first) or low, normal, high, critical; `timeout` bounds one execution (seconds);
        `result_ttl` keeps the result (seconds). `executor="process"` runs it in a process of its
        own that can be killed; else async functions run on the loop and others in a thread.
        `on_uncertain="continue"` lets it run on through a broker outage (its writes stay fenced).

        `rate_limit` and `concurrency` (one or several) bound starts and runs over all workers;
        `fair_by` (a function of the arguments, which may answer with key and weight) lets keys take
        turns; `partition_by` runs the tasks of a key one at a time, in order, through retries.
        `unique` and `debounce` make several enqueues one task. See `conveyor.limits`.

        `version` counts incompatible changes of the signature, `migrate` turns the arguments of an
        older version into those of the next, `aliases` are names it had before; `encrypt` names
        parameters to be sealed with the app's keys. Raises `InvalidOption` for a value that makes
        no sense or a name that is taken.
        """
        defaults = Defaults(
            dispatcher=self, retry=self.retry, result_ttl=self.result_ttl, packing=self.packing
        )
        make = definer(options, defaults)

        def define(function: Callable[..., Any]) -> TaskDefinition[..., Any, Any]:
            return self._register(make(function))

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
        (task,) = await self._new_tasks([call])
        pushed = await self._push(task)
        created = created_or_raise(pushed, task.task)
        return TaskHandle(pushed.id, await self.client(), _result_decoder(call), created)

    def dispatch_sync(self, call: BoundTask[T]) -> TaskHandle[T]:
        """Enqueue one bound call from synchronous code."""
        handle: TaskHandle[T] = self.run_sync(self.dispatch(call))
        return handle

    async def enqueue_many(self, calls: Iterable[BoundTask[T]]) -> list[TaskHandle[T]]:
        """Enqueue many bound calls, one round trip per thousand; handles in order.

        Each thousand is stored whole or not at all. Raises what `enqueue` raises; with
        `IdempotencyConflict` or `NotUnique` the others of its thousand are stored.
        """
        client = await self.client()
        handles: list[TaskHandle[T]] = []
        conflict: ConveyorError | None = None
        bound = [_bound(call) for call in calls]
        for start in range(0, len(bound), 1_000):
            part = bound[start : start + 1_000]
            tasks = await self._new_tasks(part)
            if self._push == self._push_one:
                answers = await client.push_many(tasks)
            else:
                answers = await asyncio.gather(*map(self._push, tasks))
            for call, task, answer in zip(part, tasks, answers, strict=True):
                if answer.conflict and conflict is None:
                    conflict = conflict_of(answer, task.task)
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
        loop = _running_loop()
        client = None if loop is None else self._clients.get(loop)
        if client is None:
            raise InvalidOption("app.handle() needs an open app: use it inside `async with app:`")
        if not isinstance(task_id, str):
            raise InvalidOption(f"task_id={task_id!r}: the id of a task is a text")
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

    async def _new_tasks(self, calls: Sequence[BoundTask[Any]]) -> list[NewTask]:
        tasks = [self._new_task(call) for call in calls]
        wraps = self.packing.wraps
        if not any(
            wraps(new.task, call.definition) for call, new in zip(calls, tasks, strict=True)
        ):
            return tasks
        if self.packing.offload is None:
            return self._packed(calls, tasks)
        # Off the loop: a blob may have to be written.
        return await asyncio.to_thread(self._packed, calls, tasks)

    def _packed(self, calls: Sequence[BoundTask[Any]], tasks: list[NewTask]) -> list[NewTask]:
        return [
            msgspec.structs.replace(new, task=self.packing.pack(new.task, call.definition))
            if self.packing.wraps(new.task, call.definition)
            else new
            for call, new in zip(calls, tasks, strict=True)
        ]

    def _new_task(self, call: BoundTask[Any]) -> NewTask:
        return new_task(
            new_id(),
            call.definition.name,
            call.options,
            call.args,
            call.kwargs,
            self.clock.time(),
            call.rules,
            limit=MAX_PAYLOAD if self.packing.offload is None else MAX_BLOB,
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
        return self.attach(await opened(self.url, clock=self._given_clock))

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


def _layers(values: object) -> tuple[Middleware, ...]:
    layers = tuple(values) if isinstance(values, Iterable) else (values,)
    for layer in layers:
        if not isinstance(layer, Middleware):
            raise InvalidOption(f"middleware has {layer!r}: a sequence of Middleware objects")
    return layers


def _bound(call: BoundTask[T]) -> BoundTask[T]:
    if not isinstance(call, BoundTask):
        raise InvalidOption(f"enqueue_many got {call!r}: give it calls made by task.bind(…)")
    return call


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _plain(data: bytes) -> Any:
    return decoder(Any)(data)


def _result_decoder(call: BoundTask[T]) -> Callable[[bytes], T]:
    return call.definition.decode_result
