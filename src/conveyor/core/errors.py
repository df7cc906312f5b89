"""Everything Conveyor raises. The public door is `conveyor.errors`.

ConveyorError
├── InvalidOption (ValueError)      an option makes no sense
│   ├── InvalidURL                  the broker URL cannot be used
│   └── InvalidWorkflow             a workflow, or a condition in one, makes no sense
├── InvalidArguments (TypeError)    the call does not fit the task's signature
├── NotSerialisable (TypeError)     an argument or result has no MessagePack form
├── PayloadTooLarge (ValueError)    arguments or result above the size limit
├── UnknownTask (LookupError)       no task definition has this name
├── TaskNotFound (LookupError)      no task has this id
├── ScheduleNotFound (LookupError)  no schedule has this name
├── ScheduleChanged                 it is not what the caller has seen any more
├── WorkerNotFound (LookupError)    no worker that lives has this id
├── WorkflowNotFound (LookupError)  no run of a workflow has this id
├── IdempotencyConflict             same key, other arguments
├── NotUnique                       another such task is in its way
├── BrokerError
│   ├── BrokerUnavailable           nothing was sent
│   ├── BrokerFull                  the store has no room; nothing was stored
│   ├── EnqueueUnknown              sent, reply lost three times: may or may not be stored
│   ├── SchemaMismatch              the store's schema is missing, older or newer
│   └── DurabilityUnmet             the server does not keep what the URL asks for
├── TaskError
│   ├── TaskFailed                  dead-lettered; carries the remote traceback
│   └── TaskCancelled               someone cancelled it
├── ResultExpired                   it succeeded, but its result is past its TTL
├── StaleExecution                  a newer lease exists; this write was refused
├── InDoubt                         an effect was begun, and nobody knows how it ended
├── RemoteError                     a console that was asked over HTTP said no, or nonsense
│   ├── NotPermitted                the key is not known there, or may not do this
│   └── RemoteUnavailable           no answer, or "come back later", until patience ran out
└── NotInTask (RuntimeError)        current_task() outside of a task
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ConveyorError(Exception):
    """Base of every error Conveyor raises."""


class InvalidOption(ConveyorError, ValueError):
    """An option makes no sense; the message names it and what would."""


class InvalidURL(InvalidOption):
    """The broker URL cannot be used; the message says which part (never its password)."""


class InvalidWorkflow(InvalidOption):
    """A workflow makes no sense; the message names the node or the place in its condition."""


class InvalidArguments(ConveyorError, TypeError):
    """The arguments of an enqueue do not fit the task's signature. Nothing was enqueued."""


class NotSerialisable(ConveyorError, TypeError):
    """A value has no MessagePack form; the message says where it sits and its type."""


class PayloadTooLarge(ConveyorError, ValueError):
    """Arguments or a result are above the size limit (bytes). Nothing was stored."""


class UnknownTask(ConveyorError, LookupError):
    """No task definition has this name; the message offers the nearest ones."""

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        names = sorted(known)
        near = _close(name, names) or _same_end(name, names)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        if not near and names:
            hint = f"; known here: {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
        super().__init__(f"no task is named {name!r}{hint}")
        self.name = name


def _close(name: str, known: Iterable[str]) -> list[str]:
    # Most processes never need it.
    from difflib import get_close_matches

    return get_close_matches(name, known, n=3, cutoff=0.5)


def _same_end(name: str, known: list[str]) -> list[str]:
    """Names whose last part is like the last part of `name`: the module was left out."""
    ends: dict[str, list[str]] = {}
    for entry in known:
        ends.setdefault(entry.rpartition(".")[2], []).append(entry)
    near = _close(name.rpartition(".")[2], ends)
    return [entry for end in near for entry in ends[end]][:3]


class TaskNotFound(ConveyorError, LookupError):
    """No task has this id: it never existed, or retention has pruned it."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"no task has the id {task_id!r}: mistyped, or pruned by retention")
        self.task_id = task_id


class ScheduleNotFound(ConveyorError, LookupError):
    """No schedule has this name; the message offers the nearest ones where they are known."""

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        near = _close(name, sorted(known))
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        super().__init__(f"no schedule is named {name!r}{hint}")
        self.name = name


class ScheduleChanged(ConveyorError):
    """The schedule was changed since the version that the caller has seen. Nothing was changed."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(
            f"schedule {name!r} is at version {version} by now: look at it again, then change it"
        )
        self.version = version


