"""`conveyor tasks`: look at tasks, run them again, stop them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conveyor.cli.connection import Json, Url, with_broker
from conveyor.cli.failures import NOT_FOUND, explained, fail
from conveyor.cli.output import as_json, console, moment, span, state, table
from conveyor.core.task import State, TaskInfo

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker

app = typer.Typer(help="List, show, retry and cancel tasks; read their logs.", no_args_is_help=True)
Ids = Annotated[list[str], typer.Argument(metavar="ID…", help="Task ids.")]
_AGAIN = "failed, cancelled or scheduled"
_TOO_LATE = {State.SUCCEEDED, State.FAILED, State.SKIPPED}
Id = Annotated[str, typer.Argument(metavar="ID", help="Task id.")]


@app.command("list")
def list_tasks(
    states: Annotated[
        list[State] | None, typer.Option("--state", help="Only this state; may be repeated.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Only this task definition.")] = None,
    before: Annotated[
        str | None, typer.Option("--before", help="Only tasks made before this id.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000)] = 50,
    url: Url = None,
    as_json_: Json = False,
) -> None:
    """List tasks, the newest first."""
    from conveyor.brokers.base import Filter

    where = Filter(states=tuple(states or ()), queue=queue, name=name, before=before, limit=limit)
    found = with_broker(url, lambda broker: broker.inspector.tasks(where))
    if as_json_:
        as_json(found)
        return
    table(
        ("id", "task", "queue", "priority", "state", "attempts", "enqueued (UTC)"),
        (
            (
                info.id,
                info.name,
                info.queue,
                info.priority,
                state(info.state, info.flags),
                f"{info.attempts}/{info.max_attempts}",
                moment(info.enqueued_at),
            )
            for info in found
        ),
        empty="no such tasks",
        spare=("priority", "attempts", "enqueued (UTC)", "queue"),
    )


@app.command("show")
def show(task_id: Id, url: Url = None, as_json_: Json = False) -> None:
    """Show all that is known of a task, every execution included."""
    info = with_broker(url, lambda broker: broker.inspector.get(task_id))
    if as_json_:
        as_json(info)
        return
    _show(info)


def _show(info: TaskInfo) -> None:
    out = console()
    out.print(f"[bold]{info.name}[/bold]  {info.id}", soft_wrap=True)
    facts: list[tuple[str, Any]] = [
        ("state", state(info.state, info.flags)),
        ("why", info.reason),
        ("queue", f"{info.queue}, priority {info.priority}"),
        ("arguments", _call(info)),
        ("key", info.key),
        ("enqueued", moment(info.enqueued_at)),
        ("due", moment(info.due_at)),
        ("finished", moment(info.finished_at)),
        ("attempts", f"{info.attempts} of {info.max_attempts} spent"),
        ("progress", _progress(info)),
    ]
    for title, value in facts:
        if value:
            out.print(f"  {title:<10} {value}", markup=False, soft_wrap=True)
    for entry in info.executions:
        out.print(
            f"  #{entry.number} attempt {entry.attempt}: {entry.outcome} after "
            f"{span(entry.duration)} at {moment(entry.started_at)}"
            + (f", again in {span(entry.retry_in)}" if entry.retry_in else ""),
            markup=False,
            soft_wrap=True,
        )
        if entry.error:
            text = entry.error.traceback or f"{entry.error.type}: {entry.error.message}"
            for line in text.rstrip().splitlines():
                out.print(f"     {line}", markup=False, soft_wrap=True)


def _call(info: TaskInfo) -> str:
    parts = [repr(value) for value in info.args]
    parts += [f"{name}={value!r}" for name, value in info.kwargs.items()]
    return f"({', '.join(parts)})"


def _progress(info: TaskInfo) -> str:
    note = info.progress
    if note is None:
        return ""
    of = f" of {note.total:g}" if note.total is not None else ""
    return f"{note.done:g}{of} {note.message}".rstrip()


@app.command("why")
def why(task_id: Id, url: Url = None, as_json_: Json = False) -> None:
    """Say why a task is not running, and what has to happen."""
    from conveyor.brokers.explain import explain

    reasons = with_broker(url, lambda broker: explain(broker, task_id, time.time()))
    if as_json_:
        as_json(reasons)
        return
    for reason in reasons:
        typer.echo(reason.text)
        if reason.opens:
            typer.echo(f"  opens with: {reason.opens}")


@app.command("logs")
def logs(task_id: Id, url: Url = None, as_json_: Json = False) -> None:
    """Print the captured log lines of each execution."""
    info = with_broker(url, lambda broker: broker.inspector.get(task_id))
    if as_json_:
        as_json([{"execution": e.number, "lines": e.logs} for e in info.executions])
        return
    for entry in info.executions:
        typer.echo(f"— execution {entry.number}, attempt {entry.attempt}: {entry.outcome}")
        for line in entry.logs or ("(no lines)",):
            typer.echo(line)


@app.command("retry")
def retry(ids: Ids, url: Url = None) -> None:
    """Run failed or cancelled tasks again, or scheduled ones now."""
    report(ids, with_broker(url, lambda broker: broker.requeue(ids)), "queued", _AGAIN)


@app.command("reschedule")
def reschedule(
    ids: Ids,
    delay: Annotated[
        float | None, typer.Option("--delay", help="Seconds from now; 0 is now.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="When, ISO 8601 with a zone: 2027-01-31T09:00:00Z.")
    ] = None,
    url: Url = None,
) -> None:
    """Let scheduled tasks start at another time, sooner or later."""
    from conveyor.cli.enqueue import instant_of
    from conveyor.core.errors import InvalidOption
    from conveyor.core.options import when

    with explained():
        chosen = when(delay, None if at is None else instant_of(at, "--at"))
        if not chosen:
            raise InvalidOption("--delay or --at: say when the tasks are to start")
    moved = with_broker(url, lambda broker: broker.reschedule(ids, **chosen))
    report(ids, moved, "rescheduled", "scheduled")


@app.command("run-now")
def run_now(ids: Ids, url: Url = None) -> None:
    """Let scheduled tasks start now; others are left alone."""
    moved = with_broker(url, lambda broker: broker.reschedule(ids, delay=0))
    report(ids, moved, "due", "scheduled")


@app.command("cancel")
def cancel(
    ids: Ids,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the task.")] = "",
    url: Url = None,
) -> None:
    """Cancel waiting tasks now, and ask running ones to stop."""

    async def ask(broker: Broker) -> dict[str, State]:
        return await broker.cancel(ids, by="cli", reason=reason)

    states = with_broker(url, ask)
    for task_id, found in states.items():
        typer.echo(f"{task_id}  {'asked to stop' if found is State.RUNNING else found}")
    missing = [task_id for task_id in ids if task_id not in states]
    if missing:
        fail(f"{len(missing)} id(s) belong to no task: {_some(missing)}", NOT_FOUND)
    late = [task_id for task_id, found in states.items() if found in _TOO_LATE]
    if late:
        fail(
            f"{len(late)} task(s) had ended before they could be stopped: {_some(late)}", NOT_FOUND
        )


def report(asked: list[str], changed: list[str], verb: str, states: str) -> None:
    """Say what became of each id; leaves with exit code 4 when some did not change, because they
    were in none of `states`."""
    for task_id in changed:
        typer.echo(f"{task_id}  {verb}")
    left = [task_id for task_id in asked if task_id not in set(changed)]
    if left:
        fail(
            f"{len(left)} task(s) unchanged, they do not exist or are not {states}: {_some(left)}",
            NOT_FOUND,
        )


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:3]) + (" …" if len(ids) > 3 else "")
