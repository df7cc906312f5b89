"""What goes over the wire about workflows."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from conveyor.workflows import EdgeInfo, NodeInfo, Run, RunInfo
from conveyor_console.kit.moments import moment, since
from conveyor_console.kit.wire import Line, Strict

Status = Literal["running", "succeeded", "failed", "cancelled"]
Name = Annotated[Line, Field(min_length=1, max_length=200)]


class NewRun(Strict):
    """A run to start: its definition in JSON, and what it is given."""

    definition: dict[str, Any]
    inputs: dict[str, Any] = Field(default={}, max_length=1_000)


class CancelIn(Strict):
    """Why; kept with the run."""

    reason: Line = Field(default="", max_length=500)


class SignalIn(Strict):
    """A signal: whatever waits for it, now or later, gets the value."""

    name: Name
    value: Any = None


class RetryIn(Strict):
    """Where to begin."""

    node: Name | None = None
    """Null: all that failed or was cancelled."""


class RunOut(BaseModel):
    """A run without its nodes."""

    id: str
    name: str
    status: Status
    created_at: datetime
    finished_at: datetime | None
    counts: dict[str, int]
    """Nodes by the state they ended in, once it is over."""
    cancelled_by: str | None
    reason: str | None
    parent: str | None
    """Id of the task that waits for it, when it is a sub-workflow."""

    @classmethod
    def of(cls, run: Run) -> RunOut:
        """Say it in terms of the API."""
        return cls(
            id=run.id,
            name=run.name,
            status=run.status,  # type: ignore[arg-type]
            created_at=since(run.created_at),
            finished_at=moment(run.finished_at),
            counts=run.counts,
            cancelled_by=run.cancel.by if run.cancel else None,
            reason=run.cancel.reason if run.cancel else None,
            parent=run.parent,
        )


class RunPage(BaseModel):
    """Runs, the newest first."""

    items: list[RunOut]
    next_cursor: str | None
    truncated: bool = False
    """The filter looked at as many runs as it may for one page: ask on with the cursor."""


class NodeOut(BaseModel):
    """A node, as it is drawn."""

    name: str
    kind: str
    task: str
    state: str
    """`blocked`: it waits for a parent."""
    task_id: str | None
    """Of the task that runs it; a map has one for each child."""
    condition: str | None
    reason: str | None
    children: int | None
    children_ended: int | None

    @classmethod
    def of(cls, node: NodeInfo) -> NodeOut:
        """Say it in terms of the API."""
        said = {name: getattr(node, name) for name in cls.model_fields}
        return cls.model_validate({**said, "state": str(node.state)})


class EdgeOut(BaseModel):
    """A node waits for another."""

    parent: str
    child: str
    mode: str
    """What the parent must have come to: success, optional, end, failure."""


class RunDetail(BaseModel):
    """A run with its graph."""

    id: str
    name: str
    status: Status
    created_at: datetime
    finished_at: datetime | None
    counts: dict[str, int]
    """Nodes by state."""
    cancelled_by: str | None
    reason: str | None
    nodes: list[NodeOut]
    edges: list[EdgeOut]

    @classmethod
    def of(cls, info: RunInfo, edges: list[EdgeInfo]) -> RunDetail:
        """Say it in terms of the API."""
        return cls(
            id=info.id,
            name=info.name,
            status=info.status,  # type: ignore[arg-type]
            created_at=since(info.created_at),
            finished_at=moment(info.finished_at),
            counts={str(state): number for state, number in info.counts.items()},
            cancelled_by=info.cancelled_by,
            reason=info.reason,
            nodes=[NodeOut.of(node) for node in info.nodes],
            edges=[EdgeOut(parent=one.parent, child=one.child, mode=one.mode) for one in edges],
        )


class Started(BaseModel):
    """The run that there is now."""

    id: str


class Ended(BaseModel):
    """How the run stands."""

    status: Status


class Retried(BaseModel):
    """What starts anew."""

    nodes: list[str]


class Reasons(BaseModel):
    """Why a node is as it is, in sentences."""

    reasons: list[str]


class Drawing(BaseModel):
    """A run as a Mermaid flowchart."""

    mermaid: str
