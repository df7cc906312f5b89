"""`up`, `worker` and `keeper`: the commands that stay."""

from __future__ import annotations

from typing import Annotated

import typer

from conveyor.cli.connection import Url
from conveyor.cli.failures import explained

Target = Annotated[
    str, typer.Argument(metavar="MODULE:APP", help="Where the app is, e.g. shop.tasks:app.")
]
Queues = Annotated[
    str | None,
    typer.Option("--queues", help="Serve only these, e.g. mail,media. Default: every queue."),
]
Concurrency = Annotated[
    int, typer.Option("--concurrency", min=1, max=10_000, help="Tasks at a time, per process.")
]
Processes = Annotated[int, typer.Option("--processes", min=1, max=256, help="Child processes.")]


def up(
    target: Target,
    url: Url = None,
    concurrency: Concurrency = 32,
    processes: Processes = 1,
    reload: Annotated[bool, typer.Option("--reload", help="Restart when code changes.")] = False,
) -> None:
    """Run everything for MODULE:APP by one command: schema, worker and keeper."""
    _migrate(target, url)
    _work(target, url, None, concurrency, processes, burst=False, reload=reload, keeper=True)


def worker(
    target: Target,
    url: Url = None,
    queues: Queues = None,
    concurrency: Concurrency = 32,
    processes: Processes = 1,
    burst: Annotated[
        bool, typer.Option("--burst", help="Leave when nothing is queued any more.")
    ] = False,
    reload: Annotated[bool, typer.Option("--reload", help="Restart when code changes.")] = False,
    keeper: Annotated[
        bool, typer.Option("--keeper/--no-keeper", help="Also do the keeper's chores.")
    ] = True,
) -> None:
    """Run tasks of MODULE:APP until stopped. SIGTERM or Ctrl-C drains; twice stops at once."""
    _work(target, url, queues, concurrency, processes, burst=burst, reload=reload, keeper=keeper)


def keeper(target: Target, url: Url = None) -> None:
    """Run only the keeper: schedules, rescue of lost tasks, due tasks on idle queues, retention."""
    from conveyor.keeper.main import run
    from conveyor.loading import load

    with explained():
        app, _ = load(target)
        raise typer.Exit(run(url or app.url, app, target))


def _work(
    target: str,
    url: str | None,
    queues: str | None,
    concurrency: int,
    processes: int,
    *,
    burst: bool,
    reload: bool,
    keeper: bool,
) -> None:
    from conveyor.core.options import queue_name
    from conveyor.worker.settings import WorkerSettings
    from conveyor.worker.supervisor import run

    with explained():
        names = tuple(
            queue_name(name.strip()) for name in (queues or "").split(",") if name.strip()
        )
        settings = WorkerSettings(
            target=target,
            url=url,
            queues=names,
            concurrency=concurrency,
            processes=processes,
            burst=burst,
            reload=reload,
            keeper=keeper,
        )
        raise typer.Exit(run(settings))


def _migrate(target: str, url: str | None) -> None:
    """Bring the schema up to date, so that `up` needs no command before it."""
    from conveyor.cli.operations import migrate_url
    from conveyor.loading import load

    with explained():
        app, _ = load(target)
        for line in migrate_url(url or app.url):
            typer.echo(line, err=True)
