"""The app that workers run in the chaos tests: every start leaves a line in a file."""

from __future__ import annotations

import asyncio
import os

from conveyor import Conveyor, current_task

app = Conveyor()
LOG = "CONVEYOR_CHAOS_LOG"


def note_start(number: int) -> None:
    """Write down which task starts, and under which execution number."""
    line = f"{number} {current_task().fencing_token}\n"
    handle = os.open(os.environ[LOG], os.O_APPEND | os.O_WRONLY | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


@app.task(queue="chaos")
async def fifty(number: int) -> int:
    """Take 50 ms."""
    note_start(number)
    await asyncio.sleep(0.05)
    return number
