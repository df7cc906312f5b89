"""The caller's side: coalesced pushes, handles, and waiting for results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice
from math import isnan
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from conveyor.brokers.explain import explain
from conveyor.core.amounts import is_number
from conveyor.core.codec import decode
from conveyor.core.errors import (
    ConveyorError,
    IdempotencyConflict,
    InvalidOption,
    NotUnique,
    ResultExpired,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
)
from conveyor.core.options import stored_text, when
from conveyor.core.task import Final, NewTask, State, Task, TaskInfo
from conveyor.core.why import Reason
from conveyor.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from conveyor.brokers.base import Broker, Pushed

T = TypeVar("T")
FLUSH = 1_000
"""Tasks that share one round trip at most."""
_FIRST_LOOK, _LONGEST_PAUSE = 0.001, 0.1
_NOT_YET = 0.02
_REPEATED = 10_000
UNTIL_COMMITTED = 10.0
"""Seconds that a handle waits for the commit of the session its task was enqueued with."""


class TaskHandle(Generic[T]):
    """A task that was enqueued. `created` is False when its key named an older task."""

    __slots__ = ("_client", "_decode", "_patience", "created", "id")

    def __init__(
        self,
        task_id: str,
        client: Client,
        decode_result: Callable[[bytes], T],
        created: bool,
        *,
        patience: float = 0.0,
    ) -> None:
        self.id = task_id
        self.created = created
        self._client = client
        self._decode = decode_result
        self._patience = patience

    async def result(self, timeout: float | None = None) -> T:
        """Wait for the task's result, at most `timeout` seconds (None: for ever).

        Raises `TaskFailed` with the remote traceback (also for a task that timed out or was
        rejected), `TaskCancelled`, `ResultExpired`, `TaskNotFound`, or `TimeoutError`. Of a task
        that was enqueued with a session, the store may not know before the commit: that counts as
        not found after ten seconds only.
        """
        final = await self._final(timeout)
        if final.state is State.CANCELLED:
            raise TaskCancelled(self.id, (await self.info()).reason or "")
        return self._decode(result_of(final))

    async def _final(self, timeout: float | None) -> Final:
        if not self._patience:
            return await self._client.wait(self.id, timeout)
        now = asyncio.get_running_loop().time
        began = now()
        while True:
            self._follow()
            left = None if timeout is None else max(0.0, timeout - (now() - began))
            try:
                return await self._client.wait(self.id, left)
            except TaskNotFound:
                if now() - began >= self._patience or left == 0:
                    raise
            await asyncio.sleep(_NOT_YET)

    def _follow(self) -> None:
        """Through an outbox it shows after the commit that the task is an older one."""
        if self._patience and (older := self._client.repeated.get(self.id)) is not None:
            self.id, self.created = older, False

    def result_sync(self, timeout: float | None = None) -> T:
        """Wait for the result from synchronous code; as `result`."""
        value: T = self._client.call_sync(self.result(timeout))
        return value

    async def status(self) -> State:
        """Return the task's state now. Raises `TaskNotFound`."""
        return (await self.info()).state

    async def info(self) -> TaskInfo:
        """Return everything the broker knows of the task. Raises `TaskNotFound`."""
        self._follow()
        return await self._client.broker.inspector.get(self.id)

    async def why(self) -> list[Reason]:
        """Say why the task is not running: every gate it stands before, the most decisive first,
        with what opens it. Raises `TaskNotFound`."""
        self._follow()
        return await explain(self._client.broker, self.id, SystemClock.time())

    async def cancel(self, reason: str = "") -> State:
        """Ask the task to stop and return its state after the call: `cancelled` when it was still
        waiting, `running` when its worker has been told, a final state when it was too late.
        Raises `TaskNotFound`, or `InvalidOption` for a reason that is no text."""
        stored_text(reason, "reason")
        self._follow()
        states = await self._client.broker.cancel([self.id], reason=reason)
        if self.id not in states:
            raise TaskNotFound(self.id)
        return states[self.id]

    async def reschedule(
        self, *, delay: float | timedelta | None = None, at: datetime | None = None
    ) -> bool:
        """Let a scheduled task start at another time, sooner or later: after `delay` (seconds or
        timedelta, by the broker's clock; 0 is now) or `at` (aware datetime). Everything else of it
        stays. Says whether it was scheduled still: else nothing changes. Raises `TaskNotFound`, or
        `InvalidOption` for no time or one that makes no sense."""
        chosen = when(delay, at)
        if not chosen:
            raise InvalidOption("reschedule() without a time: give it delay= or at=")
        self._follow()
        if await self._client.broker.reschedule([self.id], **chosen):
            return True
        await self.info()
        return False

    def reschedule_sync(
        self, *, delay: float | timedelta | None = None, at: datetime | None = None
    ) -> bool:
        """Let it start at another time, from synchronous code; as `reschedule`."""
        return bool(self._client.call_sync(self.reschedule(delay=delay, at=at)))

    def __repr__(self) -> str:
        return f"<handle of task {self.id}>"


def result_of(final: Final) -> bytes:
    """Return the encoded result, or raise what the task ended in."""
    if final.state is not State.SUCCEEDED:
        error = final.error
        kind, message, trace = (
            (error.type, error.message, error.traceback)
            if error
            else ("Unknown", "no error was recorded", "")
        )
        raise TaskFailed(final.id, kind, message, trace)
    if final.result is None:
        raise ResultExpired(final.id)
    return final.result


