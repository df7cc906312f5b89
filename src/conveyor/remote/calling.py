"""What can be asked of a console, as steps: which requests, and what their answers mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload
from urllib.parse import quote

import msgspec

from conveyor.core.codec import encode_other
from conveyor.core.errors import (
    ConveyorError,
    NotSerialisable,
    RemoteError,
    ResultExpired,
    TaskCancelled,
    TaskFailed,
)
from conveyor.core.task import State
from conveyor.remote.asking import Answer, Ask, Patience, Pause, Steps, asked
from conveyor.remote.refusing import refusal
from conveyor.remote.shapes import Done, Enqueued, NewTask, RemoteTask, TasksMade

T = TypeVar("T")
_SOONEST, _LATEST = 0.05, 2.0
"""Seconds between two looks at a task that somebody waits for."""
_SHORTEST = 1.0
"""Seconds that an answer may take however little is left: `timeout=0` is one look."""


class Calls:
    """The requests of one client."""

    def __init__(self, patience: Patience, new_id: Callable[[], str]) -> None:
        self._patience = patience
        self._new_id = new_id

    def enqueue(self, task: NewTask) -> Steps[Enqueued]:
        """Enqueue one task; raises what an enqueue raises."""
        ask = self._enqueuing("/tasks", [task], lambda tasks: tasks[0])
        made = yield from self._asked(ask, Enqueued)
        return _ours(ask, made)

    def enqueue_many(self, tasks: Sequence[NewTask]) -> Steps[list[Enqueued]]:
        """Enqueue many: all or none."""
        if not tasks:
            return []
        ask = self._enqueuing("/tasks/bulk", tasks, lambda all_: {"tasks": all_})
        made = yield from self._asked(ask, TasksMade)
        return [_ours(ask, one) for one in made.items]

    def _enqueuing(
        self, path: str, tasks: Sequence[NewTask], shape: Callable[[list[Any]], Any]
    ) -> Ask:
        """Make the request so that a second one has no second effect: under one key for all of
        it, or where tasks have keys of their own, under a key for each."""
        keyed = sum(task.key is not None for task in tasks)
        base = self._new_id()
        if 0 < keyed < len(tasks):
            tasks = [
                task
                if task.key is not None
                else msgspec.structs.replace(task, key=f"remote:{base}:{number}")
                for number, task in enumerate(tasks)
            ]
        body = _json(shape([_plain(task) for task in tasks]))
        return Ask("POST", path, body, None if keyed else base)

    def task(self, task_id: str) -> Steps[RemoteTask]:
        """Look at a task. Raises `TaskNotFound`."""
        return self._asked(Ask("GET", _path(task_id)), RemoteTask)

    def result(self, task_id: str, timeout: float | None, kind: Any) -> Steps[Any]:
        """Wait for a result. Raises `TaskFailed`, `TaskCancelled`, `ResultExpired`,
        `TimeoutError`."""
        began, pause = self._patience.monotonic(), _SOONEST
        while True:
            task = yield from self._look(task_id, timeout, began)
            if task.is_final:
                return _value(task, kind)
            if timeout is not None:
                left = timeout - (self._patience.monotonic() - began)
                if left <= 0:
                    raise TimeoutError(
                        f"task {task_id} has not ended within {timeout:g} s: "
                        f"it is {task.state.value}"
                    )
                pause = min(pause, left)
            yield Pause(pause)
            pause = min(max(pause, _SOONEST) * 1.5, _LATEST)

    def _look(self, task_id: str, timeout: float | None, began: float) -> Steps[RemoteTask]:
        """Look at a task, for as long as its waiter still waits."""
        if timeout is None:
            return (yield from self.task(task_id))
        left = max(0.0, timeout - (self._patience.monotonic() - began))
        patience = self._patience._replace(seconds=min(self._patience.seconds, left))
        ask = Ask("GET", _path(task_id), seconds=max(left, _SHORTEST))
        return _read((yield from asked(ask, patience)), RemoteTask)

    def cancel(self, task_id: str, reason: str) -> Steps[str]:
        """Cancel a task. Raises `TaskNotFound`, `RemoteError` (409) when it has ended."""
        ask = Ask("POST", f"{_path(task_id)}/cancel", _json({"reason": reason}))
        answer = yield from asked(ask, self._patience)
        if answer.status == 409 and answer.tries > 1:
            # An earlier try may have done it, and its answer was lost.
            task = yield from self.task(task_id)
            if task.state is State.CANCELLED:
                return task.state.value
        return _read(answer, Done).state

    def retry(self, task_id: str) -> Steps[str]:
        """Retry a dead letter. Raises `TaskNotFound`, `RemoteError` (409)."""
        # Not repeated in doubt: it may have failed again by then, and would get a third life.
        ask = Ask("POST", f"{_path(task_id)}/retry", repeats=False)
        done = yield from self._asked(ask, Done)
        return done.state

    def _asked(self, ask: Ask, kind: type[T]) -> Steps[T]:
        return _read((yield from asked(ask, self._patience)), kind)


def _ours(ask: Ask, made: Enqueued) -> Enqueued:
    # Under a key that nobody else has it was us, even if only a repeated request was answered.
    return made if ask.idempotency_key is None else Enqueued(made.id, created=True)


def _path(task_id: str) -> str:
    return f"/tasks/{quote(task_id, safe='')}"


def _plain(task: NewTask) -> Any:
    try:
        return msgspec.to_builtins(task, enc_hook=encode_other, str_keys=True)
    except (NotImplementedError, TypeError, ValueError, RecursionError) as exc:
        raise NotSerialisable(
            f"the arguments of {task.name!r} cannot be sent as JSON: {exc}"
        ) from exc


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise NotSerialisable(
            f"the arguments cannot be sent as JSON, which has no NaN and no infinity: {exc}"
        ) from exc


def _read(answer: Answer, kind: type[T]) -> T:
    """Return what an answer holds. Raises the error that it stands for."""
    if not 200 <= answer.status < 300:
        raise refusal(answer.status, answer.body)
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.DecodeError as exc:
        raise RemoteError(
            f"the answer is not that of a console ({exc}): does the base URL lead to one?",
            answer.status,
        ) from exc


@overload
def _value(task: RemoteTask, kind: None) -> Any: ...
@overload
def _value(task: RemoteTask, kind: type[T]) -> T: ...
def _value(task: RemoteTask, kind: Any) -> Any:
    if task.state is not State.SUCCEEDED:
        raise _end_of(task)
    if task.has_result is False:
        raise ResultExpired(task.id)
    if kind is None:
        return task.result
    try:
        return msgspec.convert(task.result, kind)
    except msgspec.ValidationError as exc:
        raise RemoteError(f"the result of task {task.id} is not what was expected: {exc}") from exc


def _end_of(task: RemoteTask) -> ConveyorError:
    if task.state is State.CANCELLED:
        return TaskCancelled(task.id, task.reason or "")
    ended = (one.error for one in reversed(task.executions) if one.error is not None)
    error = next(ended, task.error)
    if error is None:
        return TaskFailed(task.id, "Unknown", task.reason or f"it is {task.state.value}")
    return TaskFailed(task.id, error.type, error.message, error.traceback)
