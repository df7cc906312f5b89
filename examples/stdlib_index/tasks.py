"""The tasks of the demo: `index_file` for every source file, `merge` for the report."""

from __future__ import annotations

import warnings
from pathlib import Path

from conveyor import Conveyor, Retry, TaskFailed, current_task
from examples.stdlib_index.facts import Facts, count, read

ATTEMPTS = 3
app = Conveyor(retry=Retry(max_attempts=ATTEMPTS, base=0.2, cap=1.0))


@app.task(queue="index", timeout=60)
def index_file(path: str) -> Facts:
    """Count one file. The first attempt reads it strictly, later ones take any bytes as Latin-1:
    a file that fails then as well is not Python, and becomes a dead letter."""
    task = current_task()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        facts = count(read(Path(path), strict=task.attempt == 1), path)
    if task.attempt > 1:
        task.logger.warning("read as Latin-1, it does not say its encoding")
    return facts


@app.task(queue="report", priority="high")
async def merge(ids: list[str]) -> Facts:
    """Add up the results of the other tasks, leaving out those that failed."""
    total = Facts()
    for done, task_id in enumerate(ids, start=1):
        try:
            result = await app.handle(task_id).result(timeout=60)
        except TaskFailed:
            continue
        total += Facts(**result)
        current_task().progress(done, len(ids))
    return total
