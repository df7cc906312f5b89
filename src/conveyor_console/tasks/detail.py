"""One task, wherever it is known."""

from __future__ import annotations

from typing import Any

import msgspec

from conveyor.errors import TaskNotFound, WorkflowNotFound
from conveyor.inspect import State, TaskInfo
from conveyor_console.console import Console
from conveyor_console.history.queries import whole
from conveyor_console.kit.problems import Problem
from conveyor_console.tasks.schemas import Relative, TaskWhole
from conveyor_console.tasks.showing import whole_of_history, whole_of_queue


async def detail(console: Console, task_id: str) -> TaskWhole:
    """Return all that is known of a task: by the broker while it knows it, else by the history.
    Raises `TaskNotFound`."""
    inspector = await console.queue.inspector()
    try:
        info = await inspector.get(task_id)
    except TaskNotFound:
        async with console.database.reading() as db:
            found = await whole(db, task_id)
        if found is None:
            raise
        return await _with_relatives(console, whole_of_history(found))
    result = await _result(console, info)
    return await _with_relatives(console, whole_of_queue(info, result))


async def _result(console: Console, info: TaskInfo) -> tuple[Any] | None:
    """Return the result of a task, if it has one; the history has it longer than the broker."""
    if info.state is not State.SUCCEEDED:
        return None
    inspector = await console.queue.inspector()
    for one in await inspector.finished([info.id], {info.id: info.queue}):
        if one.result is not None:
            return (msgspec.msgpack.decode(one.result),)
    async with console.database.reading() as db:
        found = await whole(db, info.id)
    if found is None or not found.has_result:
        return None
    return (None if found.result is None else msgspec.json.decode(found.result),)


async def _with_relatives(console: Console, task: TaskWhole) -> TaskWhole:
    if task.workflow_id is None:
        return task
    try:
        run = await console.queue.workflow_handle(task.workflow_id).info()
    except WorkflowNotFound:
        return task
    mine = next((node for node in run.nodes if node.task_id == task.id), None)
    if mine is None:
        return task
    shown = {
        node.name: Relative(node=node.name, state=node.state.value, task_id=node.task_id)
        for node in run.nodes
    }
    parents = [shown[name] for name in mine.parents if name in shown]
    children = [shown[node.name] for node in run.nodes if mine.name in node.parents]
    return task.model_copy(update={"parents": parents, "children": children})


async def must_be_in_queue(console: Console, task_id: str) -> TaskInfo:
    """Return a task that the broker knows. Raises `Problem` 409 for one that only the history
    knows, `TaskNotFound` for one that nobody does."""
    inspector = await console.queue.inspector()
    try:
        return await inspector.get(task_id)
    except TaskNotFound:
        async with console.database.reading() as db:
            if await whole(db, task_id) is None:
                raise
        raise Problem(
            409,
            f"task {task_id} has ended and the queue keeps it no longer; enqueue a new one with "
            "POST /api/v1/tasks",
        ) from None
