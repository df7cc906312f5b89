"""`conveyor workers`: who works, and what they are told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from conveyor.cli.connection import Json, Url, with_broker
from conveyor.cli.failures import NOT_FOUND, fail
from conveyor.cli.output import as_json, moment, size, span, table
from conveyor.cli.queues import login
from conveyor.core.order import Action, Order

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker

app = typer.Typer(help="List workers, pause, resume, drain and end one.")
Id = Annotated[str, typer.Argument(metavar="ID", help="Of the worker, as `conveyor workers` says.")]
Reason = Annotated[str, typer.Option("--reason", help="Goes to the worker's log.")]
By = Annotated[str | None, typer.Option("--by", help="Default: your login name.")]


@app.callback(invoke_without_command=True)
def workers(context: typer.Context, url: Url = None, as_json_: Json = False) -> None:
    """List workers with a live lease; or tell one what to do."""
    if context.invoked_subcommand is not None:
        return
    found = with_broker(url, lambda broker: broker.inspector.workers())
    if as_json_:
        as_json(found)
        return
    table(
        (
            "id",
            "mode",
            "host",
            "pid",
            "queues",
            "running",
            "stuck",
            "stale",
            "lag",
            "memory",
            "since (UTC)",
        ),
        (
            (
                info.id,
                info.mode,
                info.host,
                info.pid,
                ", ".join(info.queues) or "all",
                f"{info.running}/{info.concurrency}",
                info.stuck,
                info.stale,
                span(info.loop_lag),
                size(info.rss),
                moment(info.started_at),
            )
            for info in found
        ),
        empty="no worker is live",
        spare=("stale", "lag", "memory", "since (UTC)", "stuck", "queues", "pid"),
    )


@app.command("pause")
def pause(worker: Id, reason: Reason = "", by: By = None, url: Url = None) -> None:
    """Let it take no more tasks; what it runs goes on."""
    _tell(worker, "pause", reason, by, url)


@app.command("resume")
def resume(worker: Id, reason: Reason = "", by: By = None, url: Url = None) -> None:
    """Let it take tasks again."""
    _tell(worker, "resume", reason, by, url)


@app.command("drain")
def drain(worker: Id, reason: Reason = "", by: By = None, url: Url = None) -> None:
    """Let it end when what it runs has ended, however long that takes."""
    _tell(worker, "drain", reason, by, url)


@app.command("shutdown")
def shutdown(worker: Id, reason: Reason = "", by: By = None, url: Url = None) -> None:
    """Let it end as SIGTERM does: what runs gets the worker's grace."""
    _tell(worker, "shutdown", reason, by, url)


def _tell(worker: str, action: Action, reason: str, by: str | None, url: str | None) -> None:
    from conveyor.brokers.orders import give_order

    order = Order(action, by or login(), reason, time.time())

    async def give(broker: Broker) -> bool:
        if worker not in {info.id for info in await broker.inspector.workers()}:
            return False
        await give_order(broker, worker, order)
        return True

    if not with_broker(url, give):
        fail(f"no worker that lives has the id {worker!r}: see conveyor workers", NOT_FOUND)
    typer.echo(f"{worker}  told to {action}")
