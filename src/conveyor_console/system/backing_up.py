"""Backups of what this console can copy: SQLite files, one round at a time."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.engine import make_url

from conveyor.maintenance import store_file
from conveyor_console.console import Console
from conveyor_console.kit.problems import Problem
from conveyor_console.system.copying import Copy, CopyFailed, clear, copy, name_of, thin_out

_DEAD = timedelta(days=1)
"""Older than that, nobody is writing a partial file any more."""
PAGE = "docs/howto/backups.md"
_TOOLS = {
    "postgresql": f"is on PostgreSQL: back it up there with pg_dump or WAL archiving; see {PAGE}",
    "redis": f"is on Redis: back it up there with BGSAVE and a copy of the RDB file; see {PAGE}",
    "memory": "is in memory: it ends with the process, and there is nothing to back up",
}


class Made(NamedTuple):
    """What one round made."""

    copies: list[Copy]
    elsewhere: list[str]
    """Sentences about the databases that are not files."""
    gone: list[str]
    """Older ones that were deleted."""


class Backups:
    """Makes backups, one round at a time in this process, away from its loop."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stop = threading.Event()
        self._round: asyncio.Task[Made] | None = None

    async def start(self) -> None:
        """Be ready; it is asked."""
        self._stop.clear()

    async def close(self) -> None:
        """Stop a round under way; what it was writing goes."""
        self._stop.set()
        if self._round is not None:
            await asyncio.wait([self._round])

    def folder(self) -> Path:
        """Return where they are. Raises `Problem` 409 when nobody said where."""
        folder = self._console.settings.backup_folder
        if folder is None:
            raise Problem(409, f"set CONVEYOR_BACKUP_FOLDER to have backups; see {PAGE}")
        return folder

    async def make(self) -> Made:
        """Copy every database that is a file. Raises `Problem` 409 when none is, or while another
        round is under way, and 503 when it fails."""
        folder = self.folder()
        files, elsewhere = await asyncio.to_thread(databases, self._console)
        if not files:
            raise Problem(409, "; ".join(elsewhere))
        if self._round is not None and not self._round.done():
            raise Problem(409, "a backup is being made: try again", headers={"Retry-After": "5"})
        self._round = asyncio.create_task(self._make(folder, files, elsewhere))
        try:
            # A caller who goes away stops nothing.
            return await asyncio.shield(self._round)
        except CopyFailed as exc:
            raise Problem(503, f"no backup was made: {exc}") from exc

    async def _make(self, folder: Path, files: dict[str, Path], elsewhere: list[str]) -> Made:
        now = self._console.clock.now()
        made = []
        for what, path in files.items():
            name = name_of(what, now)
            made.append(await asyncio.to_thread(copy, path, folder, name, self._stop.is_set))
        await asyncio.to_thread(clear, folder, now - _DEAD)
        gone = await asyncio.to_thread(thin_out, folder, self._console.settings.backups_kept)
        return Made(made, elsewhere, gone)


def databases(console: Console) -> tuple[dict[str, Path], list[str]]:
    """Return the files to copy by what they hold, and what is said of the other databases. The
    console's comes first: it knows how far it has read the queue, and after a restore it reads on
    from there, so the queue's may be a moment younger and not older."""
    queue, own = store_file(console.queue), _own_file(console)
    if queue is not None and own is not None and _same(queue, own):
        return {"conveyor": queue}, []
    files, elsewhere = {}, []
    for what, path, kind in (
        ("console", own, console.database.engine.dialect.name),
        ("queue", queue, console.queue.url),
    ):
        if path is not None:
            files[what] = path
        else:
            elsewhere.append(f"the {what}'s database {_TOOLS[_kind(kind)]}")
    return files, elsewhere


def _own_file(console: Console) -> Path | None:
    url = make_url(console.database.url) if console.database.is_sqlite else None
    if url is None or url.database in {None, "", ":memory:"}:
        return None
    return Path(str(url.database))


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False


def _kind(text: str) -> str:
    if text.startswith("sqlite"):
        return "memory"
    return "postgresql" if text.startswith("postgres") else "redis"
