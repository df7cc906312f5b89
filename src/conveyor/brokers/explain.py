"""Gathers what `core.why` needs to know of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conveyor.brokers.gates import Standing
from conveyor.brokers.strikes import list_strikes
from conveyor.core.gates import Gate
from conveyor.core.task import State
from conveyor.core.why import Facts, GateView, Reason, WorkerView, why

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker, WorkerInfo


async def explain(broker: Broker, task_id: str, now: float) -> list[Reason]:
    """Say why a task is not running, the most decisive reason first; never empty.

    `now` is epoch seconds, for tasks that the broker's clock has nothing to say of. Raises
    `TaskNotFound`.
    """
    inspector = broker.inspector
    info = await inspector.get(task_id)
    if info.state.is_final or info.state is State.RUNNING:
        return why(Facts(info=info, now=now))
    standing = (await broker.gates.standing([task_id])).get(task_id)
    queues = {queue.name: queue for queue in await inspector.queues()}
    queue = queues.get(info.queue)
    return why(
        Facts(
            info=info,
            now=standing.now if standing is not None else now,
            ahead=None if standing is None else standing.ahead,
            exact=standing is None or standing.ahead_is_exact,
            gates=_views(info.terms.gates, standing) if info.terms is not None else (),
            pause=None if queue is None else queue.pause,
            workers=tuple(map(_view, await inspector.workers())),
            strikes=tuple(await list_strikes(broker)),
        )
    )


def _views(gates: tuple[Gate, ...], standing: Standing | None) -> tuple[GateView, ...]:
    if standing is None:
        return ()
    return tuple(
        GateView(gate=gate, state=info.state, holders=info.holders, pause=info.pause)
        for gate, info in zip(gates, standing.gates, strict=True)
    )


def _view(worker: WorkerInfo) -> WorkerView:
    return WorkerView(
        id=worker.id,
        queues=worker.queues,
        names=worker.names,
        free=max(0, worker.concurrency - worker.running),
    )
