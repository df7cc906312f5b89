"""The public door to workflows: build them with `app.workflow(name)`."""

from conveyor.flows.builder import Workflow
from conveyor.flows.export import to_mermaid
from conveyor.flows.handle import WorkflowHandle
from conveyor.flows.nodes import MapNode, Node
from conveyor.flows.overview import NodeInfo, RunInfo
from conveyor.flows.steps import step, step_sync
from conveyor.flows.streams import Results

__all__ = [
    "MapNode",
    "Node",
    "NodeInfo",
    "Results",
    "RunInfo",
    "Workflow",
    "WorkflowHandle",
    "step",
    "step_sync",
    "to_mermaid",
]
