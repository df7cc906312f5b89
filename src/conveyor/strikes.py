"""The public door to strikes: hold back tasks by name, queue or argument while the rest goes on.

    from conveyor.strikes import strike

    one = await strike(app, name="shop.charge", where=["customer_id == 7"], reason="they asked")
    await lift(app, one.id)

A strike is looked at when a task is about to start. What it hits waits, free of charge and without
a slot, until the strike is lifted or over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from conveyor.brokers.strikes import forget_strikes, lift_strike, list_strikes, put_strike
from conveyor.core.amounts import seconds
from conveyor.core.errors import InvalidOption
from conveyor.core.options import instant, queue_name, stored_text
from conveyor.core.strike import Comparison, Strike
from conveyor.system import new_id

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.brokers.base import Broker

__all__ = ["Comparison", "Strike", "lift", "strike", "strikes"]


async def strike(
    app: Conveyor,
    *,
    name: str | None = None,
    queue: str | None = None,
    where: Sequence[str] = (),
    until: float | timedelta | datetime | None = None,
    reason: str = "",
    by: str = "",
    strike_id: str | None = None,
) -> Strike:
    """Hold back tasks for which everything given holds.

    `name` is that of a task definition (`*` and `?` stand for any letters), `where` are comparisons
    such as `"customer_id == 7"` of an argument with a JSON value; `until` is seconds or a timedelta
    from now, an aware datetime, or None for until it is lifted. Workers hear of it within a second.
    Under a `strike_id` of one's own a repeat is no other strike. Raises `InvalidOption`.
    """
    if isinstance(where, str):
        raise InvalidOption(f"where={where!r}: a list of comparisons, [{where!r}]")
    now = app.clock.time()
    made = Strike(
        id=strike_id or new_id(),
        name=None if name is None else stored_text(name, "name"),
        queue=None if queue is None else queue_name(queue),
        where=tuple(Comparison.parse(stored_text(text, "where")) for text in where),
        reason=stored_text(reason, "reason"),
        by=stored_text(by, "by"),
        at=now,
        until=_end(until, now),
    )
    broker = await _broker(app)
    await forget_strikes(broker, now)
    return await put_strike(broker, made)


async def strikes(app: Conveyor) -> list[Strike]:
    """Return the strikes there are, the oldest first."""
    return await list_strikes(await _broker(app))


async def lift(app: Conveyor, strike_id: str) -> int:
    """End a strike and let what it held back start; returns how many tasks that were. Raises
    `InvalidOption` when there is no such strike.
    """
    freed = await lift_strike(await _broker(app), strike_id)
    if freed is None:
        raise InvalidOption(f"no strike has the id {strike_id!r}: list them first")
    return freed


def _end(until: float | timedelta | datetime | None, now: float) -> float | None:
    if until is None:
        return None
    return instant(until) if isinstance(until, datetime) else now + seconds(until, "until")


async def _broker(app: Conveyor) -> Broker:
    return (await app.client()).broker
