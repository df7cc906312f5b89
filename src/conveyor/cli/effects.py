"""`conveyor effects` and `conveyor outbox`: what tasks did elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from conveyor.cli.connection import Json, Url, url_or_default
from conveyor.cli.failures import explained
from conveyor.cli.output import as_json, moment, table
from conveyor.core.errors import InvalidOption

if TYPE_CHECKING:
    from conveyor.app import Conveyor

T = TypeVar("T")
effects = typer.Typer(help="Effects of tasks outside of the queue.", no_args_is_help=True)
outbox = typer.Typer(help="The outbox in an application's database.", no_args_is_help=True)
Task = Annotated[str, typer.Argument(metavar="ID", help="Task id.")]


@effects.command("list")
def list_effects(task_id: Task, url: Url = None, as_json_: Json = False) -> None:
    """List the effects on record for a task; `intended` is in doubt once its execution is over."""
    from conveyor.effects import effects_of

    found = _with_app(url, lambda app: effects_of(app, task_id))
    if as_json_:
        as_json(found)
        return
    table(
        ("effect", "key", "state", "execution", "since (UTC)"),
        ((one.name, one.key, str(one.state), one.execution, moment(one.at)) for one in found),
        empty="no effects",
        spare=("since (UTC)",),
    )


@effects.command("decide")
def decide(
    task_id: Task,
    happened: Annotated[
        bool | None,
        typer.Option(
            "--happened/--not-happened",
            help="Skip it from now on, or do it anew.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--effect", help="Only effects of this name.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Only the effect with this key.")] = None,
    url: Url = None,
) -> None:
    """Decide what became of a task's effects that are in doubt, and requeue the task."""
    from conveyor.effects import resolve

    with explained():
        if happened is None:
            raise InvalidOption("say --happened or --not-happened")
    decided = _with_app(url, lambda app: resolve(app, task_id, name, key, happened=bool(happened)))
    typer.echo(f"{len(decided)} effect(s) {decided[0].state}; {task_id} requeued")


@outbox.command("ddl")
def ddl(
    dialect: Annotated[str, typer.Option("--dialect", help="postgresql or sqlite.")] = "postgresql",
) -> None:
    """Print the SQL of the tables that an application's own database needs."""
    with explained():
        try:
            from conveyor.transactions.tables import ddl as text
        except ModuleNotFoundError as exc:
            raise InvalidOption(
                "the outbox needs SQLAlchemy: pip install 'conveyor[sqlalchemy]'"
            ) from exc
        typer.echo(text(dialect), nl=False)


def _with_app(url: str | None, use: Callable[[Conveyor], Awaitable[T]]) -> T:
    import asyncio

    from conveyor.app import Conveyor

    async def main() -> T:
        async with Conveyor(url_or_default(url)) as app:
            return await use(app)

    with explained():
        return asyncio.run(main())
    raise AssertionError  # explained() leaves by an exception
