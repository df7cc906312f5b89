"""`conveyor enqueue`: a task from the shell."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, cast

import typer

from conveyor.cli.connection import Url
from conveyor.cli.failures import explained, parse_json
from conveyor.cli.output import as_json
from conveyor.cli.running import Target


def enqueue(
    target: Target,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of the task definition.")],
    args: Annotated[str, typer.Option("--args", help="Positional arguments, a JSON array.")] = "[]",
    kwargs: Annotated[
        str, typer.Option("--kwargs", help="Keyword arguments, a JSON object.")
    ] = "{}",
    url: Url = None,
    queue: Annotated[str | None, typer.Option("--queue", help="Another queue.")] = None,
    priority: Annotated[
        str | None, typer.Option("--priority", help="0–9 (9 first), low, normal, high, critical.")
    ] = None,
    delay: Annotated[float | None, typer.Option("--delay", help="Seconds from now.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="When, ISO 8601 with a zone: 2027-01-31T09:00:00Z.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="Idempotency key.")] = None,
    max_attempts: Annotated[int | None, typer.Option("--max-attempts")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Seconds.")] = None,
    wait: Annotated[
        float | None, typer.Option("--wait", help="Wait so many seconds and print the result.")
    ] = None,
) -> None:
    """Enqueue TASK of MODULE:APP and print its id."""
    from conveyor.core.amounts import seconds

    with explained():
        if wait is not None:
            seconds(wait, "--wait")
        app, call = bound_call(
            target,
            task,
            args,
            kwargs,
            url,
            queue=queue,
            priority=priority_of(priority),
            delay=delay,
            at=None if at is None else instant_of(at, "--at"),
            key=key,
            max_attempts=max_attempts,
            timeout=timeout,
        )
        asyncio.run(_enqueue(app, call, wait))


def bound_call(
    target: str, task: str, args: str, kwargs: str, url: str | None, **options: Any
) -> tuple[Any, Any]:
    """Return the app of `target` and a call of its TASK, with arguments from JSON that are checked
    against the types of the function. Raises `ConveyorError`."""
    from conveyor.loading import load
    from conveyor.worker.registry import known_names

    app, module = load(target)
    if url is not None:
        app.url = url
    names = known_names(app.definitions, module)
    definition = names.get(task) or names.get(f"{module}.{task}") or app.definition(task)
    call = definition.with_options(**options).bind(
        *cast("list[Any]", parse_json(args, "--args", list)),
        **cast("dict[str, Any]", parse_json(kwargs, "--kwargs", dict)),
    )
    return app, call.checked()


async def _enqueue(app: Any, call: Any, wait: float | None) -> None:
    async with app:
        handle = await app.dispatch(call)
        typer.echo(handle.id)
        if wait is not None:
            try:
                as_json(await handle.result(wait))
            except TimeoutError as exc:
                typer.echo(f"error: {exc}", err=True)
                raise typer.Exit(1) from None


def priority_of(text: str | None) -> int | str | None:
    """Return a level as a number, a name as it is."""
    return int(text) if text is not None and text.isdigit() else text


def instant_of(text: str, option: str) -> Any:
    """Return the aware datetime that an option's text means. Raises `InvalidOption`."""
    from datetime import datetime

    from conveyor.core.errors import InvalidOption

    wanted = "ISO 8601 with a zone, e.g. 2027-01-31T09:00:00Z"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidOption(f"{option} {text!r} is not a time: {wanted}") from None
    if moment.tzinfo is None:
        raise InvalidOption(f"{option} {text!r} has no time zone: {wanted}")
    return moment