class Client:
    """One event loop's way to the broker.

    Concurrent single pushes gather into one flush: while one flush is in flight the next fills.
    There is no timer, so a lone push never waits.
    """

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.loop = asyncio.get_running_loop()
        self._waiting: list[tuple[NewTask, asyncio.Future[Pushed]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._results = ResultWatch(broker)
        self.homes: Any = None
        """What `conveyor.transactions` knows of the broker."""
        self.repeated: dict[str, str] = {}
        """Tasks of an outbox that were older ones: the newest ten thousand."""

    def repeats(self, task_id: str, older: str) -> None:
        """Note that a task of an outbox was an older one, for its handles."""
        self.repeated[task_id] = older
        if len(self.repeated) > _REPEATED:
            del self.repeated[next(iter(self.repeated))]

    async def close(self) -> None:
        """Finish what is being pushed, stop waiting for results, close the broker."""
        if self._flusher is not None:
            await asyncio.wait([self._flusher])
        await self._results.close()
        await self.broker.close()

    def call_sync(self, coroutine: Any) -> Any:
        """Run a coroutine of this client from another thread and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    async def push(self, task: NewTask) -> Pushed:
        """Push one task, sharing the round trip with whoever pushes at the same moment."""
        future: asyncio.Future[Pushed] = self.loop.create_future()
        self._waiting.append((task, future))
        if self._flusher is None:
            self._flusher = self.loop.create_task(self._flush(), name="conveyor-flush")
        return await future

    async def push_many(self, tasks: Sequence[NewTask]) -> list[Pushed]:
        """Push many tasks, one round trip per thousand. Answers in order."""
        pushed: list[Pushed] = []
        for chunk in chunks(tasks):
            pushed += await self.broker.push(chunk)
        return pushed

    async def wait(self, task_id: str, timeout: float | None) -> Final:
        """Wait until a task is final. Raises `TimeoutError` or `TaskNotFound`."""
        return await self._results.wait(task_id, timeout)

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:FLUSH], self._waiting[FLUSH:]
                await self._flush_one(batch)
        finally:
            self._flusher = None

    async def _flush_one(self, batch: list[tuple[NewTask, asyncio.Future[Pushed]]]) -> None:
        try:
            answers = await self.broker.push([task for task, _ in batch])
        except Exception as exc:  # noqa: BLE001 - every caller gets it
            for _, future in batch:
                if not future.done():
                    future.set_exception(exc)
                    future.exception()
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)


def created_or_raise(pushed: Pushed, task: Task) -> bool:
    """Return whether a task was created. Raises `IdempotencyConflict` or `NotUnique`."""
    if pushed.conflict:
        raise conflict_of(pushed, task)
    return pushed.created


def conflict_of(pushed: Pushed, task: Task) -> IdempotencyConflict | NotUnique:
    """Return the error for a task that another one kept out."""
    if task.key is not None:
        return IdempotencyConflict(task.key, pushed.id)
    return NotUnique(task.name, pushed.id)


def chunks(tasks: Sequence[NewTask]) -> Iterator[list[NewTask]]:
    """Cut a sequence into flushes."""
    rest = iter(tasks)
    while chunk := list(islice(rest, FLUSH)):
        yield chunk


class ResultWatch:
    """All waits for results of one client share one poll, whose pause grows from 1 to 100 ms."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiters: dict[str, list[asyncio.Future[Final]]] = {}
        self._poller: asyncio.Task[None] | None = None
        self._pause = _FIRST_LOOK

    async def wait(self, task_id: str, timeout: float | None) -> Final:
        """Wait for one task."""
        if timeout is not None and (not is_number(timeout) or isnan(timeout)):
            raise InvalidOption(f"timeout={timeout!r}: seconds, or None to wait for ever")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Final] = loop.create_future()
        self._waiters.setdefault(task_id, []).append(future)
        self._pause = _FIRST_LOOK
        if self._poller is None:
            self._poller = loop.create_task(self._poll(), name="conveyor-results")
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise TimeoutError(
                f"task {task_id} was not finished within {timeout:g} s; it goes on"
            ) from None
        finally:
            self._forget(task_id, future)

    async def close(self) -> None:
        """Stop polling; whoever still waits is told."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait([self._poller])
        self._tell_all(ConveyorError("the app was closed while waiting for a result"))

    def _forget(self, task_id: str, future: asyncio.Future[Final]) -> None:
        futures = self._waiters.get(task_id, [])
        if future in futures:
            futures.remove(future)
        if not futures:
            self._waiters.pop(task_id, None)

    async def _poll(self) -> None:
        try:
            while self._waiters:
                try:
                    await self._look()
                except TaskNotFound as exc:
                    self._tell(exc.task_id, exc)
                    continue
                except Exception as exc:  # noqa: BLE001 - nobody may wait for ever
                    self._tell_all(exc)
                    return
                await asyncio.sleep(self._pause)
                self._pause = min(self._pause * 1.5, _LONGEST_PAUSE)
        finally:
            self._poller = None

    async def _look(self) -> None:
        for ids in _slices(list(self._waiters)):
            for task_id, final in (await self._broker.finals(ids)).items():
                for future in self._waiters.pop(task_id, []):
                    if not future.done():
                        future.set_result(final)
                self._pause = _FIRST_LOOK

    def _tell(self, task_id: str, exc: Exception) -> None:
        for future in self._waiters.pop(task_id, []):
            if not future.done():
                future.set_exception(exc)

    def _tell_all(self, exc: Exception) -> None:
        for task_id in list(self._waiters):
            self._tell(task_id, exc)


def _slices(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), FLUSH):
        yield ids[start : start + FLUSH]


def decode_plain(data: bytes) -> Any:
    """Decode a result without a known type."""
    return decode(data)
