"""`conveyor workflows`: look at runs of workflows, stop them, go on with them."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from conveyor.cli.connection import Json, Url, with_broker
from conveyor.cli.failures import explained, fail, parse_json
from conveyor.cli.output import as_json, console, moment, span, state, table

if TYPE_CHECKING:
    from conveyor.flows.runs import Runs

T = TypeVar("T")
app = typer.Typer(help="Start, list, show, stop and retry runs of workflows.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the run.")]


def _with_runs(url: str | None, use: Callable[[Runs], Awaitable[T]]) -> T:
    from conveyor.flows.runs import Runs
    from conveyor.system import SystemClock

    return with_broker(url, lambda broker: use(Runs(broker, SystemClock())))


@app.command("start")
def start(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON definition.")],
    inputs: Annotated[str, typer.Option("--inputs", help="A JSON object.")] = "{}",
    url: Url = None,
) -> None:
    """Start a run of the workflow defined in FILE and print its id."""
    from conveyor.core.errors import InvalidOption
    from conveyor.flows.definition import load
    from conveyor.flows.handle import launch

    with explained():
        try:
            graph = load(file.read_bytes())
        except OSError as exc:
            raise InvalidOption(f"{file} cannot be read: {exc.strerror}") from None
        given = cast("dict[str, Any]", parse_json(inputs, "--inputs", dict))
    known = _with_runs(url, lambda runs: launch(runs, graph, given))
    typer.echo(known.run.id)


@app.command("list")
def list_runs(
    status: Annotated[
        str | None,
        typer.Option("--status", help="Only running, succeeded, failed or cancelled ones."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000)] = 50,
    url: Url = None,
    as_json_: Json = False,
) -> None:
    """List runs, the newest first."""
    from conveyor.flows.overview import newest

    found = _with_runs(url, lambda runs: newest(runs, limit, status))
    if as_json_:
        keys = ("id", "name", "status", "created_at", "finished_at", "counts")
        as_json([{key: getattr(run, key) for key in keys} for run in found])
        return
    table(
        ("id", "workflow", "status", "started (UTC)", "took"),
        (
            (
                run.id,
                run.name,
                state(run.status),
                moment(run.created_at),
                span(run.finished_at - run.created_at if run.finished_at else None),
            )
            for run in found
        ),
        empty="no such runs",
        spare=("took", "started (UTC)"),
    )


@app.command("show")
def show(
    run_id: Id,
    mermaid: Annotated[
        bool, typer.Option("--mermaid", help="Print a Mermaid flowchart instead.")
    ] = False,
    url: Url = None,
    as_json_: Json = False,
) -> None:
    """Draw the graph of a run with the state of each node."""
    from conveyor.flows.export import to_mermaid
    from conveyor.flows.overview import overview

    async def read(runs: Runs) -> Any:
        return await overview(runs, run_id), (await runs.get(run_id)).plan.graph

    info, graph = _with_runs(url, read)
    if as_json_:
        as_json(info)
    elif mermaid:
        typer.echo(to_mermaid(graph, {node.name: str(node.state) for node in info.nodes}), nl=False)
    else:
        from conveyor.cli.graph_tree import tree_of

        console().print(tree_of(info))


@app.command("why")
def why(
    run_id: Id,
    node: Annotated[str, typer.Argument(metavar="NODE", help="Name of the node.")],
    url: Url = None,
) -> None:
    """Say what NODE waits for, or why it did not run."""
    from conveyor.flows.overview import why as reasons

    for line in _with_runs(url, lambda runs: reasons(runs, run_id, node)):
        typer.echo(line)


@app.command("cancel")
def cancel(
    run_id: Id,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the run.")] = "",
    url: Url = None,
) -> None:
    """Cancel what runs and waits, and all that would follow."""
    from conveyor.flows.control import cancel as stop

    by = "cli"
    with suppress(OSError, KeyError):
        by = getpass.getuser()
    status = _with_runs(url, lambda runs: stop(runs, run_id, by=by, reason=reason))
    typer.echo(f"{run_id}  {'asked to stop' if status == 'running' else status}")


@app.command("retry")
def retry(
    run_id: Id,
    node: Annotated[
        str | None, typer.Option("--node", help="Begin there; default: all that went wrong.")
    ] = None,
    url: Url = None,
) -> None:
    """Run failed nodes, and all that comes after them, again."""
    from conveyor.flows.control import retry as again

    for name in _with_runs(url, lambda runs: again(runs, run_id, node)):
        typer.echo(f"{name}  starts anew")


@app.command("signal")
def signal(
    run_id: Id,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the signal.")],
    value: Annotated[str, typer.Option("--value", help="Its value, JSON.")] = "null",
    url: Url = None,
) -> None:
    """Send a signal to a run."""
    import json

    from conveyor.cli.failures import BAD_INPUT, BROKEN
    from conveyor.core.codec import encode
    from conveyor.flows.control import send

    try:
        data = encode(json.loads(value), what="the value")
    except ValueError as exc:
        fail(f"--value is not JSON: {exc}; got {value[:80]!r}", BAD_INPUT)
        raise
    if not _with_runs(url, lambda runs: send(runs, run_id, name, data)):
        fail(f"signal {name!r} was sent before, or the run is over", BROKEN)
    typer.echo(f"{name}  sent")


@app.command("export")
def export(run_id: Id, url: Url = None) -> None:
    """Print the definition of a run's workflow as JSON."""
    from conveyor.flows.export import to_plain

    known = _with_runs(url, lambda runs: runs.get(run_id))
    with explained():
        as_json(to_plain(known.plan.graph))
