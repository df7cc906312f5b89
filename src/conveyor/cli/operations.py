"""`migrate`, `doctor` and `bench`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from conveyor.cli.connection import Json, Url, url_or_default, with_broker
from conveyor.cli.failures import BROKEN, explained
from conveyor.cli.output import as_json

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker, Violation


def migrate(url: Url = None) -> None:
    """Bring the store's schema to this version; safe beside running workers."""
    with explained():
        lines = migrate_url(url_or_default(url))
    for line in lines or ["the schema is current, nothing to do"]:
        typer.echo(line)


def migrate_url(url: str) -> list[str]:
    """Migrate the store of a URL; one line per change made."""
    from conveyor.brokers.url import connect

    async def run() -> list[str]:
        broker = connect(url)
        try:
            lines = await broker.migrate()
            # A store without a schema of its own (Redis) is then known to be there at least.
            await broker.open()
            return lines
        finally:
            await broker.close()

    return asyncio.run(run())


def doctor(url: Url = None, as_json_: Json = False) -> None:
    """Check the queue's invariants; exit code 1 when one is broken."""
    found, overdue = with_broker(url, _check)
    if as_json_:
        as_json(found)
    elif not found:
        typer.echo("all invariants hold")
    for name in overdue:
        typer.echo(
            f"warning: schedule {name!r} is overdue by a minute: does a keeper run?", err=True
        )
    for violation in () if as_json_ else found:
        ids = f" ({', '.join(violation.ids[:5])}{' …' if len(violation.ids) > 5 else ''})"
        typer.echo(f"{violation.invariant}: {violation.message}{ids if violation.ids else ''}")
    if found:
        raise typer.Exit(BROKEN)


async def _check(broker: Broker) -> tuple[list[Violation], list[str]]:
    from conveyor.schedules.desk import Desk
    from conveyor.system import SystemClock

    return await broker.inspector.check(), await Desk(broker, SystemClock()).lagging()


def bench(
    count: Annotated[int, typer.Option("--count", min=100, max=1_000_000)] = 10_000,
    url: Annotated[
        str | None,
        typer.Option("--url", help="A store to measure on; default: a SQLite file made for it."),
    ] = None,
) -> None:
    """Measure this machine: enqueue and run no-op tasks; prints JSON."""
    from conveyor.cli.measure import measure

    with explained():
        as_json(measure(count, url))
