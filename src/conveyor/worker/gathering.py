"""The moment between two steps while a backlog is drained."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

GATHER = 0.002
"""Seconds to let settlements gather, at most."""


async def gather(signal: asyncio.Event, is_enough: Callable[[], bool] | None) -> None:
    """Let settlements gather, with `is_enough` only until it says so; it is asked whenever `signal`
    is set.

    Few gated tasks are leased ahead. To go on when half of them have ended keeps this worker busy
    with the others while the store looks for the next ones.
    """
    if is_enough is None:
        await asyncio.sleep(GATHER)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(GATHER):
            while not is_enough():
                signal.clear()
                await signal.wait()
