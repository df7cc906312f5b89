"""`migrate`, `doctor`, `backup` and `bench`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conveyor.cli.connection import Json, Url, url_or_default, with_broker
from conveyor.cli.failures import BAD_INPUT, BROKEN, explained, fail
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


_GUIDE = "docs/howto/backups.md"
_TOOLS = {
    "postgresql": "on PostgreSQL, whose own tool copies it: pg_dump --format=custom "
    "--file={path} {url}",
    "redis": "on Redis or Valkey, whose own tool copies it: redis-cli -u {url} --rdb {path}",
    "memory": "in memory: it ends with its process, and there is nothing to back up",
}


def backup(
    path: Annotated[Path, typer.Argument(help="The file to write, or a folder to write it to.")],
    url: Url = None,
    check: Annotated[
        bool, typer.Option("--check", help="Copy nothing: read a backup through.")
    ] = False,
) -> None:
    """Copy a SQLite store to a file while it is used; the copy is checked before it has its name.

    Of a store on a server it says which tool does that.
    """
    from conveyor import backups
    from conveyor.system import SystemClock

    with explained():
        if check:
            typer.echo(f"{path}: intact, sha256 {backups.check(path)}")
            return
        source = _file_of(url_or_default(url), path)
        target = path
        if path.is_dir():
            target = path / f"{source.stem}-{SystemClock().time():.0f}{source.suffix or '.db'}"
        if target.exists():
            fail(f"{target} is there already: name another file", BAD_INPUT)
        digest = backups.copy_database(source, target)
        typer.echo(f"{target}: {target.stat().st_size:,} bytes, checked, sha256 {digest}")


def _file_of(url: str, path: Path) -> Path:
    """Return the SQLite file of a URL; leaves with a sentence when there is none."""
    from conveyor.brokers.sqlite.options import locate
    from conveyor.brokers.url import connect
    from conveyor.core.urls import redact

    if not url.startswith("sqlite"):
        connect(url)  # to object to one that is none
        kind = "postgresql" if url.startswith("postgres") else "redis"
    else:
        kind, found = "memory", locate(url).path
        if found is not None and Path(found).is_file():
            return Path(found)
        if found is not None:
            fail(f"there is no file {found}: nothing to back up", BAD_INPUT)
    # Our own options in the query are nothing to their tools.
    told = _TOOLS[kind].format(path=path, url=redact(url).partition("?")[0])
    fail(f"the store is {told}; see {_GUIDE}", BAD_INPUT)
    raise AssertionError  # fail() leaves


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
