"""Standard logging, captured per execution: the head and the tail are kept."""

from __future__ import annotations

import logging

from conveyor.context import running_task
from conveyor.logbuffer import LogBuffer


class LogCapture(logging.Handler):
    """A handler for the root logger that gives each line to the task that wrote it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Store the record with the current task, if there is one."""
        task = running_task()
        if task is None:
            return
        try:
            if task.log_lines is None:
                task.log_lines = LogBuffer()
            task.log_lines.add(self.format(record))
            task.noted()
        except Exception:  # noqa: BLE001 - logging must never break a task
            self.handleError(record)


def install() -> LogCapture:
    """Start capturing; INFO and above from the tasks' own loggers. Returns the handler."""
    capture = LogCapture()
    root = logging.getLogger()
    root.addHandler(capture)
    logging.getLogger("conveyor.task").setLevel(logging.INFO)
    return capture


def remove(capture: LogCapture) -> None:
    """Stop capturing."""
    logging.getLogger().removeHandler(capture)
