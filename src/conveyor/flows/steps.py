"""Durable steps inside one task: what was done once is not done again by the next attempt."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

import msgspec

from conveyor.context import CurrentTask, current_task
from conveyor.core.codec import decoder, encode
from conveyor.core.errors import InvalidOption, NotInTask, StaleExecution, TaskNotFound
from conveyor.core.signature import Signature

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.brokers.documents import Documents

P = ParamSpec("P")
T = TypeVar("T")
STEP = "step"
MAX_NAME = 100


class Memo(msgspec.Struct, frozen=True, array_like=True):
    """What a step has returned, and in which execution."""

    execution: int
    result: bytes


@overload
async def step(
    name: str, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
) -> T: ...
@overload
async def step(name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
async def step(name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call `fn` once for all attempts of the running task: its result is stored under `name`, and
    an attempt that comes to the step again gets the stored one.

    A step that raises is not stored. A crash inside it, or before its result was stored, runs it
    again: hand `current_task().idempotency_key` to services that can tell a repeat. A function that
    is not async runs in a thread. The result is decoded by the annotation of `fn`, also the first
    time. Raises `InvalidOption` when the name was used in this execution already, `StaleExecution`
    when a newer execution of the task has come so far.
    """
    task = current_task()
    _take_name(task, name)
    decode = decoder(Signature(fn, name).returns)
    found = await _recalled(task, name)
    if found is None:
        result = await _call(fn, args, kwargs)
        found = await _kept(task, name, encode(result, what=f"the result of step {name}"))
    return decode(found)


def step_sync(name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Do what `step` does in a task that is not async, in a thread or in a process of its own: `fn`
    runs where the task runs. Raises `InvalidOption` for an async function, too.
    """
    task = current_task()
    if inspect.iscoroutinefunction(fn):
        raise InvalidOption(f"step_sync({name!r}): {fn!r} is async, use it in an async task")
    _take_name(task, name)
    decode: Callable[[bytes], T] = decoder(Signature(fn, name).returns)
    found = task.app.run_sync(_recalled(task, name))
    if found is None:
        result = fn(*args, **kwargs)
        encoded = encode(result, what=f"the result of step {name}")
        found = task.app.run_sync(_kept(task, name, encoded))
    return decode(found)


async def _recalled(task: CurrentTask, name: str) -> bytes | None:
    """Return what the step has returned in this task, None when it was not done."""
    key = f"{task.id}/{name}"
    found = await (await _documents(task)).get(STEP, [key])
    return _of_this_or_earlier(task, name, found[key].body) if key in found else None


async def _kept(task: CurrentTask, name: str, encoded: bytes) -> bytes:
    """Store what the step has returned, and return what counts."""
    documents, key = await _documents(task), f"{task.id}/{name}"
    memo = msgspec.msgpack.encode(Memo(task.fencing_token, encoded))
    if await documents.put(STEP, key, memo, 0) is None:
        # Another execution was faster, so this one is not to count.
        found = await documents.get(STEP, [key])
        return _of_this_or_earlier(task, name, found[key].body) if key in found else encoded
    return encoded


async def _documents(task: CurrentTask) -> Documents:
    return (await task.app.client()).broker.documents  # type: ignore[no-any-return]


def _take_name(task: CurrentTask, name: str) -> None:
    if task.app is None:
        raise NotInTask("step() was called in a task that no worker runs")
    if not name or len(name) > MAX_NAME:
        raise InvalidOption(f"step name {name!r}: from 1 to {MAX_NAME} characters")
    if name in task.steps:
        raise InvalidOption(
            f"step {name!r} was used twice in task {task.name}: number them, e.g. {name}-2"
        )
    task.steps.add(name)


def _of_this_or_earlier(task: CurrentTask, name: str, body: bytes) -> bytes:
    memo = msgspec.msgpack.decode(body, type=Memo)
    if memo.execution > task.fencing_token:
        raise StaleExecution(
            f"step {name!r} of task {task.id} was done by execution {memo.execution}, "
            f"this is {task.fencing_token}"
        )
    return memo.result


async def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(fn):
        return await fn(*args, **kwargs)
    value = await asyncio.to_thread(fn, *args, **kwargs)
    return await value if inspect.isawaitable(value) else value


async def prune_steps(broker: Broker, after: str, limit: int = 100) -> str:
    """Forget steps of tasks whose records are gone, of one page; returns where to go on."""
    page = await broker.documents.list(STEP, after=after, limit=limit)
    for task_id in dict.fromkeys(memo.id.partition("/")[0] for memo in page):
        try:
            await broker.inspector.get(task_id)
        except TaskNotFound:
            for memo in page:
                if memo.id.startswith(f"{task_id}/"):
                    await broker.documents.delete(STEP, memo.id)
    return page[-1].id if len(page) == limit else ""
