"""What people do to tasks, by the queue's own verbs."""

from __future__ import annotations

from typing import Any

from conveyor.inspect import State, TaskInfo
from conveyor_console.console import Console
from conveyor_console.kit.moments import utc
from conveyor_console.kit.problems import Problem
from conveyor_console.tasks.detail import must_be_in_queue
from conveyor_console.tasks.enqueueing import CREATED_BY
from conveyor_console.tasks.schemas import Done, Edited, Enqueued, Reschedule

RETRY_OF = "retry_of"
"""The header of a task that says of which one it is another try."""
_DEAD = frozenset({State.FAILED, State.CANCELLED})


async def cancel(console: Console, task_id: str, by: str, reason: str) -> Done:
    """Ask a task to stop. Raises `TaskNotFound`, `Problem` 409 when it has ended."""
    info = await must_be_in_queue(console, task_id)
    if info.state.is_final:
        raise Problem(409, f"task {task_id} has ended already: it is {info.state.value}")
    broker = (await console.queue.client()).broker
    states = await broker.cancel([task_id], by=by, reason=reason)
    state = states.get(task_id, info.state)
    return Done(id=task_id, state="cancelling" if state is State.RUNNING else state.value)


async def retry(console: Console, task_id: str) -> Done:
    """Give a dead letter another life. Raises `TaskNotFound`, `Problem` 409."""
    await must_be_in_queue(console, task_id)
    broker = (await console.queue.client()).broker
    if not await broker.requeue([task_id], dead_only=True):
        now = await must_be_in_queue(console, task_id)
        raise _not_possible("only failed and cancelled tasks can be retried", now)
    return Done(id=task_id, state=State.QUEUED.value)


async def run_now(console: Console, task_id: str) -> Done:
    """Make a scheduled task due. Raises `TaskNotFound`, `Problem` 409."""
    await must_be_in_queue(console, task_id)
    broker = (await console.queue.client()).broker
    # Never `requeue`: that would raise one that has died meanwhile.
    moved = await broker.reschedule([task_id], delay=0)
    now = await must_be_in_queue(console, task_id)
    if not moved:
        raise _not_possible("only scheduled tasks can be run now", now)
    return Done(id=task_id, state=now.state.value)


def _not_possible(otherwise: str, info: TaskInfo) -> Problem:
    return Problem(409, f"{otherwise}, and task {info.id} is {info.state.value}")


async def retry_edited(
    console: Console, task_id: str, edited: Edited, by: str, *, new_id: str
) -> Enqueued:
    """Enqueue a task like a dead letter with other arguments; the dead letter stays as it is.
    Raises `TaskNotFound`, `Problem` 409 and 422, and what an enqueue raises."""
    info = await must_be_in_queue(console, task_id)
    if info.state not in _DEAD:
        raise Problem(409, f"only dead letters are edited, and task {task_id} is {info.state}")
    args = info.args if edited.args is None else tuple(edited.args)
    kwargs = info.kwargs if edited.kwargs is None else edited.kwargs
    options: dict[str, Any] = {
        "queue": edited.queue if edited.queue is not None else info.queue,
        "priority": edited.priority if edited.priority is not None else info.priority,
    }
    return await _enqueue_like(console, info, new_id, args, kwargs, options=options, by=by)


async def reschedule(
    console: Console, task_id: str, when: Reschedule, by: str, *, new_id: str
) -> Enqueued:
    """Let a waiting task run at another time. A scheduled one is moved; one that is queued already
    is cancelled, and one like it is enqueued. Raises `TaskNotFound`, `Problem` 409 and 422, and
    what an enqueue raises."""
    if (when.delay is None) == (when.at is None):
        raise Problem(422, "give either delay (seconds) or at")
    info = await must_be_in_queue(console, task_id)
    broker = (await console.queue.client()).broker
    at = None if when.at is None else utc(when.at)
    due_at = None if at is None else at.timestamp()
    if await broker.reschedule([task_id], delay=when.delay, due_at=due_at):
        return Enqueued(id=task_id, created=False)
    moved = f"rescheduled as {new_id}"
    # By a try that was cut off: the reason begins with who did it.
    begun = info.state is State.CANCELLED and (info.reason or "").endswith(moved)
    if not begun and (info.state not in {State.SCHEDULED, State.QUEUED} or info.execution):
        raise Problem(
            409,
            "only tasks that wait for their first start are rescheduled, and task "
            f"{task_id} is {info.state.value}",
        )
    if stays := _why_it_stays(info):
        moves = "the queue moves tasks in time only while they are scheduled"
        raise Problem(409, f"task {task_id} is queued and {stays}; {moves}")
    options: dict[str, Any] = {"queue": info.queue, "priority": info.priority}
    if at is not None:
        options["at"] = at
    else:
        options["delay"] = when.delay
    _must_be_open(info.args, info.kwargs)
    console.queue.definition(info.name)
    # Cancelled first: a crash in between leaves a dead letter that says why, not two tasks.
    states = await broker.cancel([task_id], by=by, reason=moved)
    if states.get(task_id) is not State.CANCELLED:
        raise Problem(409, f"task {task_id} has started meanwhile")
    return await _enqueue_like(
        console, info, new_id, info.args, info.kwargs, options=options, by=by
    )


def _why_it_stays(info: TaskInfo) -> str | None:
    """Say why no other task can take the place of a queued one, and what to do; None if one can.
    Limits keep nobody: one like it has the same."""
    anew = "cancel it and enqueue it anew"
    if info.key is not None:
        return (
            "has a key, which names it also when it is cancelled: cancel it, discard the dead "
            "letter, which frees the key, and enqueue it anew"
        )
    if info.terms is None:
        return None
    if info.terms.flow is not None:
        return "is part of a workflow, which waits for this very task"
    if info.terms.schedule is not None:
        return f"was enqueued by the schedule {info.terms.schedule!r}: {anew}"
    return None if info.terms.unique is None else f"is unique: {anew}"


async def _enqueue_like(
    console: Console,
    info: TaskInfo,
    new_id: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    options: dict[str, Any],
    by: str,
) -> Enqueued:
    _must_be_open(args, kwargs)
    definition = console.queue.definition(info.name)
    headers = {**info.headers, CREATED_BY: by, RETRY_OF: info.id}
    call = definition.with_options(
        headers=headers, max_attempts=info.max_attempts, timeout=info.timeout, **options
    ).bind(*args, **kwargs)
    handle = await console.queue.dispatch(call.checked(), task_id=new_id)
    return Enqueued(id=handle.id, created=handle.created)


def _must_be_open(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise `Problem` when an argument is the note that stands for a sealed or stored one."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, str) and (
            value.startswith("<sealed with key ") or value.endswith(" bytes in the blob store>")
        ):
            raise Problem(
                422,
                "an argument is sealed or kept elsewhere and cannot be read here: give all "
                "arguments anew",
            )
