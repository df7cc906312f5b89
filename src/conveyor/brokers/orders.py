"""Orders as a store keeps them: a document for each worker that has not obeyed yet.

The supervisor looks after every renewal, obeys, and deletes what it obeyed. An order that comes
while one is there takes its place: the last one counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from conveyor.core.errors import BrokerError
from conveyor.core.order import Order

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker

_KIND = "worker-order"
_TRIES = 20
KEPT = 3_600.0
"""Seconds after which an order is for a worker that is dead: a living one obeys within a beat."""
_decode = msgspec.msgpack.Decoder(Order).decode


class Standing(msgspec.Struct, frozen=True):
    """An order that was not obeyed yet, in its version."""

    order: Order
    version: int


async def give_order(broker: Broker, worker: str, order: Order) -> None:
    """Tell a worker; it hears of it with its next heartbeat. Raises `BrokerError`."""
    await _forget(broker, order.at)
    body = msgspec.msgpack.encode(order)
    for _ in range(_TRIES):
        there = (await broker.documents.get(_KIND, [worker])).get(worker)
        version = 0 if there is None else there.version
        if await broker.documents.put(_KIND, worker, body, version) is not None:
            return
    raise BrokerError(f"the orders of worker {worker} change too fast: try again")


async def standing_order(broker: Broker, worker: str) -> Standing | None:
    """Return what a worker was told and has not done. Raises `BrokerError`."""
    there = (await broker.documents.get(_KIND, [worker])).get(worker)
    return None if there is None else Standing(_decode(there.body), there.version)


async def standing_orders(broker: Broker) -> dict[str, Order]:
    """Return what workers were told and have not done, by their ids. Raises `BrokerError`."""
    return {found.id: _decode(found.body) for found in await broker.documents.list(_KIND)}


async def obeyed(broker: Broker, worker: str, version: int) -> bool:
    """Take an order off the list; False when another has come meanwhile."""
    return await broker.documents.delete(_KIND, worker, version)


async def _forget(broker: Broker, now: float) -> None:
    """Delete orders that nobody was there for."""
    for worker, order in (await standing_orders(broker)).items():
        if order.at < now - KEPT:
            await broker.documents.delete(_KIND, worker)
