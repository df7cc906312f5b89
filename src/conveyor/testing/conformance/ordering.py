"""Orders to workers: the last one counts, and what was obeyed is gone."""

from __future__ import annotations

from conveyor.brokers.base import WorkerInfo
from conveyor.brokers.orders import KEPT, give_order, obeyed, standing_order, standing_orders
from conveyor.core.order import Order
from conveyor.testing.conformance.rig import Rig


async def test_an_order_stands_until_it_was_obeyed(rig: Rig) -> None:
    assert await standing_order(rig.broker, "w") is None
    order = Order("pause", "ada", "a full disk", rig.clock.time())
    await give_order(rig.broker, "w", order)
    standing = await standing_order(rig.broker, "w")
    assert standing is not None
    assert standing.order == order
    assert await standing_order(rig.broker, "v") is None
    assert await obeyed(rig.broker, "w", standing.version)
    assert await standing_orders(rig.broker) == {}


async def test_the_last_order_counts_also_for_who_obeys_the_one_before(rig: Rig) -> None:
    await give_order(rig.broker, "w", Order("pause", at=rig.clock.time()))
    first = await standing_order(rig.broker, "w")
    await give_order(rig.broker, "w", Order("resume", at=rig.clock.time()))
    assert first is not None
    assert not await obeyed(rig.broker, "w", first.version)
    assert (await standing_orders(rig.broker))["w"].action == "resume"


async def test_orders_to_the_dead_are_forgotten(rig: Rig) -> None:
    await give_order(rig.broker, "w", Order("drain", at=rig.clock.time()))
    rig.clock.advance(KEPT + 1)
    await give_order(rig.broker, "v", Order("drain", at=rig.clock.time()))
    assert set(await standing_orders(rig.broker)) == {"v"}


async def test_a_worker_says_how_it_is(rig: Rig) -> None:
    said = WorkerInfo(
        id="w", host="alpha", pid=1, started_at=rig.clock.time(), loop_lag=0.25, mode="paused"
    )
    await rig.broker.renew(["w"], 15.0, said)
    (found,) = await rig.broker.inspector.workers()
    assert (found.loop_lag, found.mode) == (0.25, "paused")
