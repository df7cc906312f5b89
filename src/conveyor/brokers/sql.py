"""What the two SQL stores share: statements in files of their own, and states as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conveyor.core.task import State

if TYPE_CHECKING:
    from pathlib import Path

_MARK = "-- name: "

STATES = (
    State.BLOCKED,
    State.SCHEDULED,
    State.QUEUED,
    State.RUNNING,
    State.SKIPPED,
    State.SUCCEEDED,
    State.FAILED,
    State.CANCELLED,
)
"""A state's place is its number in the tables, and the SQL knows it: append only."""
NUMBERS = {state: number for number, state in enumerate(STATES)}


def script(folder: Path, name: str) -> str:
    """Return the text of `<name>.sql` in the folder."""
    return (folder / f"{name}.sql").read_text(encoding="utf-8")


def statements(folder: Path, name: str) -> dict[str, str]:
    """Return the statements of `<name>.sql` by name, without their comments."""
    found: dict[str, str] = {}
    for block in script(folder, name).split(_MARK)[1:]:
        title, _, text = block.partition("\n")
        lines = [line for line in text.splitlines() if not line.startswith("--")]
        found[title.strip()] = "\n".join(lines).strip()
    return found
