"""Copies of a SQLite file that others write to: whole, checked and on the disk, or not there. All
of it blocks: in an event loop it is for a thread."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from conveyor.core.errors import ConveyorError

__all__ = ["CopyFailed", "check", "copy_database", "digest_of", "sum_beside", "sum_file"]
_PAGES = 1_024
"""Copied between two looks at whether to stop."""
_STEPS = 100_000
"""Steps of SQLite's own machine between two such looks."""


class CopyFailed(ConveyorError):
    """It was not made, and nothing is left of it; or it is not what was made."""


def copy_database(
    source: Path,
    target: Path,
    stop: Callable[[], bool] = lambda: False,
    *,
    stopped: str = "it was stopped",
) -> str:
    """Copy a database as it is at one moment; writers wait for nothing. The copy has its name only
    when it is whole, checked and on the disk, and `<name>.sha256` is there before it; until then it
    is `.<name>.partial` beside it. What others made stays as it is, also a file of that name that
    appears meanwhile. `stop` is asked now and then. Returns the SHA-256. Raises `CopyFailed`."""
    try:
        with ExitStack() as made:
            _must_fit(source, target.parent)
            _must_be_free(target)
            partial = target.with_name(f".{target.name}.partial")
            _make(partial, made)
            _copy_pages(source, partial, stop, stopped)
            digest = digest_of(partial)
            _write_down(target, digest, made)
            _to_disk(partial)
            _name(partial, target, made)
            _to_disk(target.parent)
            made.pop_all()
    except (OSError, sqlite3.Error, CopyFailed) as exc:
        raise _failed(source, target, exc) from exc
    return digest


def check(path: Path) -> str:
    """Read a copy through: its checksum and every page of the database. Returns the SHA-256. Raises
    `CopyFailed`."""
    try:
        wanted, found = sum_beside(path), digest_of(path)
        if wanted and wanted != found:
            raise CopyFailed(f"{path} is not what was written: {sum_file(path).name} says another")
        with closing(sqlite3.connect(_read_only(path), uri=True)) as db:
            said = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except (OSError, sqlite3.Error) as exc:
        raise CopyFailed(f"{path} cannot be read: {exc}") from exc
    if said != "ok":
        raise CopyFailed(f"{path} is damaged: {said}")
    return found


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sum_file(path: Path) -> Path:
    """Return where the checksum of a copy is, as `sha256sum -c` reads it."""
    return path.with_name(f"{path.name}.sha256")


def sum_beside(path: Path) -> str:
    """Return the checksum that was written beside a copy, "" when there is none."""
    try:
        return sum_file(path).read_text("ascii").partition(" ")[0]
    except FileNotFoundError:
        return ""


def _failed(source: Path, target: Path, exc: Exception) -> CopyFailed:
    return CopyFailed(f"{source.name} was not copied to {target.parent}: {exc}")


def _must_fit(source: Path, folder: Path) -> None:
    needed, free = source.stat().st_size, shutil.disk_usage(folder).free
    if free < needed:
        raise CopyFailed(f"it needs {needed:,} bytes, and {free:,} are free")


def _must_be_free(target: Path) -> None:
    for path in (target, sum_file(target)):
        if os.path.lexists(path):
            raise CopyFailed(f"{path.name} is there already: name another file")


def _make(path: Path, made: ExitStack) -> None:
    """Make an empty file, and let `made` delete it. Raises `FileExistsError`."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    made.callback(path.unlink, missing_ok=True)


def _name(partial: Path, target: Path, made: ExitStack) -> None:
    """Give a copy its name unless somebody has it. Raises `FileExistsError`."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:
        # FAT and others know no links: there the name is taken first, for a moment by nothing.
        _make(target, made)
        partial.replace(target)
    else:
        made.callback(target.unlink, missing_ok=True)
        partial.unlink()


def _copy_pages(source: Path, target: Path, stop: Callable[[], bool], stopped: str) -> None:
    def look(*_: int) -> None:
        if stop():
            raise CopyFailed(stopped)

    with (
        closing(
            sqlite3.connect(_read_only(source), uri=True, timeout=10, isolation_level=None)
        ) as old,
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


def _read_only(path: Path) -> str:
    return f"{path.resolve().as_uri()}?mode=ro"


def _write_down(target: Path, digest: str, made: ExitStack) -> None:
    path = sum_file(target)
    _make(path, made)
    path.write_text(f"{digest}  {target.name}\n", "ascii")
    _to_disk(path)


def _to_disk(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return  # there a folder cannot be opened
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
