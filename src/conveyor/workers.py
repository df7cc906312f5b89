"""The public door to workers: look at them, and tell one what to do.

    from conveyor.workers import pause, workers

    for worker in await workers(app):
        await pause(app, worker.id, reason="its disk is full", by="ada")

A worker obeys with its next heartbeat, within five seconds. One that was started with several
processes is listed, and obeys, once for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from conveyor.brokers.base import Holding, WorkerInfo
from conveyor.brokers.orders import give_order, standing_orders
from conveyor.core.errors import WorkerNotFound
from conveyor.core.order import Action, Mode, Order

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.brokers.base import Broker

__all__ = [
    "Action",
    "Holding",
    "Mode",
    "Order",
    "WorkerInfo",
    "drain",
    "held",
    "order",
    "orders",
    "pause",
    "resume",
    "shutdown",
    "worker",
    "workers",
]


async def workers(app: Conveyor) -> list[WorkerInfo]:
    """Return the workers that live, by id."""
    return await (await _broker(app)).inspector.workers()


async def worker(app: Conveyor, worker_id: str) -> WorkerInfo:
    """Return one. Raises `WorkerNotFound`."""
    return await _find(await _broker(app), worker_id)


async def held(app: Conveyor, worker_id: str, limit: int = 200) -> list[Holding]:
    """Return the tasks that a worker has leased: it runs them, or is about to."""
    return await (await _broker(app)).held(worker_id, limit)


async def orders(app: Conveyor) -> Mapping[str, Order]:
    """Return what workers were told and have not done yet, by their ids."""
    return await standing_orders(await _broker(app))


async def pause(app: Conveyor, worker_id: str, *, reason: str = "", by: str = "") -> Order:
    """Let it take no more tasks until it is resumed; what runs goes on, what it took and has not
    started is given back. Raises `WorkerNotFound`."""
    return await order(app, worker_id, "pause", reason=reason, by=by)


async def resume(app: Conveyor, worker_id: str, *, reason: str = "", by: str = "") -> Order:
    """Let it take tasks again. Raises `WorkerNotFound`."""
    return await order(app, worker_id, "resume", reason=reason, by=by)


async def drain(app: Conveyor, worker_id: str, *, reason: str = "", by: str = "") -> Order:
    """Let it end when what it runs has ended, however long that takes. Raises `WorkerNotFound`."""
    return await order(app, worker_id, "drain", reason=reason, by=by)


async def shutdown(app: Conveyor, worker_id: str, *, reason: str = "", by: str = "") -> Order:
    """Let it end as SIGTERM does: what runs gets the worker's grace, then it is interrupted and
    runs again elsewhere. Raises `WorkerNotFound`."""
    return await order(app, worker_id, "shutdown", reason=reason, by=by)


async def order(
    app: Conveyor, worker_id: str, action: Action, *, reason: str = "", by: str = ""
) -> Order:
    """Tell a worker. Raises `WorkerNotFound`, `InvalidOption`."""
    given = Order(action, by, reason, app.clock.time())
    broker = await _broker(app)
    await _find(broker, worker_id)
    await give_order(broker, worker_id, given)
    return given


async def _find(broker: Broker, worker_id: str) -> WorkerInfo:
    for info in await broker.inspector.workers():
        if info.id == worker_id:
            return info
    raise WorkerNotFound(worker_id)


async def _broker(app: Conveyor) -> Broker:
    return (await app.client()).broker
