"""The app that `conveyor bench` measures with: one task that does nothing."""

from conveyor.app import Conveyor

app = Conveyor()
QUEUE = "conveyor-bench"


@app.task(queue=QUEUE, result_ttl=60)
async def noop() -> None:
    """Do nothing, and keep the result of it."""
