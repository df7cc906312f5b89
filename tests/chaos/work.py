"""The app that workers run in the chaos tests: every start leaves a line in a file."""

from __future__ import annotations

import asyncio
import os

from conveyor import Conveyor, current_task

app = Conveyor()
LOG = "CONVEYOR_CHAOS_LOG"


@app.task(queue="chaos")
async def fifty(number: int) -> int:
    """Take 50 ms."""
    line = f"{number} {current_task().fencing_token}\n"
    handle = os.open(os.environ[LOG], os.O_APPEND | os.O_WRONLY | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)
    await asyncio.sleep(0.05)
    return number
