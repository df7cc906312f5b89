"""`conveyor keeper`: a process that does nothing but keep house."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from conveyor.brokers.url import connect
from conveyor.core.errors import BrokerError, ConveyorError
from conveyor.keeper.keeper import Keeper
from conveyor.keeper.outbox import relay_of
from conveyor.keeper.process import log_to_stderr, signals_to
from conveyor.schedules.publisher import Publisher
from conveyor.system import SystemClock, dice, new_id

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.brokers.base import Broker

log = logging.getLogger("conveyor.keeper")


def run(url: str, app: Conveyor | None = None, target: str = "") -> int:
    """Keep house for the broker at `url` until SIGTERM or SIGINT, publish the schedules that `app`
    declares, as those of `target` (`MODULE:APP`), and relay what is left in its outbox. Returns the
    exit code: 0 after a signal, 2 when the URL makes no sense, 3 when the broker is not there.
    """
    log_to_stderr("INFO")
    return asyncio.run(_run(url, app, target))


async def _run(url: str, app: Conveyor | None, target: str) -> int:
    stopped = asyncio.Event()
    try:
        broker = connect(url)
        with signals_to(lambda _: stopped.set()):
            try:
                await broker.open()
                log.info("keeping house for %s", broker.url)
                async with _published(app, broker, target):
                    await keep_until(stopped, broker, app)
            finally:
                await broker.close()
    except ConveyorError as exc:
        log.critical("%s", exc)
        return 3 if isinstance(exc, BrokerError) else 2
    return 0


def _published(
    app: Conveyor | None, broker: Broker, target: str
) -> AbstractAsyncContextManager[None]:
    if app is None:
        return nullcontext()
    born = SystemClock().time()
    return Publisher(app, broker, scope=target, born=born, dice=dice).at_work()


async def keep_until(stopped: asyncio.Event, broker: Broker, app: Conveyor | None) -> None:
    """Do all of a keeper's chores until `stopped` is set; then resign."""
    clock = SystemClock()
    keeping = asyncio.create_task(
        Keeper(broker, clock, dice, new_id()).run(), name="conveyor-keeper"
    )
    stopping = asyncio.create_task(stopped.wait())
    beside: list[asyncio.Task[Any]] = [stopping]
    relay = None if app is None else relay_of(app, broker, clock, dice)
    if relay is not None:
        beside.append(asyncio.create_task(relay.run(), name="conveyor-outbox"))
    await asyncio.wait([keeping, stopping], return_when=asyncio.FIRST_COMPLETED)
    for task in (keeping, *beside):
        task.cancel()
    await asyncio.wait(beside)
    with suppress(asyncio.CancelledError):
        await keeping
