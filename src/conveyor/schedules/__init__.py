"""Schedules: the public names of what `app.schedules` answers with."""

from conveyor.core.schedule import Paused
from conveyor.core.timing import Fire
from conveyor.schedules.desk import ScheduleInfo
from conveyor.schedules.door import Schedules

__all__ = ["Fire", "Paused", "ScheduleInfo", "Schedules"]
