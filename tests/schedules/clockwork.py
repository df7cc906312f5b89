"""The app that the processes of these tests import."""

import os
import time
from pathlib import Path

from conveyor import Conveyor, current_task

app = Conveyor()
EVERY = 0.5


@app.every(EVERY, name="tick")
@app.task(queue="ticks")
async def tick() -> None:
    note("ticks")


@app.schedule("0 0 29 2 *", tz="Europe/Berlin", name="leap day")
@app.task(queue="ticks", executor="process")
def leap() -> None:
    note("leaps")


if "ALSO" in os.environ:
    app.every(3600, name=os.environ["ALSO"])(tick)


def note(name: str) -> None:
    """Leave a line: nominal time, time of running, schedule."""
    task = current_task()
    assert task.scheduled_for is not None
    with Path(name).open("a") as file:
        file.write(f"{task.scheduled_for.timestamp()!r} {time.time()!r} {task.schedule}\n")
