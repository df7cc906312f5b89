"""The SQL of this store, from the `.sql` files beside it: each statement has a name."""

from __future__ import annotations

from importlib.resources import files

_MARK = "-- name: "


def script(name: str) -> str:
    """Return the text of `sql/<name>.sql`."""
    return (files(__package__) / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def statements(name: str) -> dict[str, str]:
    """Return the statements of `sql/<name>.sql` by name, without their comments."""
    found: dict[str, str] = {}
    for block in script(name).split(_MARK)[1:]:
        title, _, text = block.partition("\n")
        lines = [line for line in text.splitlines() if not line.startswith("--")]
        found[title.strip()] = "\n".join(lines).strip()
    return found
