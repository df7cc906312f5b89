"""Backups over HTTP. They never leave over it: a backup holds every argument and every hash."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel

from conveyor_console.audit.trail import note
from conveyor_console.auth.access import needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.creating import Creating
from conveyor_console.deps import console_of
from conveyor_console.kit.pages import Cursor, Limit, Page, page_of, place_of
from conveyor_console.kit.problems import Problem, problems
from conveyor_console.system import copying
from conveyor_console.system.backing_up import Backups

router = APIRouter(
    prefix="/system/backups",
    tags=["system"],
    responses=problems(401, 403, 409, 422, 503),
    dependencies=[needs(Permission.SYSTEM_MANAGE)],
    route_class=Creating,
)
Name = Annotated[str, Path(max_length=100, description="The `name` of a backup.")]


class BackupOut(BaseModel):
    """A backup of one database: a SQLite file."""

    name: str
    """Of the file: `…-conveyor.db` of queue and console in one, `…-queue.db`, `…-console.db`."""
    made_at: datetime
    size: int
    """Bytes."""
    sha256: str
    """Of the file, also in `<name>.sha256` beside it; empty when that is gone."""

    @classmethod
    def of(cls, found: copying.Copy) -> BackupOut:
        """Say it in terms of the API."""
        return cls(name=found.name, made_at=found.made_at, size=found.size, sha256=found.sha256)


class BackupWhole(BackupOut):
    """A backup that was read through."""

    intact: bool
    """Whether the file is still the one that was written."""


class BackupsMade(BaseModel):
    """What was made."""

    items: list[BackupOut]
    elsewhere: list[str]
    """Databases that this cannot back up, and what can: a sentence each."""
    deleted: list[str]
    """Older backups that made room."""


@router.post("", status_code=201)
async def make_backup(request: Request) -> BackupsMade:
    """Copy the SQLite files of queue and console while they are written to. It answers when the
    copies are whole, checked and on the disk; the oldest ones go when there are too many."""
    made = await console_of(request).part(Backups).make()
    items = [BackupOut.of(one) for one in made.copies]
    after = {"made": [one.name for one in items], "deleted": made.gone}
    note(request, "system.make_backup", after=after)
    return BackupsMade(items=items, elsewhere=made.elsewhere, deleted=made.gone)


@router.get("")
async def list_backups(
    request: Request, cursor: Cursor = None, limit: Limit = 50
) -> Page[BackupOut]:
    """Backups of this console's folder, the newest first."""
    place = place_of(cursor)
    found = await asyncio.to_thread(copying.copies, console_of(request).part(Backups).folder())
    if place is not None:
        found = [one for one in found if one.name < place[0]]
    rows, more = page_of(found, limit, lambda one: [one.name])
    return Page(items=[BackupOut.of(one) for one in rows], next_cursor=more)


@router.get("/{name}", responses=problems(404))
async def check_backup(name: Name, request: Request) -> BackupWhole:
    """Read a backup through: is it still what was written?"""
    folder = console_of(request).part(Backups).folder()
    found = await asyncio.to_thread(copying.find, folder, name)
    if found is None:
        raise _missing(name)
    intact = await asyncio.to_thread(copying.is_intact, folder, found)
    return BackupWhole(**BackupOut.of(found).model_dump(), intact=intact)


@router.delete("/{name}", status_code=204, responses=problems(404))
async def delete_backup(name: Name, request: Request) -> None:
    """Delete a backup."""
    folder = console_of(request).part(Backups).folder()
    if await asyncio.to_thread(copying.find, folder, name) is None:
        raise _missing(name)
    await asyncio.to_thread(copying.remove, folder, name)
    note(request, "system.delete_backup", f"backup:{name}")


def _missing(name: str) -> Problem:
    return Problem(404, f"there is no backup named {name!r}")
