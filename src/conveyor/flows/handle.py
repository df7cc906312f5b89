"""Runs of workflows from the caller's side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from conveyor.core.codec import decode, encode
from conveyor.core.errors import InvalidArguments
from conveyor.core.run import Run
from conveyor.flows.advancer import Advancer
from conveyor.flows.control import cancel, retry, send
from conveyor.flows.keying import Code
from conveyor.flows.outcome import result_of_run
from conveyor.flows.overview import RunInfo, overview, why
from conveyor.flows.runs import Runs
from conveyor.flows.secrets import sealed
from conveyor.system import new_id

if TYPE_CHECKING:
    from conveyor.core.graph import Graph
    from conveyor.flows.home import Home
    from conveyor.flows.runs import Known

T = TypeVar("T")
_FIRST_LOOK, _LONGEST_PAUSE = 0.002, 0.1


async def begin(
    home: Home,
    graph: Graph,
    inputs: dict[str, Any],
    decoded: Callable[[bytes], Any] = decode,
    *,
    run_id: str | None = None,
) -> WorkflowHandle[Any]:
    """Store a run of a graph and start its roots; one that is there already is left alone."""
    known = await launch(await _runs_of(home), graph, inputs, run_id)
    return WorkflowHandle(known.run.id, home, decoded)


async def _runs_of(home: Home) -> Runs:
    return Runs((await home.client()).broker, home.clock, Code(home.definitions, home.packing))


async def launch(
    runs: Runs, graph: Graph, inputs: dict[str, Any], run_id: str | None = None
) -> Known:
    """Store a run of a graph and start its roots; one that is there already is left alone."""
    if missing := inputs_of(graph) - inputs.keys():
        raise InvalidArguments(
            f"workflow {graph.name!r} needs the inputs {', '.join(sorted(missing))}; "
            "nothing was enqueued"
        )
    if run_id is None:
        run_id = new_id()
    elif there := await runs.load([run_id], fresh=0.0):
        return there[run_id]
    run = Run(
        id=run_id,
        name=graph.name,
        created_at=runs.clock.time(),
        inputs=encode(inputs, what=f"inputs of workflow {graph.name}"),
    )
    known = await runs.create(run, sealed(graph, run_id, runs.code))
    await Advancer(runs.broker, runs.clock, runs).start(known)
    return known


def inputs_of(graph: Graph) -> set[str]:
    """Return the names of the inputs that a graph uses."""
    return {str(name) for node in graph.nodes for name in node.inputs}


class WorkflowHandle(Generic[T]):
    """A run of a workflow. Its calls raise `WorkflowNotFound` when it is unknown or pruned."""

    def __init__(self, run_id: str, home: Home, decoded: Callable[[bytes], T]) -> None:
        self.id = run_id
        self._home = home
        self._decode = decoded

    async def result(self, timeout: float | None = None) -> T:
        """Wait until the run is over, at most `timeout` seconds, and return its result.

        Raises `TaskFailed` with what the first failed node ended in, `TaskCancelled`,
        `ResultExpired`, `WorkflowNotFound` or `TimeoutError`.
        """
        runs = await self._runs()
        pause = _FIRST_LOOK
        try:
            async with asyncio.timeout(timeout):
                while not (await runs.glance(self.id)).is_over:
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, _LONGEST_PAUSE)
        except TimeoutError:
            raise TimeoutError(
                f"workflow run {self.id} was not over within {timeout:g} s; it goes on"
            ) from None
        return self._decode(await result_of_run(runs, await runs.get(self.id)))

    def result_sync(self, timeout: float | None = None) -> T:
        """Wait for the result from synchronous code; as `result`."""
        value: T = self._home.run_sync(self.result(timeout))
        return value

    async def status(self) -> str:
        """Return running, succeeded, failed or cancelled."""
        return (await (await self._runs()).glance(self.id)).status

    async def info(self) -> RunInfo:
        """Return everything known of the run: each node with its state."""
        return await overview(await self._runs(), self.id)

    async def cancel(self, reason: str = "", *, by: str = "") -> str:
        """Cancel what runs and waits, and all that would follow; returns the status after the
        call. The run is over when its running tasks have stopped."""
        return await cancel(await self._runs(), self.id, by=by, reason=reason)

    async def signal(self, name: str, value: Any = None) -> bool:
        """Send a signal: whatever waits for it, now or later, gets `value`. Only the first of a
        name counts; says whether this was it."""
        data = encode(value, what=f"value of signal {name}")
        return await send(await self._runs(), self.id, name, data)

    async def retry(self, node: str | None = None) -> list[str]:
        """Run a node and all that come after it again (None: all that failed or were cancelled),
        in a run that is over. Returns the names of the nodes that start anew. Raises
        `InvalidWorkflow` when there is nothing to retry."""
        return await retry(await self._runs(), self.id, node)

    async def why(self, node: str) -> list[str]:
        """Say in sentences what a node waits for, or why it was skipped."""
        return await why(await self._runs(), self.id, node)

    async def _runs(self) -> Runs:
        return await _runs_of(self._home)

    def __repr__(self) -> str:
        return f"<handle of workflow run {self.id}>"


def decode_plain(data: bytes) -> Any:
    """Decode a result without a known type."""
    return msgspec.msgpack.decode(data)
