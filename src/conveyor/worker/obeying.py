"""How a worker does what a person told it, see `conveyor.core.order`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from conveyor.brokers.orders import obeyed, standing_order

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.core.order import Order
    from conveyor.worker.offspring import Offspring

log = logging.getLogger("conveyor.worker")


async def obey(broker: Broker, child: Offspring) -> bool:
    """Look for an order to this child and do it, then take it off the list: who dies in between
    obeys twice, which is the same. Says whether there was one. Raises `BrokerError`."""
    try:
        standing = await standing_order(broker, child.token)
    except msgspec.MsgspecError as exc:
        log.error("child %d does not understand an order: %s", child.pid, exc)
        return False
    if standing is None:
        return False
    _do(child, standing.order)
    return await obeyed(broker, child.token, standing.version)


def _do(child: Offspring, order: Order) -> None:
    reason = f": {order.reason}" if order.reason else ""
    log.info("child %d: %s, by %s%s", child.pid, order.action, order.by or "somebody", reason)
    match order.action:
        case "pause" | "resume":
            child.pause(order.action == "pause")
        case "drain" | "shutdown":
            child.retire(at_leisure=order.action == "drain")
