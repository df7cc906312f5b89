"""What the API says of runs in the words of the queue."""

from __future__ import annotations

from typing import Any

from conveyor import Conveyor
from conveyor.errors import InvalidWorkflow
from conveyor.workflows import WorkflowHandle
from conveyor_console.kit.problems import Problem
from conveyor_console.workflows.schemas import NewRun


async def start(app: Conveyor, new: NewRun, run_id: str) -> str:
    """Start a run under an id and return its id. Raises the queue's own errors."""
    if "self" in new.inputs:
        raise Problem(422, "an input cannot be named 'self'")
    handle = await app.workflow_from(new.definition).enqueue_as(run_id, **new.inputs)
    return handle.id


async def signal(handle: WorkflowHandle[Any], name: str, value: Any) -> None:
    """Send a signal. Raises `Problem` 409 when that changes nothing."""
    if not await handle.signal(name, value):
        status = await handle.status()
        why = "was sent before" if status == "running" else f"comes too late: the run has {status}"
        raise Problem(409, f"signal {name!r} {why}")


async def retry(handle: WorkflowHandle[Any], node: str | None) -> list[str]:
    """Run a part again. Raises `Problem` 404 for a node that is not there, 409 when nothing can be
    retried now."""
    await _must_have(handle, node)
    try:
        return await handle.retry(node)
    except InvalidWorkflow as exc:
        raise Problem(409, str(exc)) from None


async def why(handle: WorkflowHandle[Any], node: str) -> list[str]:
    """Say why a node is as it is. Raises `Problem` 404."""
    await handle.status()
    try:
        return await handle.why(node)
    except InvalidWorkflow as exc:
        raise Problem(404, str(exc)) from None


async def _must_have(handle: WorkflowHandle[Any], node: str | None) -> None:
    info = await handle.info()
    if node is not None and node not in {one.name for one in info.nodes}:
        raise Problem(404, f"no node of workflow {info.name!r} is named {node!r}")
