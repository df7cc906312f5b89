"""`conveyor serve`, `conveyor up` and `conveyor console migrate`."""

from __future__ import annotations

import asyncio
import secrets
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from conveyor.cli.connection import Url
from conveyor.cli.failures import BAD_INPUT, BROKEN, explained, fail
from conveyor.cli.running import Concurrency, Processes, Target
from conveyor_console.kit.ids import new_id

if TYPE_CHECKING:
    from conveyor import Conveyor
    from conveyor_console.settings import Settings

FIRST_ADMINISTRATOR = "admin@example.com"
Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port to listen on.")]
console = typer.Typer(name="console", help="The console's own database.", no_args_is_help=True)


def serve(target: Target, host: Host = "127.0.0.1", port: Port = 8000, url: Url = None) -> None:
    """Serve the console's API for MODULE:APP: any number of replicas behind a proxy."""
    from conveyor_console.cli.serving import serve_until_stopped

    with explained():
        queue, settings = _prepare(target, url, host)
        raise typer.Exit(serve_until_stopped(queue, settings, host, port))


def up(
    target: Target,
    url: Url = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    concurrency: Concurrency = 32,
    processes: Processes = 1,
    reload: Annotated[bool, typer.Option("--reload", help="Restart when code changes.")] = False,
) -> None:
    """Run everything for MODULE:APP by one command: schema, worker, keeper and console.

    The first run makes an administrator and prints the password once, unless
    CONVEYOR_ADMIN_EMAIL and CONVEYOR_ADMIN_PASSWORD name one.
    """
    options = ["--concurrency", str(concurrency), "--processes", str(processes)]
    options += ["--reload"] if reload else []
    with explained():
        from conveyor.cli.operations import migrate_url
        from conveyor_console.cli.serving import worker_beside

        queue, settings = _prepare(target, url, host)
        for line in [*migrate_url(queue.url), *asyncio.run(_first_run(queue.url, settings))]:
            typer.echo(line, err=True)
        raise typer.Exit(worker_beside(target, options, queue, settings, host=host, port=port))


@console.command()
def migrate(url: Url = None) -> None:
    """Bring the console's database to this version, safe beside running replicas."""
    with explained():
        _check_installed()
        from conveyor.cli.connection import url_or_default

        lines = asyncio.run(_migrate(url_or_default(url), _settings()))
        for line in lines or ["console: the schema is current"]:
            typer.echo(line)


def _prepare(target: str, url: str | None, host: str) -> tuple[Conveyor, Settings]:
    from conveyor.loading import load

    _check_installed()
    from conveyor_console.settings import check_address

    queue, _ = load(target)
    if url is not None:
        queue.url = url
    settings = _settings()
    check_address(host, settings)
    return queue, settings


def _check_installed() -> None:
    if find_spec("fastapi") is None or find_spec("pydantic_settings") is None:
        fail("the console is not installed here: pip install 'conveyor[console]'", BROKEN)


def _settings() -> Settings:
    """Read the environment; what is wrong there is a sentence."""
    from pydantic import ValidationError

    from conveyor_console.settings import Settings

    try:
        return Settings()
    except ValidationError as exc:
        wrong = exc.errors()[0]
        name = "CONVEYOR_" + "_".join(str(part) for part in wrong["loc"]).upper()
        fail(f"{name}: {wrong['msg'].removeprefix('Value error, ')}", BAD_INPUT)
        sys.exit(BAD_INPUT)  # never reached: fail() leaves


async def _first_run(queue_url: str, settings: Settings) -> list[str]:
    """Make the schema and, while nobody could sign in, an administrator; returns what to say."""
    from conveyor_console.auth.accounts import first_administrator
    from conveyor_console.auth.passwords import Passwords
    from conveyor_console.db.engine import Database
    from conveyor_console.kit.clock import SystemClock

    lines = await _migrate(queue_url, settings)
    if settings.admin_email is not None:
        return lines
    email, password = FIRST_ADMINISTRATOR, secrets.token_urlsafe(15)
    database, passwords = Database(settings.database_for(queue_url)), Passwords()
    try:
        async with database.writing() as db:
            made = await first_administrator(
                db,
                passwords,
                user_id=new_id(),
                email=email,
                password=password,
                now=SystemClock.now(),
            )
    finally:
        passwords.close()
        await database.close()
    if made is not None:
        lines.append(f"console: first administrator {email}, password {password} (shown once)")
    return lines


async def _migrate(queue_url: str, settings: Settings) -> list[str]:
    from conveyor_console.db import schema
    from conveyor_console.db.engine import Database

    database = Database(settings.database_for(queue_url), patience=None)
    try:
        return await schema.upgrade(database)
    finally:
        await database.close()
