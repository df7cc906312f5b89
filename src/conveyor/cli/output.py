"""Tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rich.console import Console

STATE_MARKS = {
    "blocked": "◌",
    "scheduled": "◇",
    "queued": "○",
    "running": "◐",
    "succeeded": "●",
    "failed": "✕",
    "cancelled": "⊘",
    "skipped": "↷",
}
_STYLES = {"failed": "red", "running": "cyan", "succeeded": "green", "cancelled": "dim"}


def as_json(value: Any) -> None:
    """Print one JSON document."""
    encoded = msgspec.json.encode(value, enc_hook=str)
    sys.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")


def console() -> Console:
    """Return the console for people: width from the terminal, colour only on one."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print rows under column titles, or the sentence `empty`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    body = [[str("" if cell is None else cell) for cell in row] for row in rows]
    if not body:
        sys.stdout.write(empty + "\n")
        return
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in columns:
        grid.add_column(title, overflow="fold", no_wrap=title == "id")
    for row in body:
        grid.add_row(*[Text(cell, style=_STYLES.get(cell.partition(" ")[2], "")) for cell in row])
    console().print(grid)


def state(value: str, flags: Iterable[str] = ()) -> str:
    """Return a state with its mark and its flags."""
    extra = f" ({', '.join(flags)})" if flags else ""
    return f"{STATE_MARKS.get(value, '·')} {value}{extra}"


def moment(at: float | None) -> str:
    """Return a time in UTC, to the second."""
    if at is None:
        return ""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float | None) -> str:
    """Return a duration as a person says it."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def size(count: int) -> str:
    """Return bytes in MiB."""
    return f"{count / 2**20:.0f} MiB" if count else ""
