"""`conveyor`: the root of the command line. Commands import what they need when they run, so that
`--help` stays quick; other packages add theirs by the entry-point group `conveyor.commands`."""

from __future__ import annotations

import errno
import os
import sys
from importlib.metadata import entry_points
from io import TextIOWrapper
from typing import Annotated, cast

import typer

from conveyor.cli import (
    contract,
    dead,
    effects,
    enqueue,
    flow_control,
    operations,
    queues,
    running,
    schedules,
    tasks,
    workers,
    workflows,
)
from conveyor.cli.failures import BAD_INPUT, BROKEN

app = typer.Typer(
    name="conveyor",
    help="Conveyor: a distributed task queue.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"conveyor {version('conveyor')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Conveyor: a distributed task queue."""


app.command("up")(running.up)
app.command("worker")(running.worker)
app.command("keeper")(running.keeper)
app.command("enqueue")(enqueue.enqueue)
app.command("migrate")(operations.migrate)
app.command("doctor")(operations.doctor)
app.command("backup")(operations.backup)
app.command("bench")(operations.bench)
app.add_typer(tasks.app, name="tasks")
app.add_typer(queues.app, name="queues")
app.add_typer(workers.app, name="workers")
app.add_typer(dead.app, name="dead")
app.add_typer(contract.app, name="contract")
app.add_typer(flow_control.limits, name="limits")
app.add_typer(flow_control.strikes, name="strikes")
app.add_typer(schedules.app, name="schedules")
app.add_typer(workflows.app, name="workflows")
app.add_typer(effects.effects, name="effects")
app.add_typer(effects.outbox, name="outbox")


def add_commands(root_app: typer.Typer) -> None:
    """Add what other packages offer: each entry point is a Typer app or a function. It may take
    the place of one of ours: the console's `up` also runs the console."""
    for point in entry_points(group="conveyor.commands"):
        extra = point.load()
        for ours in (root_app.registered_commands, root_app.registered_groups):
            ours[:] = [one for one in ours if one.name != point.name]  # type: ignore[misc]
        if isinstance(extra, typer.Typer):
            root_app.add_typer(extra, name=point.name)
        else:
            root_app.command(point.name)(extra)


def main() -> None:
    """Run the command line."""
    add_commands(app)
    if isinstance(sys.stdout, TextIOWrapper):
        # A pipe may know no "●": a question mark is better than a traceback.
        sys.stdout.reconfigure(errors="replace")
    try:
        " ".join(sys.argv).encode()
    except UnicodeEncodeError:
        sys.stderr.write("error: the command line holds bytes that are not UTF-8\n")
        sys.exit(BAD_INPUT)
    try:
        code = app(prog_name="conveyor", standalone_mode=False)
    except _UsageError as exc:
        code = _misused(exc)
    except OSError as exc:
        if exc.errno not in {errno.ENOSPC, errno.EIO}:
            raise
        code = _unwritten(exc)
    sys.exit(code or 0)


def _unwritten(error: OSError) -> int:
    """Say that the output is lost, and see to it that the interpreter does not try again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stderr.write(f"error: standard output cannot be written: {error.strerror}\n")
    return BROKEN


_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)


def _misused(error: typer.BadParameter) -> int:
    """Say in one sentence what is wrong with the command line; returns the exit code."""
    text = error.format_message().replace("Value error, ", "").strip().rstrip(".")
    if "\n" in text:
        error.show()  # no command was named: the help
    else:
        command = "conveyor" if error.ctx is None else error.ctx.command_path
        text = text[:1].lower() + text[1:]
        sys.stderr.write(f"error: {text}; see {command} --help\n")
    return BAD_INPUT
