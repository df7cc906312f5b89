"""Moved: see `conveyor.context`."""

from conveyor.context import CurrentTask, activate, current_task, running_task

__all__ = ["CurrentTask", "activate", "current_task", "running_task"]
