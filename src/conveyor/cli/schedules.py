"""`conveyor schedules`: what fires by itself, looked at and changed at run time."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from conveyor.cli.connection import Json, Url, with_broker
from conveyor.cli.failures import explained
from conveyor.cli.output import as_json, moment, span, table
from conveyor.cli.running import Target

if TYPE_CHECKING:
    from conveyor.core.timing import Fire
    from conveyor.schedules import ScheduleInfo
    from conveyor.schedules.desk import Desk

T = TypeVar("T")
app = typer.Typer(help="List, preview, make and change schedules.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.")]
Cron = Annotated[
    str | None, typer.Option("--cron", help="Five fields or a nickname: '0 9 * * MON-FRI', @daily.")
]
Tz = Annotated[
    str | None, typer.Option("--tz", help="IANA time zone of the cron expression; default: UTC.")
]
Every = Annotated[
    float | None, typer.Option("--every", help="Seconds, instead of --cron; at least 0.1.")
]
Overlap = Annotated[
    str | None,
    typer.Option(
        "--overlap",
        help="While an earlier task runs: allow, skip, buffer_one, buffer_all, cancel_other.",
    ),
]
CatchUp = Annotated[
    str | None, typer.Option("--catch-up", help="Fires nobody was there for: none, last, all.")
]
Window = Annotated[
    float | None, typer.Option("--catch-up-window", help="Seconds back that is caught up.")
]
Jitter = Annotated[float | None, typer.Option("--jitter", help="Seconds late at most.")]
Queue = Annotated[str | None, typer.Option("--queue", help="Another queue.")]
Priority = Annotated[
    str | None, typer.Option("--priority", help="0–9 (9 first), low, normal, high, critical.")
]


@app.command("list")
def list_schedules(url: Url = None, as_json_: Json = False) -> None:
    """List schedules with their next fires."""
    found = _at_desk(url, lambda desk: desk.list())
    if as_json_:
        as_json(found)
        return
    table(
        ("schedule", "timing", "task", "next (UTC)", "last (UTC)", "fired", "skipped", "from"),
        (
            (
                info.name,
                info.timing,
                info.task,
                _next(info),
                moment(info.last_at),
                info.fired,
                info.skipped,
                info.scope or "run time",
            )
            for info in found
        ),
        empty="there are no schedules",
        spare=("skipped", "from", "last (UTC)", "fired", "task"),
    )


@app.command("show")
def show(name: Name, url: Url = None, as_json_: Json = False) -> None:
    """Show all that is known of one schedule."""
    info = _at_desk(url, lambda desk: desk.get(name))
    if as_json_:
        as_json(info)
        return
    _print(info)


@app.command("preview")
def preview(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Name; or give --cron or --every.")
    ] = None,
    cron: Cron = None,
    tz: Tz = None,
    every: Every = None,
    count: Annotated[int, typer.Option("--count", min=1, max=1_000, help="How many.")] = 5,
    url: Url = None,
    as_json_: Json = False,
) -> None:
    """Show the next fires, of a schedule or of what --cron or --every would be."""
    from conveyor.core.errors import InvalidOption
    from conveyor.core.timing import preview as preview_of
    from conveyor.core.timing import timing
    from conveyor.system import SystemClock

    with explained():
        if name is not None and (cron or tz or every):
            raise InvalidOption("give either the NAME of a schedule, or --cron or --every")
        when = None if name is not None else timing(cron=cron, tz=tz, every=every)
    fires = (
        _at_desk(url, lambda desk: desk.preview(name or "", count))
        if when is None
        else preview_of(when, SystemClock().time(), count)
    )
    if as_json_:
        as_json([_plain(fire) for fire in fires])
        return
    table(
        ("UTC", "local", ""),
        (
            (moment(fire.at.timestamp()), fire.local.strftime("%a %Y-%m-%d %H:%M:%S %z"), fire.note)
            for fire in fires
        ),
        empty="it never fires again",
    )


@app.command("create")
def create(
    name: Name,
    target: Target,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of the task definition.")],
    cron: Cron = None,
    tz: Tz = None,
    every: Every = None,
    args: Annotated[str, typer.Option("--args", help="Positional arguments, a JSON array.")] = "[]",
    kwargs: Annotated[
        str, typer.Option("--kwargs", help="Keyword arguments, a JSON object.")
    ] = "{}",
    overlap: Overlap = None,
    catch_up: CatchUp = None,
    catch_up_window: Window = None,
    jitter: Jitter = None,
    queue: Queue = None,
    priority: Priority = None,
    url: Url = None,
) -> None:
    """Make a schedule NAME that enqueues TASK of MODULE:APP."""
    from conveyor.cli.enqueue import bound_call, priority_of

    with explained():
        conveyor, call = bound_call(
            target, task, args, kwargs, url, queue=queue, priority=priority_of(priority)
        )
        policy = _given(
            overlap=overlap, catch_up=catch_up, catch_up_window=catch_up_window, jitter=jitter
        )

        async def run() -> ScheduleInfo:
            async with conveyor:
                made: ScheduleInfo = await conveyor.schedules.create(
                    name, call, cron=cron, tz=tz, every=every, **policy
                )
                return made

        info = asyncio.run(run())
    typer.echo(f"{name} fires next at {_next(info)} (UTC)")


@app.command("edit")
def edit(
    name: Name,
    cron: Cron = None,
    tz: Tz = None,
    every: Every = None,
    overlap: Overlap = None,
    catch_up: CatchUp = None,
    catch_up_window: Window = None,
    jitter: Jitter = None,
    queue: Queue = None,
    priority: Priority = None,
    url: Url = None,
) -> None:
    """Change what is given; nothing is made up for by the new timing."""
    from conveyor.cli.enqueue import priority_of
    from conveyor.core.errors import InvalidOption

    changes = _given(
        cron=cron,
        tz=tz,
        every=every,
        overlap=overlap,
        catch_up=catch_up,
        catch_up_window=catch_up_window,
        jitter=jitter,
        queue=queue,
        priority=priority_of(priority),
    )
    with explained():
        if not changes:
            raise InvalidOption("nothing to change was given, e.g. --cron '0 9 * * *'")
    info = _at_desk(url, lambda desk: desk.edit(name, **changes))
    typer.echo(f"{name} fires next at {_next(info)} (UTC)")


@app.command("pause")
def pause(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Shown to everyone.")] = "",
    by: Annotated[str | None, typer.Option("--by", help="Default: your login name.")] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="ISO 8601 with a zone; default: until resumed.")
    ] = None,
    url: Url = None,
) -> None:
    """Let NAME fire no more; what falls into the pause is not made up for."""
    from conveyor.cli.enqueue import instant_of

    with explained():
        end = None if until is None else instant_of(until, "--until")
    _at_desk(url, lambda desk: desk.pause(name, reason=reason, by=by or _login(), until=end))
    typer.echo(
        f"{name} is paused" + ("" if end is None else f" until {moment(end.timestamp())} (UTC)")
    )


@app.command("resume")
def resume(name: Name, url: Url = None) -> None:
    """Let NAME fire again, from now on."""
    info = _at_desk(url, lambda desk: desk.resume(name))
    typer.echo(f"{name} fires next at {_next(info)} (UTC)")


@app.command("run")
def run_now(name: Name, url: Url = None) -> None:
    """Enqueue the task of NAME at once, paused or not, and print its id."""
    typer.echo(_at_desk(url, lambda desk: desk.run_now(name)))


@app.command("delete")
def delete(
    name: Name,
    force: Annotated[
        bool, typer.Option("--force", help="Also one that code declares, until the next deploy.")
    ] = False,
    url: Url = None,
) -> None:
    """Delete NAME; tasks that it has enqueued stay."""
    _at_desk(url, lambda desk: desk.delete(name, force=force))
    typer.echo(f"{name} is deleted")


def _at_desk(url: str | None, use: Callable[[Desk], Awaitable[T]]) -> T:
    from conveyor.schedules.desk import Desk
    from conveyor.system import SystemClock

    return with_broker(url, lambda broker: use(Desk(broker, SystemClock())))


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _next(info: ScheduleInfo) -> str:
    if info.paused is None:
        return moment(info.next_at) or "never"
    why = f": {info.paused.reason}" if info.paused.reason else ""
    return f"paused by {info.paused.by or 'somebody'}{why}"


def _plain(fire: Fire) -> dict[str, object]:
    return {
        "at": fire.at.timestamp(),
        "utc": fire.at.isoformat(),
        "local": fire.local.isoformat(),
        "note": fire.note,
    }


def _print(info: ScheduleInfo) -> None:
    call = ", ".join([*map(repr, info.args), *(f"{k}={v!r}" for k, v in info.kwargs.items())])
    lines: Sequence[tuple[str, str]] = (
        ("schedule", info.name),
        ("timing", info.timing),
        ("task", f"{info.task}({call})"),
        ("queue", f"{info.queue}, priority {info.priority}"),
        ("overlap", info.overlap),
        ("catch up", f"{info.catch_up}, within {span(info.catch_up_window)}"),
        ("jitter", span(info.jitter) if info.jitter else "none"),
        ("next", _next(info)),
        ("last", " ".join(filter(None, [moment(info.last_at), info.last_task])) or "never"),
        ("fires", f"{info.fired} fired, {info.skipped} skipped, {info.waiting} waiting"),
        ("declared", f"in the code of {info.scope}" if info.scope else "at run time"),
        ("changed", moment(info.edited_at)),
    )
    for title, text in lines:
        typer.echo(f"{title:<9} {text}")


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
