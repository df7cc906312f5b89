"""`conveyor queues`."""

from __future__ import annotations

import getpass
import time
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from conveyor.cli.connection import Json, Url, with_broker
from conveyor.cli.failures import explained
from conveyor.cli.output import as_json, span, table
from conveyor.core.options import queue_name
from conveyor.core.task import Pause

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker

app = typer.Typer(help="List, pause and resume queues.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="QUEUE")]


@app.command("list")
def list_queues(url: Url = None, as_json_: Json = False) -> None:
    """List queues with what waits in them."""
    found = with_broker(url, lambda broker: broker.inspector.queues())
    if as_json_:
        as_json(found)
        return
    table(
        ("queue", "queued", "scheduled", "running", "parked", "oldest waits", "paused"),
        (
            (
                info.name,
                info.queued,
                info.scheduled,
                info.running,
                info.parked,
                span(info.oldest_wait),
                f"{info.pause.reason or 'yes'} (by {info.pause.by})" if info.pause else "",
            )
            for info in found
        ),
        empty="no queue has had a task yet",
        spare=("oldest waits", "parked", "scheduled"),
    )


@app.command("pause")
def pause(
    queue: Name,
    reason: Annotated[str, typer.Option("--reason", help="Shown to everyone.")] = "",
    by: Annotated[str | None, typer.Option("--by", help="Default: your login name.")] = None,
    url: Url = None,
) -> None:
    """Stop giving out tasks of QUEUE; enqueueing goes on."""
    with explained():
        queue_name(queue)
    note = Pause(reason=reason, by=by or login(), at=time.time())
    with_broker(url, lambda broker: _switch(broker, queue, note))
    typer.echo(f"{queue} is paused")


@app.command("resume")
def resume(queue: Name, url: Url = None) -> None:
    """Give out tasks of QUEUE again."""
    with explained():
        queue_name(queue)
    with_broker(url, lambda broker: _switch(broker, queue, None))
    typer.echo(f"{queue} is running")


async def _switch(broker: Broker, queue: str, note: Pause | None) -> None:
    """Pause or resume; a queue that nobody knows is worth a word, since it may be mistyped."""
    known = await broker.inspector.queue_names()
    if queue not in known:
        near = get_close_matches(queue, known, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        typer.echo(f"note: no task has been in a queue {queue!r} yet{hint}", err=True)
    await broker.pause(queue, note)


def login() -> str:
    """Return who is at the keyboard."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
