"""The public door to maintenance: nothing new starts anywhere, and afterwards all is as it was.

    from conveyor.maintenance import begin, end

    await begin(app, reason="a new database", by="ada")
    ...
    await end(app)

It pauses every queue that there is and is not paused; what runs goes on, and enqueueing too. The
keeper pauses queues that are new meanwhile, within about a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from conveyor.brokers.sqlite.options import locate
from conveyor.core.errors import ConveyorError
from conveyor.core.task import Pause

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.brokers.base import Broker

__all__ = [
    "InMaintenance",
    "Maintenance",
    "begin",
    "end",
    "extend",
    "store_file",
    "under_maintenance",
]
_KIND = _ID = "maintenance"


class Maintenance(msgspec.Struct, frozen=True):
    """Maintenance as it stands."""

    reason: str
    by: str
    at: float
    queues: tuple[str, ...]
    """Those that it pauses."""
    known: tuple[str, ...] = ()
    """Those that it has seen: what a person lets run again meanwhile goes on."""


class InMaintenance(ConveyorError):
    """Maintenance was begun before."""


_decode = msgspec.msgpack.Decoder(Maintenance).decode


async def begin(app: Conveyor, *, reason: str = "", by: str = "") -> Maintenance:
    """Pause every queue that is not paused. Raises `InMaintenance` when that was done already."""
    broker = await _broker(app)
    queues = await broker.inspector.queues()
    names = [info.name for info in queues if info.pause is None]
    known = tuple(info.name for info in queues)
    made = Maintenance(reason, by, app.clock.time(), tuple(names), known)
    # Written first: who dies in between leaves what `end` needs.
    body = msgspec.msgpack.encode(made)
    if await broker.documents.put(_KIND, _ID, body, 0) is None:
        raise InMaintenance("there is maintenance already: end it first")
    for name in names:
        await broker.pause(name, _pause_of(made))
    return made


async def under_maintenance(app: Conveyor) -> Maintenance | None:
    """Return the maintenance that was begun and has not ended."""
    found = (await (await _broker(app)).documents.get(_KIND, [_ID])).get(_ID)
    return None if found is None else _decode(found.body)


async def end(app: Conveyor) -> list[str]:
    """Let the queues run that maintenance paused, those left out that a person has paused or
    resumed meanwhile; returns their names, none when there is no maintenance."""
    broker = await _broker(app)
    made = await under_maintenance(app)
    if made is None:
        return []
    ours = _pause_of(made)
    names = [info.name for info in await broker.inspector.queues() if info.pause == ours]
    for name in names:
        await broker.pause(name, None)
    await broker.documents.delete(_KIND, _ID)
    return names


async def extend(broker: Broker) -> list[str]:
    """Pause the queues that are new since maintenance began, if it goes on; returns their names.
    The keeper does so in every round. Raises `BrokerError`."""
    found = (await broker.documents.get(_KIND, [_ID])).get(_ID)
    if found is None:
        return []
    made = _decode(found.body)
    new = [one for one in await broker.inspector.queues() if one.name not in made.known]
    if not new:
        return []
    names = [one.name for one in new if one.pause is None]
    more = msgspec.structs.replace(
        made,
        queues=(*made.queues, *names),
        known=(*made.known, *(one.name for one in new)),
    )
    if await broker.documents.put(_KIND, _ID, msgspec.msgpack.encode(more), found.version) is None:
        return []
    for name in names:
        await broker.pause(name, _pause_of(made))
    return names


def store_file(app: Conveyor) -> Path | None:
    """Return the SQLite file that the app's tasks are in; None when they are on a server or in
    memory."""
    if not app.url.startswith("sqlite"):
        return None
    path = locate(app.url).path
    return None if path is None else Path(path)


def _pause_of(made: Maintenance) -> Pause:
    return Pause(f"maintenance: {made.reason}".removesuffix(": "), made.by, made.at)


async def _broker(app: Conveyor) -> Broker:
    return (await app.client()).broker
