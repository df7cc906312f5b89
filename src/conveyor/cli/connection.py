"""How commands reach the queue."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker

T = TypeVar("T")

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="Broker URL; default: CONVEYOR_URL, else sqlite:///conveyor.db.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def url_or_default(url: str | None) -> str:
    """Return the URL given, else CONVEYOR_URL, else the embedded default."""
    if url is not None:
        return url
    return os.environ.get("CONVEYOR_URL") or "sqlite:///conveyor.db"


def with_broker(url: str | None, use: Callable[[Broker], Awaitable[T]]) -> T:
    """Open the broker, use it, close it; errors become a sentence and an exit code."""
    from conveyor.brokers.url import connect
    from conveyor.cli.failures import explained

    async def main() -> T:
        broker = connect(url_or_default(url))
        try:
            await broker.open()
            return await use(broker)
        finally:
            await broker.close()

    with explained():
        return asyncio.run(main())
    raise AssertionError  # explained() leaves by an exception
