"""`conveyor dead`: dead letters, kept whole until someone decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from conveyor.cli.connection import Json, Url, with_broker
from conveyor.cli.failures import explained
from conveyor.cli.output import as_json, moment, table
from conveyor.cli.tasks import report
from conveyor.core.errors import InvalidOption
from conveyor.core.task import State

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker

app = typer.Typer(help="List, requeue and discard dead letters.", no_args_is_help=True)
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID…]", help="Task ids.")]
Every = Annotated[bool, typer.Option("--all", help="All dead letters that match.")]
Queue = Annotated[str | None, typer.Option("--queue")]
Name = Annotated[str | None, typer.Option("--name", help="Only this task definition.")]


@app.command("list")
def list_dead(
    queue: Queue = None,
    name: Name = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000)] = 50,
    url: Url = None,
    as_json_: Json = False,
) -> None:
    """List dead letters, the newest first."""
    from conveyor.brokers.base import Filter

    where = Filter(states=(State.FAILED,), queue=queue, name=name, limit=limit)
    found = with_broker(url, lambda broker: broker.inspector.tasks(where))
    if as_json_:
        as_json(found)
        return
    table(
        ("id", "task", "queue", "attempts", "error", "died (UTC)"),
        (
            (
                info.id,
                info.name,
                info.queue,
                info.attempts,
                f"{info.error.type}: {info.error.message}"[:120] if info.error else info.reason,
                moment(info.finished_at),
            )
            for info in found
        ),
        empty="no dead letters",
        spare=("attempts", "died (UTC)", "queue"),
    )


@app.command("requeue")
def requeue(
    ids: Ids = None, every: Every = False, queue: Queue = None, name: Name = None, url: Url = None
) -> None:
    """Give dead letters another life, with their keys and history."""
    asked = _chosen(ids, every, queue, name, url)
    report(
        asked,
        with_broker(url, lambda broker: broker.requeue(asked, dead_only=True)),
        "queued",
        "dead letters",
    )


@app.command("discard")
def discard(
    ids: Ids = None, every: Every = False, queue: Queue = None, name: Name = None, url: Url = None
) -> None:
    """Delete dead letters for good."""
    asked = _chosen(ids, every, queue, name, url)
    report(
        asked, with_broker(url, lambda broker: broker.discard(asked)), "discarded", "dead letters"
    )


def _chosen(
    ids: list[str] | None, every: bool, queue: str | None, name: str | None, url: str | None
) -> list[str]:
    with explained():
        if bool(ids) == every:
            raise InvalidOption("give the ids of dead letters, or --all (with --queue or --name)")
    if ids:
        return ids
    return with_broker(url, lambda broker: _matching(broker, queue, name))


async def _matching(broker: Broker, queue: str | None, name: str | None) -> list[str]:
    from conveyor.brokers.base import Filter

    found: list[str] = []
    before: str | None = None
    while True:
        where = Filter(states=(State.FAILED,), queue=queue, name=name, before=before, limit=1_000)
        page = await broker.inspector.tasks(where)
        found += [info.id for info in page]
        if len(page) < 1_000:
            return found
        before = page[-1].id
