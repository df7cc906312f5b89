"""From what the broker or the history knows of a task to what goes over the wire."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from conveyor.inspect import Reason, TaskInfo
from conveyor_console.history.models import Task, TaskExecution
from conveyor_console.history.queries import Whole
from conveyor_console.history.rows import as_json
from conveyor_console.kit.moments import moment, since
from conveyor_console.tasks.enqueueing import CREATED_BY
from conveyor_console.tasks.schemas import (
    ErrorOut,
    ExecutionOut,
    ProgressOut,
    ReasonOut,
    TaskOut,
    TaskWhole,
)


def _plain(value: Any) -> Any:
    """Return values of MessagePack as those that JSON has."""
    return json.loads(as_json(value))


def of_queue(info: TaskInfo) -> TaskOut:
    """Show what the broker knows."""
    return TaskOut(**_of_queue(info))


def _of_queue(info: TaskInfo) -> dict[str, Any]:
    terms, error = info.terms, info.error
    last = info.executions[-1] if info.executions else None
    ended = last is not None and info.state.is_final
    return {
        "id": info.id,
        "name": info.name,
        "queue": info.queue,
        "priority": info.priority,
        "state": info.state.value,
        "flags": list(info.flags),
        "key": info.key,
        "args": _plain(info.args),
        "kwargs": _plain(info.kwargs),
        "enqueued_at": since(info.enqueued_at),
        "due_at": moment(info.due_at),
        "started_at": moment(info.started_at),
        "finished_at": moment(info.finished_at),
        "run_seconds": last.duration if ended and last is not None else None,
        "execution": info.execution,
        "attempts": info.attempts,
        "max_attempts": info.max_attempts,
        "timeout": info.timeout,
        "worker": info.worker,
        "progress": None
        if info.progress is None
        else ProgressOut(
            done=info.progress.done, total=info.progress.total, message=info.progress.message
        ),
        "error": None if error is None else ErrorOut(type=error.type, message=error.message),
        "reason": info.reason,
        "created_by": info.headers.get(CREATED_BY),
        "schedule": None if terms is None else terms.schedule,
        "scheduled_for": None if terms is None else moment(terms.scheduled_for),
        "workflow_id": None if terms is None else terms.flow,
    }


def of_history(task: Task) -> TaskOut:
    """Show what the history knows."""
    return TaskOut(**_of_history(task))


def _of_history(task: Task) -> dict[str, Any]:
    args, kwargs = _call_of(task.call)
    return {
        "id": task.id,
        "name": task.name,
        "queue": task.queue,
        "priority": task.priority,
        "state": task.state,
        "flags": task.flags.split(),
        "key": task.key,
        "args": args,
        "kwargs": kwargs,
        "enqueued_at": since(task.enqueued_at),
        "due_at": None,
        "started_at": moment(task.started_at),
        "finished_at": moment(task.finished_at),
        "run_seconds": task.run,
        "execution": task.execution,
        "attempts": task.attempts,
        "max_attempts": task.max_attempts,
        "timeout": task.timeout,
        "worker": task.worker,
        "progress": None,
        "error": None
        if task.error_type is None
        else ErrorOut(type=task.error_type, message=task.error or ""),
        "reason": task.reason,
        "created_by": task.created_by,
        "schedule": task.schedule,
        "scheduled_for": moment(task.scheduled_for),
        "workflow_id": task.flow,
    }


def _call_of(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Read a call back; one that an earlier version could not say in JSON is a text."""
    call = json.loads(text)
    return ([call], {}) if isinstance(call, str) else (call[0], call[1])


def whole_of_queue(info: TaskInfo, result: tuple[Any] | None) -> TaskWhole:
    """Show everything that the broker knows, and the result, if there is one."""
    executions = [
        ExecutionOut(
            number=one.number,
            attempt=one.attempt,
            outcome=one.outcome,
            worker=one.worker,
            started_at=since(one.started_at),
            seconds=one.duration,
            code_version=one.code_version,
            retry_in=one.retry_in,
            error=None
            if one.error is None
            else ErrorOut(
                type=one.error.type, message=one.error.message, traceback=one.error.traceback
            ),
            logs=list(one.logs),
        )
        for one in info.executions
    ]
    return TaskWhole(
        **_of_queue(info),
        headers=info.headers,
        executions=executions,
        result=None if result is None else _plain(result[0]),
        has_result=result is not None,
    )


def whole_of_history(found: Whole) -> TaskWhole:
    """Show everything that the history knows."""
    executions = [_execution(one, found.logs.get(one.number)) for one in found.executions]
    return TaskWhole(
        **_of_history(found.task),
        headers=json.loads(found.task.headers),
        executions=executions,
        result=None if found.result is None else json.loads(found.result),
        has_result=found.has_result,
    )


def _execution(one: TaskExecution, logs: str | None) -> ExecutionOut:
    lines: Sequence[str] = [] if logs is None else json.loads(logs)
    error = None
    if one.error_type is not None:
        error = ErrorOut(
            type=one.error_type, message=one.error or "", traceback=one.traceback or ""
        )
    return ExecutionOut(
        number=one.number,
        attempt=one.attempt,
        outcome=one.outcome,
        worker=one.worker,
        started_at=since(one.started_at),
        seconds=one.duration,
        code_version=one.code_version,
        retry_in=one.retry_in,
        error=error,
        logs=list(lines),
    )


def reason_out(reason: Reason) -> ReasonOut:
    """Show why a task is not running."""
    return ReasonOut(
        code=reason.code,
        text=reason.text,
        opens=reason.opens,
        at=moment(reason.at),
        task_ids=list(reason.ids),
    )
