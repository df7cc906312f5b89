"""Copies of SQLite files in a folder: made whole or not at all. It blocks: for a thread."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-(?:conveyor|console|queue)\.db")
_TIME = "%Y%m%dT%H%M%S.%fZ"
_PAGES = 1_024
"""Copied between two looks at whether to stop."""
_STEPS = 100_000
"""Steps of SQLite's own machine between two such looks."""


class CopyFailed(Exception):
    """It was not made, and nothing is left of it."""


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
        _must_fit(source, folder)
        partial = folder / f".{name}.partial"
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except (OSError, CopyFailed) as exc:
        raise _failed(source, folder, exc) from exc
    try:
        _copy_pages(source, partial, stop)
        digest = _digest(partial)
        _write_down(folder, name, digest)
        _to_disk(partial)
        partial.replace(folder / name)
        _to_disk(folder)
    except (OSError, sqlite3.Error, CopyFailed) as exc:
        partial.unlink(missing_ok=True)
        remove(folder, name)
        raise _failed(source, folder, exc) from exc
    return _look(folder, name)


def _failed(source: Path, folder: Path, exc: Exception) -> CopyFailed:
    return CopyFailed(f"{source.name} was not copied to {folder}: {exc}")


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
    return bool(found.sha256) and _digest(folder / found.name) == found.sha256


def remove(folder: Path, name: str) -> None:
    """Delete a copy: the file first, so that no file is ever without its checksum."""
    (folder / name).unlink(missing_ok=True)
    _sum_of(folder, name).unlink(missing_ok=True)


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


def _must_fit(source: Path, folder: Path) -> None:
    needed, free = source.stat().st_size, shutil.disk_usage(folder).free
    if free < needed:
        raise CopyFailed(f"it needs {needed:,} bytes, and {free:,} are free")


def _copy_pages(source: Path, target: Path, stop: Callable[[], bool]) -> None:
    def look(*_: int) -> None:
        if stop():
            raise CopyFailed("the console is ending")

    address = f"{source.resolve().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(address, uri=True, timeout=10, isolation_level=None)) as old,
        closing(sqlite3.connect(target, isolation_level=None)) as new,
    ):
        # A snapshot that is held: else every write of another process would begin it anew.
        old.execute("BEGIN")
        old.execute("SELECT count(*) FROM sqlite_master").fetchone()
        old.backup(new, pages=_PAGES, progress=look)
        new.set_progress_handler(lambda: int(stop()), _STEPS)
        new.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        found = new.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise CopyFailed(f"the database is damaged: {found}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.sha256"


def _write_down(folder: Path, name: str, digest: str) -> None:
    """Write the checksum as `sha256sum -c` reads it."""
    path = _sum_of(folder, name)
    path.write_text(f"{digest}  {name}\n", "ascii")
    _to_disk(path)


def _to_disk(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return  # there a folder cannot be opened
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _look(folder: Path, name: str) -> Copy:
    size = (folder / name).stat().st_size
    try:
        digest = _sum_of(folder, name).read_text("ascii").partition(" ")[0]
    except FileNotFoundError:
        digest = ""
    made_at = datetime.strptime(name.partition("-")[0], _TIME).replace(tzinfo=UTC)
    return Copy(name, made_at, size, digest)
