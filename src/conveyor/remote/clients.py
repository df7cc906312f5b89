"""The two clients: the same calls, blocking and with `await`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from conveyor.core.clock import Clock
from conveyor.remote.asking import Answer, Ask, Lost, Patience, Pause, Steps
from conveyor.remote.calling import Calls
from conveyor.remote.connecting import answer_of, headers_of, library, lost, options_of, seconds_of
from conveyor.remote.shapes import Enqueued, NewTask, RemoteTask
from conveyor.system import SystemClock, dice, new_id

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
_CLOCK: Clock = SystemClock()


class Remote:
    """A console at `base_url`, asked with an API key (`cv_…`), from synchronous code. Threads may
    share it; close it, or use it as a context manager.

    `timeout` are the seconds that connecting, sending and each piece of an answer may take.
    What could not be done is tried again for `patience` seconds: after a lost connection, and when
    the console has no time (429, 503), as late as its Retry-After asks. Every enqueue carries a
    key, so that a repeated one has no second effect. `transport` is httpx's: for a proxy, for
    certificates of your own, for tests. Raises `InvalidOption`.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        timeout: float = 10.0,
        patience: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        clock: Clock = _CLOCK,
        dice: Callable[[], float] = dice,
        new_id: Callable[[], str] = new_id,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        options = options_of(base_url, key, timeout)
        self._timeout = timeout
        self._http: httpx.Client = library().Client(transport=transport, **options)
        self._calls = Calls(Patience(patience, clock.monotonic, clock.time, dice), new_id)
        self._sleep = sleep

    def enqueue(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        priority: int | str | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        key: str | None = None,
    ) -> Enqueued:
        """Enqueue a task; it is durable when this returns. What is not given is as its definition
        says; `delay` is in seconds.

        Raises `UnknownTask`, `InvalidArguments`, `InvalidOption`, `NotSerialisable`,
        `PayloadTooLarge`, `IdempotencyConflict`, `NotUnique`, `NotPermitted`, and
        `RemoteUnavailable`, whose `done` is None when nobody knows.
        """
        task = NewTask(name, args, kwargs or {}, queue, priority, delay, at, key)
        return self._run(self._calls.enqueue(task))

    def enqueue_many(self, tasks: Sequence[NewTask]) -> list[Enqueued]:
        """Enqueue up to 10,000 tasks, all or none of them; their ids come in order. Raises as
        `enqueue`."""
        return self._run(self._calls.enqueue_many(tasks))

    def task(self, task_id: str) -> RemoteTask:
        """Return what is known of a task. Raises `TaskNotFound`."""
        return self._run(self._calls.task(task_id))

    @overload
    def result(self, task_id: str, timeout: float | None = None) -> Any: ...
    @overload
    def result(self, task_id: str, timeout: float | None = None, *, kind: type[T]) -> T: ...
    def result(self, task_id: str, timeout: float | None = None, *, kind: Any = None) -> Any:
        """Wait for a task's result, at most `timeout` seconds (None: for ever), looking at it
        every 2 s at least. With `kind` the result is turned into that type.

        Raises `TaskFailed`, `TaskCancelled`, `ResultExpired`, `TaskNotFound`, `TimeoutError`, and
        `RemoteError` when the result is not of that type.
        """
        return self._run(self._calls.result(task_id, timeout, kind))

    def cancel(self, task_id: str, reason: str = "") -> str:
        """Cancel a waiting task, or ask a running one to stop; returns `cancelled` or
        `cancelling`. Raises `TaskNotFound`, and `RemoteError` when it has ended."""
        return self._run(self._calls.cancel(task_id, reason))

    def retry(self, task_id: str) -> str:
        """Give a failed or cancelled task another life, with its id and arguments; returns its
        state. Raises `TaskNotFound`, and `RemoteError` when it is not one."""
        return self._run(self._calls.retry(task_id))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Remote({str(self._http.base_url)!r})"

    def _run(self, steps: Steps[T]) -> T:
        got: Answer | Lost | None = None
        while True:
            try:
                step = steps.send(got)
            except StopIteration as end:
                done: T = end.value
                return done
            got = self._do(step)

    def _do(self, step: Ask | Pause) -> Answer | Lost | None:
        if isinstance(step, Pause):
            self._sleep(step.seconds)
            return None
        try:
            response = self._http.request(
                step.method,
                step.path,
                content=step.body,
                headers=headers_of(step),
                timeout=seconds_of(step, self._timeout),
            )
        except library().RequestError as exc:
            return lost(exc)
        return answer_of(response)


class AsyncRemote:
    """As `Remote`, with `await`: `async with AsyncRemote(…) as remote`, or `await close()`. It
    belongs to the event loop that it is first used in."""

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        timeout: float = 10.0,
        patience: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock = _CLOCK,
        dice: Callable[[], float] = dice,
        new_id: Callable[[], str] = new_id,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        options = options_of(base_url, key, timeout)
        self._timeout = timeout
        self._http: httpx.AsyncClient = library().AsyncClient(transport=transport, **options)
        self._calls = Calls(Patience(patience, clock.monotonic, clock.time, dice), new_id)
        self._sleep = sleep

    async def enqueue(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        priority: int | str | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        key: str | None = None,
    ) -> Enqueued:
        """Enqueue a task: see `Remote.enqueue`."""
        task = NewTask(name, args, kwargs or {}, queue, priority, delay, at, key)
        return await self._run(self._calls.enqueue(task))

    async def enqueue_many(self, tasks: Sequence[NewTask]) -> list[Enqueued]:
        """Enqueue many tasks: see `Remote.enqueue_many`."""
        return await self._run(self._calls.enqueue_many(tasks))

    async def task(self, task_id: str) -> RemoteTask:
        """Return what is known of a task. Raises `TaskNotFound`."""
        return await self._run(self._calls.task(task_id))

    @overload
    async def result(self, task_id: str, timeout: float | None = None) -> Any: ...
    @overload
    async def result(self, task_id: str, timeout: float | None = None, *, kind: type[T]) -> T: ...
    async def result(self, task_id: str, timeout: float | None = None, *, kind: Any = None) -> Any:
        """Wait for a task's result: see `Remote.result`."""
        return await self._run(self._calls.result(task_id, timeout, kind))

    async def cancel(self, task_id: str, reason: str = "") -> str:
        """Cancel a task: see `Remote.cancel`."""
        return await self._run(self._calls.cancel(task_id, reason))

    async def retry(self, task_id: str) -> str:
        """Give a dead letter another life: see `Remote.retry`."""
        return await self._run(self._calls.retry(task_id))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncRemote({str(self._http.base_url)!r})"

    async def _run(self, steps: Steps[T]) -> T:
        got: Answer | Lost | None = None
        while True:
            try:
                step = steps.send(got)
            except StopIteration as end:
                done: T = end.value
                return done
            got = await self._do(step)

    async def _do(self, step: Ask | Pause) -> Answer | Lost | None:
        if isinstance(step, Pause):
            await self._sleep(step.seconds)
            return None
        try:
            response = await self._http.request(
                step.method,
                step.path,
                content=step.body,
                headers=headers_of(step),
                timeout=seconds_of(step, self._timeout),
            )
        except library().RequestError as exc:
            return lost(exc)
        return answer_of(response)
