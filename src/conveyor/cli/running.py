"""`up`, `worker` and `keeper`: the commands that stay."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from conveyor.cli.connection import Url
from conveyor.cli.failures import explained

if TYPE_CHECKING:
    from conveyor.worker.settings import WorkerSettings

Target = Annotated[
    str, typer.Argument(metavar="MODULE:APP", help="Where the app is, e.g. shop.tasks:app.")
]
Queues = Annotated[
    str | None,
    typer.Option(
        "--queues",
        help="Serve only these, e.g. mail,media; mail=3 looks there three times as often. "
        "Default: every queue.",
    ),
]
Reserve = Annotated[
    str | None,
    typer.Option("--reserve", help="Slots per process that only a queue may use: critical=2."),
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
    with explained():
        settings = _settings(concurrency=concurrency, processes=processes)
    _work(settings, target, url, burst=False, reload=reload, keeper=True)


def worker(
    target: Target,
    url: Url = None,
    queues: Queues = None,
    reserve: Reserve = None,
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
    with explained():
        settings = _settings(queues, reserve, concurrency=concurrency, processes=processes)
    _work(settings, target, url, burst=burst, reload=reload, keeper=keeper)


def keeper(target: Target, url: Url = None) -> None:
    """Run only the keeper: schedules, rescue of lost tasks, due tasks on idle queues, retention,
    the outbox."""
    from conveyor.keeper.main import run
    from conveyor.loading import load

    with explained():
        app, _ = load(target)
        raise typer.Exit(run(app.url if url is None else url, app, target))


def _settings(
    queues: str | None = None, reserve: str | None = None, *, concurrency: int, processes: int
) -> WorkerSettings:
    """Read what the options say of queues. Raises `InvalidOption`."""
    from conveyor.core.errors import InvalidOption
    from conveyor.worker.settings import WorkerSettings

    weights = _numbers(queues, "--queues", 1)
    reserved = _numbers(reserve, "--reserve", None)
    if weights and (unserved := set(reserved) - set(weights)):
        raise InvalidOption(f"--reserve {min(unserved)}: this worker does not serve that queue")
    if sum(reserved.values()) >= concurrency and set(reserved) != set(weights):
        raise InvalidOption(
            f"--reserve keeps {sum(reserved.values())} of {concurrency} slots: leave one at least"
        )
    return WorkerSettings(
        queues=tuple(weights),
        weights=weights if any(weight != 1 for weight in weights.values()) else {},
        reserved=reserved,
        concurrency=concurrency,
        processes=processes,
    )


def _numbers(text: str | None, option: str, default: int | None) -> dict[str, int]:
    """Read `mail=3,media`. Raises `InvalidOption`."""
    from conveyor.core.errors import InvalidOption
    from conveyor.core.options import queue_name

    found: dict[str, int] = {}
    for part in () if text is None else text.split(","):
        name, sign, number = part.strip().partition("=")
        if not sign and default is not None:
            found[queue_name(name)] = default
        elif number.isdecimal() and 1 <= int(number) <= 10_000:
            found[queue_name(name)] = int(number)
        else:
            raise InvalidOption(f"{option} {part.strip()!r}: QUEUE=NUMBER, a number from 1")
    return found


def _work(
    settings: WorkerSettings,
    target: str,
    url: str | None,
    *,
    burst: bool,
    reload: bool,
    keeper: bool,
) -> None:
    import msgspec

    from conveyor.worker.main import become

    with explained():
        whole = msgspec.structs.replace(
            settings, target=target, url=url, burst=burst, reload=reload, keeper=keeper
        )
        raise typer.Exit(become(whole, sys.argv[1:]))


def _migrate(target: str, url: str | None) -> None:
    """Bring the schema up to date, so that `up` needs no command before it."""
    from conveyor.cli.operations import migrate_url
    from conveyor.loading import load

    with explained():
        app, _ = load(target)
        for line in migrate_url(app.url if url is None else url):
            typer.echo(line, err=True)
