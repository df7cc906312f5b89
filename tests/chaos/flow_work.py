"""Workflow tasks of the chaos tests: every start leaves a line in a file."""

from __future__ import annotations

import asyncio

from conveyor.workflows import Results
from tests.chaos.work import app, note_start


@app.task(queue="chaos")
async def top() -> int:
    """The first node."""
    note_start(0)
    return 1


@app.task(queue="chaos")
async def side(number: int, above: int) -> int:
    """One of many."""
    note_start(number)
    await asyncio.sleep(0.01)
    return number + above


@app.task(queue="chaos")
async def bottom(count: int) -> int:
    """The join."""
    note_start(-1)
    return count


@app.task(queue="chaos")
async def total(numbers: Results[int]) -> int:
    """The reducer."""
    note_start(-2)
    return sum([number async for number in numbers])


@app.task(queue="chaos")
async def item(number: int) -> int:
    """A child of the map."""
    note_start(1_000_000 + number)
    await asyncio.sleep(0.005)
    return number