class WorkerNotFound(ConveyorError, LookupError):
    """No worker with this id has a live lease."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(f"no worker that lives has the id {worker_id!r}: list them first")
        self.worker_id = worker_id


class WorkflowNotFound(ConveyorError, LookupError):
    """No run of a workflow has this id: it never existed, or retention has pruned it."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"no workflow run has the id {run_id!r}: mistyped, or pruned by retention")
        self.run_id = run_id


class IdempotencyConflict(ConveyorError):
    """The key is taken by a task with other arguments. Nothing was enqueued."""

    def __init__(self, key: str, task_id: str) -> None:
        super().__init__(
            f"key {key!r} already belongs to task {task_id} with other arguments; "
            "use another key, or the same arguments to get that task"
        )
        self.key = key
        self.task_id = task_id


class NotUnique(ConveyorError):
    """Another task like this one is in its way (`unique=`). Nothing was enqueued."""

    def __init__(self, name: str, task_id: str) -> None:
        super().__init__(
            f"task {task_id} of {name!r} is in the way (unique=); wait for its end, or let "
            "on_conflict return or replace it"
        )
        self.task_id = task_id


class BrokerError(ConveyorError):
    """The store could not do what was asked."""


class BrokerUnavailable(BrokerError):
    """The store cannot be reached; nothing was sent, so it is safe to try again."""


class BrokerFull(BrokerError):
    """The store has no room left; nothing was stored."""


class EnqueueUnknown(BrokerError):
    """Sent, but every reply was lost: the tasks may or may not be stored. Enqueueing again with
    the same ids (`error.ids`) cannot duplicate them.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = tuple(ids)
        shown = ", ".join(self.ids[:3]) + (" …" if len(self.ids) > 3 else "")
        super().__init__(
            f"{len(self.ids)} task(s) were sent but no reply came in three tries: they may or may "
            f"not be stored ({shown}); look them up by id before enqueueing again"
        )


class SchemaMismatch(BrokerError):
    """The store's schema is missing, older or newer than this version of Conveyor needs."""


class DurabilityUnmet(BrokerError):
    """The server does not keep writes as the URL's `durability` asks; nothing was started."""


class TaskError(ConveyorError):
    """A task did not succeed. Raised by `handle.result()`."""

    def __init__(self, message: str, task_id: str) -> None:
        super().__init__(message)
        self.task_id = task_id


class TaskFailed(TaskError):
    """The task is a dead letter: it failed for good, timed out, was rejected or kept crashing.

    `error_type` and `error_message` say what the last execution ended in, `remote_traceback` is
    its traceback as text (empty when there was none).
    """

    def __init__(
        self, task_id: str, error_type: str, error_message: str, remote_traceback: str = ""
    ) -> None:
        text = f"task {task_id} failed: {error_type}: {error_message}"
        if remote_traceback:
            text += f"\n\nremote traceback:\n{remote_traceback}"
        super().__init__(text, task_id)
        self.error_type = error_type
        self.error_message = error_message
        self.remote_traceback = remote_traceback


class TaskCancelled(TaskError):
    """The task was cancelled, so there is no result."""

    def __init__(self, task_id: str, reason: str = "") -> None:
        why = f"cancelled: {reason}" if reason else "cancelled"
        # The store's sentence may begin with the word already: "cancelled by ada: too late".
        ended = reason if reason.startswith("cancelled") else why
        super().__init__(f"task {task_id} was {ended}", task_id)


class ResultExpired(ConveyorError):
    """The task succeeded, but its result is past its time to live."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"task {task_id} succeeded, but its result has expired (result_ttl)")
        self.task_id = task_id


class StaleExecution(ConveyorError):
    """A newer lease of the task exists; this execution's write was refused and changed nothing."""


class InDoubt(ConveyorError):
    """An effect was begun by an execution that did not live to say how it ended. The task becomes
    a dead letter until somebody decides."""


class RemoteError(ConveyorError):
    """A console that was asked over HTTP refused, or answered something else than a console does.
    `status` is that of its answer, None when there was none."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class NotPermitted(RemoteError):
    """The console does not know the API key (401), or the key may not do this (403)."""


class RemoteUnavailable(RemoteError):
    """The console could not be reached, or said that it has no time, until patience ran out.

    `done` is False when nothing was done, None when nobody knows: the request was sent and the
    answer was lost. `retry_after` are the seconds that the console asks to wait, if it said so.
    """

    def __init__(
        self,
        sentence: str,
        status: int | None = None,
        *,
        done: bool | None = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(sentence, status)
        self.done = done
        self.retry_after = retry_after


class NotInTask(ConveyorError, RuntimeError):
    """`current_task()` was called outside of a running task."""
