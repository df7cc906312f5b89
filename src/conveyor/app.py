"""The app: a broker URL, task definitions, and the ways in."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import msgspec
from typing_extensions import Unpack

from conveyor.client import UNTIL_COMMITTED, Client, TaskHandle, conflict_of, created_or_raise
from conveyor.connections import Connections, running_loop
from conveyor.context import running_task
from conveyor.core import defaults
from conveyor.core.amounts import seconds
from conveyor.core.codec import MAX_PAYLOAD, decoder
from conveyor.core.errors import InvalidOption, InvalidURL, UnknownTask
from conveyor.core.limits import SharedLimits
from conveyor.core.record import new_task
from conveyor.core.retry import Retry
from conveyor.defining import Defaults, TaskOptions, definer, policy_of
from conveyor.flows.builder import Workflow
from conveyor.flows.handle import WorkflowHandle, decode_plain
from conveyor.flows.loaded import Definition
from conveyor.middleware.base import Middleware, PushNext, push_chain
from conveyor.offload import MAX_BLOB
from conveyor.packing import Packing
from conveyor.schedules.door import Scheduling
from conveyor.system import new_id
from conveyor.tasks import BoundTask, P, TaskDecorator, TaskDefinition

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
    from sqlalchemy.orm import Session, sessionmaker

    from conveyor.brokers.base import Pushed
    from conveyor.core.clock import Clock
    from conveyor.core.task import NewTask
    from conveyor.offload import Offload
    from conveyor.sealing import Keyring

    Sessions = async_sessionmaker[AsyncSession] | sessionmaker[Session]
T = TypeVar("T")
DEFAULT_URL = "sqlite:///conveyor.db"
Lifespan = Callable[["Conveyor"], AbstractAsyncContextManager[Mapping[str, Any] | None]]


class Conveyor(Connections, Scheduling):
    """A task queue: definitions on one side, a broker on the other.

    `url` names the broker: `sqlite:///file.db`, `postgresql://…`, `redis://…`; default: the
    environment variable CONVEYOR_URL, else `sqlite:///conveyor.db`. `middleware` wraps every
    enqueue and execution. `lifespan` is an async context manager function entered once per worker
    process: the mapping it yields is `current_task().state`. `retry` and `result_ttl` (seconds)
    are the defaults of all tasks. `keys` seal the arguments that tasks name in `encrypt`; `offload`
    says where large arguments go. `sessions` (an SQLAlchemy sessionmaker of either kind) are for
    transactional tasks; `outbox` (an engine or URL) is the database whose outbox workers and
    keepers watch.

    Nothing connects before the first use. `async with app:` closes everything at its end.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        middleware: Sequence[Middleware] = (),
        lifespan: Lifespan | None = None,
        retry: Retry | None = None,
        result_ttl: float | timedelta = defaults.RESULT_TTL,
        keys: Keyring | None = None,
        offload: Offload | None = None,
        sessions: Sessions | None = None,
        outbox: str | Engine | AsyncEngine | None = None,
        clock: Clock | None = None,
    ) -> None:
        if url is not None and not isinstance(url, str):
            raise InvalidURL(f"url={type(url).__name__}: a broker URL is a text")
        super().__init__(
            url if url is not None else os.environ.get("CONVEYOR_URL") or DEFAULT_URL, clock
        )
        self.middleware = _layers(middleware)
        if lifespan is not None and not callable(lifespan):
            raise InvalidOption(f"lifespan={lifespan!r}: an async context manager function")
        self.lifespan = lifespan
        self.retry = policy_of(retry, Retry())
        self.result_ttl = seconds(result_ttl, "result_ttl")
        self.packing = Packing(keys, offload)
        self.sessions = sessions
        self.outbox = outbox
        self.definitions: dict[str, TaskDefinition[..., Any, Any]] = {}
        self._limits = SharedLimits()
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

        `transactional=True` gives it a session of the app's `sessions` as `current_task().session`,
        which commits together with its success; see `conveyor.transactions`.

        `version` counts incompatible changes of the signature, `migrate` turns the arguments of an
        older version into those of the next, `aliases` are names it had before; `encrypt` names
        parameters to be sealed with the app's keys. Raises `InvalidOption` for a value that makes
        no sense, a name that is taken, or a limit that another task states otherwise.
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
        if definition.transactional:
            from conveyor.transactions.lending import must_fit

            must_fit(self.sessions, definition.name, is_async=definition.is_async)
        if definition.rules is not None:
            self._limits.add(definition.name, definition.rules.limits)
        self.definitions[definition.name] = definition
        return definition

    def definition(self, name: str) -> TaskDefinition[..., Any, Any]:
        """Return the definition of that name. Raises `UnknownTask` with the nearest names."""
        try:
            return self.definitions[name]
        except KeyError:
            raise UnknownTask(name, self.definitions) from None

    # -- enqueueing

    async def dispatch(self, call: BoundTask[T], *, task_id: str | None = None) -> TaskHandle[T]:
        """Enqueue one bound call; under an id of one's own (a UUID whose first 48 bits are the
        milliseconds of now) again and again without another task."""
        (task,) = await self._new_tasks([call], task_id)
        session = self._session_of([call])
        pushed = await (self._push if session is None else self._push_within(session))(task)
        created = created_or_raise(pushed, task.task)
        patience = 0.0 if session is None else UNTIL_COMMITTED
        return TaskHandle(
            pushed.id, await self.client(), _result_decoder(call), created, patience=patience
        )

    def dispatch_sync(self, call: BoundTask[T]) -> TaskHandle[T]:
        """Enqueue one bound call from synchronous code."""
        if self._session_of([call]) is not None:
            return self.enqueue_many_sync([call])[0]
        handle: TaskHandle[T] = self.run_sync(self.dispatch(call))
        return handle

    async def enqueue_many(self, calls: Iterable[BoundTask[T]]) -> list[TaskHandle[T]]:
        """Enqueue many bound calls, one round trip per thousand; handles in order.

        Each thousand is stored whole or not at all. Raises what `enqueue` raises; with
        `IdempotencyConflict` or `NotUnique` the others of its thousand are stored. Calls with a
        session must all have the same one.
        """
        client = await self.client()
        handles: list[TaskHandle[T]] = []
        bound = [_bound(call) for call in calls]
        session = self._session_of(bound)
        for start in range(0, len(bound), 1_000):
            part = bound[start : start + 1_000]
            tasks = await self._new_tasks(part)
            answers = await self._push_all(client, session, tasks)
            handles += _handles(part, answers, tasks, client, late=session is not None)
        return handles

    async def _push_all(self, client: Client, session: object, tasks: list[NewTask]) -> list[Any]:
        if self._push != self._push_one:
            if session is None:
                return await asyncio.gather(*map(self._push, tasks))
            push = self._push_within(session)
            return [await push(task) for task in tasks]
        if session is None:
            return await client.push_many(tasks)
        from conveyor.transactions import enqueue

        return await enqueue.push(self, session, tasks)

    def enqueue_many_sync(self, calls: Iterable[BoundTask[T]]) -> list[TaskHandle[T]]:
        """Do what `enqueue_many` does, from synchronous code."""
        bound = [_bound(call) for call in calls]
        session = self._session_of(bound)
        if session is None:
            found: list[TaskHandle[T]] = self.run_sync(self.enqueue_many(bound))
            return found
        from conveyor.transactions import enqueue

        push = partial(enqueue.push_sync, self)
        if self._push != self._push_one:
            push = partial(enqueue.push_through_layers, self, self.middleware)
        client: Client = self.run_sync(self.client())
        handles: list[TaskHandle[T]] = []
        for start in range(0, len(bound), 1_000):
            part = bound[start : start + 1_000]
            tasks = self._packed(part, [self._new_task(call) for call in part])
            handles += _handles(part, push(session, tasks), tasks, client, late=True)
        return handles

    def _session_of(self, calls: Sequence[BoundTask[Any]]) -> object:
        """Return the session that calls are to join: their own, or that of the transactional task
        that makes them."""
        sessions = {id(call.session): call.session for call in calls}
        if len(sessions) > 1:
            raise InvalidOption("enqueue_many got calls with different sessions: one for each call")
        for session in sessions.values():
            if session is not None:
                return session
        task = running_task()
        return task.joined_session if task is not None and task.app is self else None

    def _push_within(self, session: object) -> PushNext:
        async def last(task: NewTask) -> Any:
            from conveyor.transactions import enqueue

            return (await enqueue.push(self, session, [task]))[0]

        return push_chain(self.middleware, last)

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """Return a handle of a task by its id, for use on the current event loop."""
        loop = running_loop()
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

    async def _new_tasks(
        self, calls: Sequence[BoundTask[Any]], task_id: str | None = None
    ) -> list[NewTask]:
        tasks = [self._new_task(call, task_id) for call in calls]
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

    def _new_task(self, call: BoundTask[Any], task_id: str | None = None) -> NewTask:
        return new_task(
            task_id or new_id(),
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


def _handles(
    calls: Sequence[BoundTask[T]],
    answers: Sequence[Pushed],
    tasks: Sequence[NewTask],
    client: Client,
    *,
    late: bool,
) -> list[TaskHandle[T]]:
    """Return handles in order, or raise the first conflict among the answers. `late`: the store may
    not know the tasks yet."""
    for task, answer in zip(tasks, answers, strict=True):
        if answer.conflict:
            raise conflict_of(answer, task.task)
    patience = UNTIL_COMMITTED if late else 0.0
    return [
        TaskHandle(answer.id, client, _result_decoder(call), answer.created, patience=patience)
        for call, answer in zip(calls, answers, strict=True)
    ]


def _bound(call: BoundTask[T]) -> BoundTask[T]:
    if not isinstance(call, BoundTask):
        raise InvalidOption(f"enqueue_many got {call!r}: give it calls made by task.bind(…)")
    return call


def _plain(data: bytes) -> Any:
    return decoder(Any)(data)


def _result_decoder(call: BoundTask[T]) -> Callable[[bytes], T]:
    return call.definition.decode_result
