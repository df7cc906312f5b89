"""`app.schedule`, `app.every` and `app.schedules`: schedules as an app sees them."""

from __future__ import annotations

import builtins
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from typing_extensions import Unpack

from conveyor.core.envelope import Wrapping, split, stamped, wrap
from conveyor.core.errors import InvalidOption
from conveyor.core.schedule import Schedule
from conveyor.core.task import Terms
from conveyor.core.timing import Fire, Timing, preview, timing
from conveyor.schedules.desk import Desk, Policy, ScheduleInfo, draft
from conveyor.tasks import BoundTask, TaskDefinition

if TYPE_CHECKING:
    from conveyor.client import Client
    from conveyor.core.clock import Clock
    from conveyor.core.task import NewTask, Task
    from conveyor.packing import Packing

D = TypeVar("D", bound=TaskDefinition[..., Any, Any])


class Declaration(Policy, total=False):
    """What `app.schedule(…)` and `app.every(…)` take beside the timing; see there."""

    name: str | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any] | None


_OPTIONS = Declaration.__required_keys__ | Declaration.__optional_keys__


class Scheduling(ABC):
    """The part of an app that has to do with schedules. The abstract methods are what it needs of
    the rest: an app that lacks one cannot be made.
    """

    clock: Clock
    packing: Packing

    @abstractmethod
    async def client(self) -> Client:
        """Return this event loop's client."""

    @abstractmethod
    def run_sync(self, coroutine: Any) -> Any:
        """Run a coroutine from synchronous code."""

    @abstractmethod
    def _new_task(self, call: BoundTask[Any]) -> NewTask:
        """Build the task of one call, not stored yet."""

    @cached_property
    def schedules(self) -> Schedules:
        """Make, edit, pause, run and preview schedules at run time."""
        return Schedules(self)

    @cached_property
    def declared(self) -> dict[str, Schedule]:
        """The schedules that this app's code declares, by name."""
        return {}

    def schedule(
        self, cron: str, *, tz: str = "UTC", **options: Unpack[Declaration]
    ) -> Callable[[D], D]:
        """Enqueue the task below at the times of a cron expression: decorates a task definition,
        and may stand several times.

        `cron` has five fields or is a nickname like `@daily`; `tz` is an IANA time zone. `overlap`
        says what happens while the task of an earlier fire has not ended: allow (default), skip,
        buffer_one, buffer_all, cancel_other. `catch_up` says which fires are made up for that no
        keeper was there for, up to `catch_up_window` (seconds, a day) ago: none, last (default),
        all. Each fire is due up to `jitter` seconds late (0). `name` defaults to the task's, `#2`,
        `#3` … following; `args` and `kwargs` are the task's arguments. Raises `InvalidOption` or
        `InvalidArguments`.
        """
        return self._declare(timing(cron=cron, tz=tz), options)

    def every(self, seconds: float | timedelta, **options: Unpack[Declaration]) -> Callable[[D], D]:
        """Enqueue the task below every so many seconds (at least 0.1), on the grid of the epoch:
        `every(60)` fires at the full minute. Options and errors as of `schedule`.
        """
        return self._declare(timing(every=seconds), options)

    def _declare(self, when: Timing, options: Declaration) -> Callable[[D], D]:
        if unknown := sorted(set(options) - _OPTIONS):
            raise InvalidOption(
                f"schedules have no option {unknown[0]!r}; there are {', '.join(sorted(_OPTIONS))}"
            )
        policy: dict[str, Any] = {**options}
        name = policy.pop("name", None)
        args, kwargs = policy.pop("args", ()), policy.pop("kwargs", None) or {}

        def declare(definition: D) -> D:
            if not isinstance(definition, TaskDefinition):
                raise InvalidOption(
                    f"{definition!r} is not a task yet: put @app.schedule(…) and @app.every(…) "
                    "above @app.task"
                )
            call = definition.bind(*args, **kwargs)
            chosen = _free_name(definition.name, self.declared) if name is None else name
            if chosen in self.declared and self.declared[chosen].task.name != definition.name:
                raise InvalidOption(
                    f"two schedules are named {chosen!r}: give one of them another with name=…"
                )
            self.declared[chosen] = draft(chosen, template(self, call, chosen), when, **policy)
            return definition

        return declare


