"""Copies of SQLite files in a folder: made whole or not at all. It blocks: for a thread."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from conveyor.backups import CopyFailed, copy_database, digest_of, sum_beside, sum_file

__all__ = ["Copy", "CopyFailed", "clear", "copies", "copy", "find", "is_intact", "name_of"]
__all__ += ["remove", "thin_out"]

_NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-(?:conveyor|console|queue)\.db")
_TIME = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True, slots=True)
class Copy:
    """A finished copy."""

    name: str
    made_at: datetime
    size: int
    """Bytes."""
    sha256: str
    """Of the file; empty when that is not beside it any more."""


def name_of(what: str, at: datetime) -> str:
    """Return the name of a copy: names sort by time."""
    return f"{at.astimezone(UTC).strftime(_TIME)}-{what}.db"


def copy(source: Path, folder: Path, name: str, stop: Callable[[], bool]) -> Copy:
    """Copy a database that others may be writing to, as it is at one moment; writers wait for
    nothing. It has its name only when it is whole, checked and on the disk, and its checksum is
    there before it. Raises `CopyFailed`."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise CopyFailed(f"{source.name} was not copied to {folder}: {exc}") from exc
    copy_database(source, folder / name, stop, stopped="the console is ending")
    return _look(folder, name)


def copies(folder: Path) -> list[Copy]:
    """Return the copies in a folder, the newest first."""
    names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    found = (find(folder, name) for name in sorted(names, reverse=True))
    return [one for one in found if one is not None]


def find(folder: Path, name: str) -> Copy | None:
    """Return the copy with a name; None when there is none, or the name is none of ours."""
    if _NAME.fullmatch(name) is None:
        return None
    try:
        return _look(folder, name)
    except FileNotFoundError:
        return None


def is_intact(folder: Path, found: Copy) -> bool:
    """Whether the file is the one that was written. Reads all of it."""
    return bool(found.sha256) and digest_of(folder / found.name) == found.sha256


def remove(folder: Path, name: str) -> None:
    """Delete a copy: the file first, so that no file is ever without its checksum."""
    (folder / name).unlink(missing_ok=True)
    sum_file(folder / name).unlink(missing_ok=True)


def thin_out(folder: Path, keep: int) -> list[str]:
    """Delete all but the newest copies of each database; returns the names of those deleted."""
    kept: dict[str, int] = {}
    gone = []
    for one in copies(folder):
        what = one.name.partition("-")[2]
        kept[what] = kept.get(what, 0) + 1
        if kept[what] > keep:
            remove(folder, one.name)
            gone.append(one.name)
    return gone


def clear(folder: Path, before: datetime) -> None:
    """Delete what processes that died left half done before that moment."""
    for partial in folder.glob(".*.db.partial*"):
        if datetime.fromtimestamp(partial.stat().st_mtime, UTC) < before:
            partial.unlink(missing_ok=True)


def _look(folder: Path, name: str) -> Copy:
    size = (folder / name).stat().st_size
    made_at = datetime.strptime(name.partition("-")[0], _TIME).replace(tzinfo=UTC)
    return Copy(name, made_at, size, sum_beside(folder / name))
