"""What the API says of schedules in the words of the queue."""

from __future__ import annotations

from typing import Any

from conveyor import Conveyor
from conveyor.errors import InvalidOption, ScheduleNotFound
from conveyor_console.kit.problems import Problem
from conveyor_console.schedules.schemas import NewSchedule


async def create(app: Conveyor, new: NewSchedule, creation_id: str) -> Any:
    """Make a schedule; a repeat finds the one that was made under its id. Raises `Problem` 409 when
    the name is taken, and the queue's own errors."""
    await _must_be_free(app, new.name, creation_id)
    definition = app.definition(new.task)
    options: dict[str, Any] = {
        name: value
        for name, value in (("queue", new.queue), ("priority", new.priority))
        if value is not None
    }
    call = definition.with_options(**options).bind(*new.args, **new.kwargs).checked()
    more = {} if new.catch_up_window is None else {"catch_up_window": new.catch_up_window}
    return await app.schedules.create(
        new.name,
        call,
        cron=new.cron,
        tz=new.tz,
        every=new.every,
        overlap=new.overlap,
        catch_up=new.catch_up,
        jitter=new.jitter,
        creation_id=creation_id,
        **more,
    )


async def _must_be_free(app: Conveyor, name: str, creation_id: str) -> None:
    try:
        there = await app.schedules.get(name)
    except ScheduleNotFound:
        return
    if there.creation_id != creation_id:
        raise Problem(409, f"a schedule is named {name!r} already: edit it, or delete it first")


async def delete(schedules: Any, info: Any, *, force: bool) -> None:
    """Delete a schedule as it was seen. Raises `Problem` 409 for one that code declares."""
    try:
        await schedules.delete(info.name, force=force, if_version=info.version)
    except InvalidOption as exc:
        raise Problem(409, str(exc)) from None
