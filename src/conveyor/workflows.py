"""The public door to workflows: build them with `app.workflow(name)`, look at their runs here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from conveyor.core.run import Run
from conveyor.flows.builder import Workflow
from conveyor.flows.export import to_mermaid, to_plain
from conveyor.flows.handle import WorkflowHandle
from conveyor.flows.listing import page
from conveyor.flows.nodes import MapNode, Node
from conveyor.flows.overview import NodeInfo, RunInfo, overview
from conveyor.flows.runs import Runs
from conveyor.flows.steps import step, step_sync
from conveyor.flows.streams import Results

if TYPE_CHECKING:
    from conveyor.app import Conveyor

__all__ = [
    "EdgeInfo",
    "MapNode",
    "Node",
    "NodeInfo",
    "Results",
    "Run",
    "RunInfo",
    "Workflow",
    "WorkflowHandle",
    "definition_of",
    "edges_of",
    "mermaid_of",
    "runs",
    "step",
    "step_sync",
    "to_mermaid",
]


class EdgeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A node of a run waits for another."""

    parent: str
    child: str
    mode: str
    """What the parent must have come to: success, optional, end, failure."""


async def runs(
    app: Conveyor, *, status: str | None = None, before: str | None = None, limit: int = 50
) -> list[Run]:
    """Return runs without their nodes, the newest first; `before` is the id of the last one of the
    page before."""
    return await page(await _runs(app), limit, status=status, before=before)


async def edges_of(app: Conveyor, run_id: str) -> list[EdgeInfo]:
    """Return who waits for whom. Raises `WorkflowNotFound`."""
    graph = (await (await _runs(app)).get(run_id)).plan.graph
    return [
        EdgeInfo(parent=graph.nodes[edge.parent].name, child=node.name, mode=edge.mode)
        for node in graph.nodes
        for edge in node.edges
    ]


async def mermaid_of(app: Conveyor, run_id: str) -> str:
    """Return a run as a Mermaid flowchart in the colours of its states. Raises
    `WorkflowNotFound`."""
    found = await _runs(app)
    info = await overview(found, run_id)
    states = {node.name: str(node.state) for node in info.nodes}
    return to_mermaid((await found.get(run_id)).plan.graph, states)


async def definition_of(app: Conveyor, run_id: str) -> dict[str, Any]:
    """Return the definition of a run's workflow, as `app.workflow_from` takes it. Raises
    `WorkflowNotFound`, and `InvalidWorkflow` for what JSON cannot say."""
    return to_plain((await (await _runs(app)).get(run_id)).plan.graph)


async def _runs(app: Conveyor) -> Runs:
    return Runs((await app.client()).broker, app.clock)
