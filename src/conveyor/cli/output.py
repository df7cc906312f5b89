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
_GAP = "  "
_NARROW = 16
"""Cells that a column keeps when a line is too long for the terminal."""
STYLES = {"failed": "red", "running": "cyan", "succeeded": "green", "cancelled": "dim"}


def as_json(value: Any) -> None:
    """Print one JSON document."""
    encoded = msgspec.json.encode(_named(value), enc_hook=str)
    sys.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")


def _named(value: Any) -> Any:
    """Give fields their names: some records are stored as arrays, to be small."""
    if isinstance(value, msgspec.Struct):
        return {name: _named(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, (list, tuple)):
        return [_named(item) for item in value]
    if isinstance(value, dict):
        return {key: _named(item) for key, item in value.items()}
    return value


def console() -> Console:
    """Return the console for people: width from the terminal, colour only on one."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    empty: str,
    spare: Sequence[str] = (),
) -> None:
    """Print rows under column titles, or the sentence `empty`.

    A pipe gets every cell whole. A terminal gets lines no longer than itself: the `spare` columns
    are left out, the first named first, until the others fit, and these are cut; ids never are.
    """
    body = [[_clean(cell) for cell in row] for row in rows]
    if not body:
        sys.stdout.write(empty + "\n")
        return
    out = console()
    titles, grid = list(columns), body
    widths = _natural(titles, grid)
    if out.is_terminal:
        titles, grid = _without_spare(titles, grid, spare, out.width)
        widths = _fitted(titles, _natural(titles, grid), out.width)
    from rich.text import Text

    out.print(Text(_line(titles, titles, widths), style="bold"), crop=False, soft_wrap=True)
    for row in grid:
        line = Text(_line(titles, row, widths))
        for mark, style in STYLES.items():
            line.highlight_regex(rf"(?<={STATE_MARKS[mark]} ){mark}\b", style)
        out.print(line, crop=False, soft_wrap=True)


def _clean(cell: Any) -> str:
    """One line of printable characters: an error message may hold anything."""
    words = " ".join(str("" if cell is None else cell).split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def _natural(titles: Sequence[str], grid: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    return [max(map(cell_len, column)) for column in zip(titles, *grid, strict=True)]


def _least(title: str, width: int) -> int:
    return width if title == "id" else min(width, _NARROW)


def _without_spare(
    titles: list[str], grid: list[list[str]], spare: Sequence[str], room: int
) -> tuple[list[str], list[list[str]]]:
    for title in spare:
        least = map(_least, titles, _natural(titles, grid))
        if sum(least) + len(_GAP) * (len(titles) - 1) <= room:
            break
        at = titles.index(title)
        titles = titles[:at] + titles[at + 1 :]
        grid = [row[:at] + row[at + 1 :] for row in grid]
    return titles, grid


def _fitted(titles: Sequence[str], widths: list[int], room: int) -> list[int]:
    """Narrow the widest column, cell by cell, until the line fits or nothing may give way."""
    least = list(map(_least, titles, widths))
    while sum(widths) + len(_GAP) * (len(widths) - 1) > room:
        widest = max(range(len(widths)), key=lambda at: widths[at] - least[at])
        if widths[widest] == least[widest]:
            break
        widths[widest] -= 1
    return widths


def _line(titles: Sequence[str], cells: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(map(_cell, titles, cells, widths)).rstrip()


def _cell(title: str, text: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return set_cell_size(text, width)
    if title == "task":
        # The end of a dotted name tells tasks apart.
        while cell_len(text) > width - 1:
            text = text[1:]
        return set_cell_size(f"…{text}", width)
    return set_cell_size(text, width - 1) + "…"


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
