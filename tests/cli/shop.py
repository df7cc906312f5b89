"""The app that the commands of these tests name."""

import asyncio
from datetime import datetime

from conveyor import Conveyor, Retry, current_task

app = Conveyor(retry=Retry(max_attempts=2, base=0.0, cap=0.0))
number = 3


@app.task
async def add(a: int, b: int = 1) -> int:
    current_task().logger.info("adding %d and %d", a, b)
    return a + b


@app.task(queue="mail")
def fail(text: str) -> None:
    raise ValueError(text)


@app.task
async def sleep(seconds: float) -> None:
    current_task().progress(1, 4, "a nap")
    await asyncio.sleep(seconds)


@app.task
def remind(at: datetime) -> str:
    return at.isoformat()


@app.task
def swallow(data: str) -> None: ...
