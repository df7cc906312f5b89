"""`conveyor contract`: does the code still take what is queued?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from conveyor.cli.connection import Json, Url
from conveyor.cli.failures import explained
from conveyor.cli.output import as_json
from conveyor.cli.running import Target

app = typer.Typer(help="Check code against queued tasks before a deploy.", no_args_is_help=True)
File = Annotated[Path, typer.Option("--file", help="The lock file.")]
_DEFAULT = Path("conveyor.lock.json")


@app.command("lock")
def lock(target: Target, file: File = _DEFAULT) -> None:
    """Write what the task definitions of MODULE:APP take into a lock file, to be committed."""
    from conveyor.contract import promises, write_lock
    from conveyor.loading import load

    with explained():
        found, _ = load(target)
        current = promises(found)
        write_lock(file, current)
    typer.echo(f"{file}: {len(current)} task definition(s)")


@app.command("check")
def check(
    target: Target,
    file: File = _DEFAULT,
    url: Url = None,
    code_only: Annotated[
        bool, typer.Option("--code-only", help="Do not look into the store.")
    ] = False,
    most: Annotated[
        int, typer.Option("--most", min=1, help="Waiting tasks to look at, the newest first.")
    ] = 10_000,
    as_json_: Json = False,
) -> None:
    """Compare MODULE:APP with the lock file and with what waits in the store; exit 1 when something
    does not fit."""
    from conveyor.contract import misfits, promises, read_lock
    from conveyor.core.contract import broken
    from conveyor.flows import builtin
    from conveyor.flows.keying import Code
    from conveyor.loading import load
    from conveyor.worker.registry import known_names

    with explained():
        found, module = load(target)
        found.url = url or found.url
        sentences = broken(read_lock(file), promises(found))
        code = Code(known_names(found.definitions, module), found.packing)
        names = {**code.definitions, **builtin.definitions(found, code)}

        async def look() -> list[str]:
            async with found:
                return await misfits(await found.inspector(), names, most)

        if not code_only:
            sentences += asyncio.run(look())
    if as_json_:
        as_json(sentences)
    else:
        for sentence in sentences:
            typer.echo(sentence)
        if not sentences:
            typer.echo("the code takes what was locked and what waits")
    if sentences:
        raise typer.Exit(1)