class Schedules:
    """Schedules at run time: `app.schedules`. Keepers act on a change within a second or so.

    Every method raises `BrokerUnavailable` when the store is away; those that take a name raise
    `ScheduleNotFound`.
    """

    def __init__(self, app: Scheduling) -> None:
        self._app = app

    async def create(
        self,
        name: str,
        task: TaskDefinition[..., Any, Any] | BoundTask[Any],
        *,
        cron: str | None = None,
        tz: str | None = None,
        every: float | timedelta | None = None,
        creation_id: str = "",
        **policy: Unpack[Policy],
    ) -> ScheduleInfo:
        """Make a schedule that enqueues `task`: a definition, or with arguments and options
        `task.with_options(…).bind(…)`. `cron` with `tz`, or `every` (seconds); the other options as
        of `app.schedule`. A repeat under a `creation_id` of one's own makes no other one, and
        returns it as it stands. Raises `InvalidOption`, also when the name is taken.
        """
        call = task if isinstance(task, BoundTask) else task.bind()
        when = timing(cron=cron, tz=tz, every=every)
        made = draft(name, template(self._app, call, name), when, **policy)
        fresh = msgspec.structs.replace(made, creation_id=creation_id)
        return await (await self._desk()).create(fresh)

    async def edit(self, name: str, **changes: Any) -> ScheduleInfo:
        """Change some of `cron`, `tz`, `every`, `overlap`, `catch_up`, `catch_up_window`, `jitter`,
        `queue`, `priority`. Nothing is made up for by the new timing. Raises `InvalidOption`, and
        with `if_version` `ScheduleChanged` when it is at another version by now.
        """
        return await (await self._desk()).edit(name, **changes)

    async def pause(
        self, name: str, *, reason: str = "", by: str = "", until: datetime | None = None
    ) -> ScheduleInfo:
        """Let it fire no more until it is resumed, or until `until` (an aware datetime)."""
        return await (await self._desk()).pause(name, reason=reason, by=by, until=until)

    async def resume(self, name: str) -> ScheduleInfo:
        """Let it fire again; what fell into the pause is not made up for."""
        return await (await self._desk()).resume(name)

    async def run_now(self, name: str, *, task_id: str | None = None) -> str:
        """Enqueue its task at once, whatever else runs; returns the task's id. Under an id of one's
        own a repeat is no other task."""
        return await (await self._desk()).run_now(name, task_id=task_id)

    async def get(self, name: str) -> ScheduleInfo:
        """Return one as it stands."""
        return await (await self._desk()).get(name)

    async def list(self) -> builtins.list[ScheduleInfo]:
        """Return all as they stand, by name."""
        return await (await self._desk()).list()

    async def delete(
        self, name: str, *, force: bool = False, if_version: int | None = None
    ) -> None:
        """Delete it. One that code declares is only deleted with `force`, until the next deploy;
        else `InvalidOption` is raised. `if_version` as of `edit`."""
        await (await self._desk()).delete(name, force=force, if_version=if_version)

    async def preview(self, name: str, count: int = 5) -> builtins.list[Fire]:
        """Return the next fires of a schedule, in UTC and local time, with what a change of clocks
        does to them."""
        return await (await self._desk()).preview(name, count)

    async def lagging(self) -> builtins.list[str]:
        """Return the names of those that should have fired more than a minute ago."""
        return await (await self._desk()).lagging()

    def preview_cron(self, cron: str, tz: str = "UTC", count: int = 5) -> builtins.list[Fire]:
        """Return the next fires of a cron expression. Raises `InvalidOption`."""
        return self.preview_timing(cron=cron, tz=tz, count=count)

    def preview_timing(
        self,
        *,
        cron: str | None = None,
        tz: str | None = None,
        every: float | timedelta | None = None,
        count: int = 5,
    ) -> builtins.list[Fire]:
        """Return the next fires of a timing as of `create`. Raises `InvalidOption`."""
        return preview(timing(cron=cron, tz=tz, every=every), self._app.clock.time(), count)

    # -- from synchronous code

    def create_sync(
        self, name: str, task: TaskDefinition[..., Any, Any] | BoundTask[Any], **options: Any
    ) -> ScheduleInfo:
        """Do what `create` does, from synchronous code."""
        return self._sync(self.create(name, task, **options))

    def edit_sync(self, name: str, **changes: Any) -> ScheduleInfo:
        """Do what `edit` does, from synchronous code."""
        return self._sync(self.edit(name, **changes))

    def pause_sync(self, name: str, **options: Any) -> ScheduleInfo:
        """Do what `pause` does, from synchronous code."""
        return self._sync(self.pause(name, **options))

    def resume_sync(self, name: str) -> ScheduleInfo:
        """Do what `resume` does, from synchronous code."""
        return self._sync(self.resume(name))

    def run_now_sync(self, name: str) -> str:
        """Do what `run_now` does, from synchronous code."""
        return str(self._app.run_sync(self.run_now(name)))

    def get_sync(self, name: str) -> ScheduleInfo:
        """Do what `get` does, from synchronous code."""
        return self._sync(self.get(name))

    def list_sync(self) -> builtins.list[ScheduleInfo]:
        """Do what `list` does, from synchronous code."""
        found: builtins.list[ScheduleInfo] = self._app.run_sync(self.list())
        return found

    def delete_sync(self, name: str, *, force: bool = False) -> None:
        """Do what `delete` does, from synchronous code."""
        self._app.run_sync(self.delete(name, force=force))

    def _sync(self, coroutine: Any) -> ScheduleInfo:
        info: ScheduleInfo = self._app.run_sync(coroutine)
        return info

    async def _desk(self) -> Desk:
        return Desk((await self._app.client()).broker, self._app.clock)


def template(app: Scheduling, call: BoundTask[Any], name: str) -> Task:
    """Return the task that every fire of the schedule `name` copies, its secrets sealed. Raises
    `InvalidOption` for options that mean one enqueue only."""
    options = call.options
    if options.delay is not None or options.due_at is not None:
        raise InvalidOption("delay= and at= mean one enqueue: a schedule says when it fires")
    definition = call.definition
    made = app._new_task(call).task
    payload = stamped(made.payload, definition.version)
    if definition.encrypt:
        arguments = split(made.payload)
        of_schedule = msgspec.structs.replace(made, terms=Terms(schedule=name))
        # The same each time: or every start of a worker would seem to bring a new schedule.
        sealed = app.packing.seal(arguments, of_schedule, definition, steady=True)
        if sealed:
            payload = wrap(arguments, Wrapping(definition.version, tuple(sealed)))
    return msgspec.structs.replace(made, id="", enqueued_at=0.0, payload=payload)


def _free_name(name: str, taken: Mapping[str, Schedule]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}#{number}" in taken:
        number += 1
    return f"{name}#{number}"
