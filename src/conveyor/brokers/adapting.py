"""Limits that adapt, as a store keeps them: a document for each that is slower than stated.

The document is written before the store is told the rate, and says what it was told before: who
dies in between is taken up by the next refusal, or by the keeper. A rate that a person has tuned is
left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from conveyor.core.aimd import Adapt, Learned, carried, fresh, is_ours, recovered, refused

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.brokers.documents import Document

_KIND = "adapting limit"
_TRIES = 5
_decode = msgspec.msgpack.Decoder(Learned).decode


async def slow_down(
    broker: Broker, name: str, stated: float, adapt: Adapt, now: float
) -> float | None:
    """Slow a limit down, after a refusal; returns its rate in tokens per second, None when it was
    slowed down a moment ago, or a person has pinned its rate. `now` is the broker's.
    """
    for _ in range(_TRIES):
        document = (await broker.documents.get(_KIND, [name])).get(name)
        learned = fresh(stated, adapt)
        if document is not None:
            learned = carried(_decode(document.body), learned)
        slower = refused(learned, now)
        if slower is None or not is_ours(learned, await _tuned(broker, name)):
            return None
        body = msgspec.msgpack.encode(slower)
        version = 0 if document is None else document.version
        if await broker.documents.put(_KIND, name, body, version) is not None:
            await broker.gates.tune(name, rate=slower.applied, most=await _slots(broker, name))
            return slower.applied
    return None


async def speed_up(broker: Broker, now: float) -> int:
    """Raise the rates of limits that had no trouble for a while; returns how many. For the keeper:
    cheap when none adapts."""
    raised = 0
    for document in await broker.documents.list(_KIND):
        raised += await _raise(broker, document, now)
    return raised


async def _raise(broker: Broker, document: Document, now: float) -> bool:
    learned, name = _decode(document.body), document.id
    tuned = await _tuned(broker, name)
    if not is_ours(learned, tuned):
        # Pinned: what was learned is forgotten, and starts anew when the pin is taken back.
        await broker.documents.delete(_KIND, name, document.version)
        return False
    faster = recovered(learned, now)
    if faster is None:
        return False
    slots = await _slots(broker, name)
    if faster.applied < faster.stated:
        body = msgspec.msgpack.encode(faster)
        if await broker.documents.put(_KIND, name, body, document.version) is None:
            return False
        await broker.gates.tune(name, rate=faster.applied, most=slots)
        return True
    # Told first: a document without a rate is looked at again, a rate without one would stay.
    await broker.gates.tune(name, most=slots)
    return await broker.documents.delete(_KIND, name, document.version)


async def learned_rates(broker: Broker) -> dict[str, Learned]:
    """Return what is known of limits that are slower than stated, by their names."""
    return {found.id: _decode(found.body) for found in await broker.documents.list(_KIND)}


async def _tuned(broker: Broker, name: str) -> float | None:
    return next((info.state.rate for info in await broker.gates.look(name, 1)), None)


async def _slots(broker: Broker, name: str) -> int | None:
    """Return what people said of the limit's slots, to be said again: `tune` takes both."""
    return next((info.state.most for info in await broker.gates.look(name, 1)), None)
