"""What routes get: the console, a session per request, where the request comes from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.audit.trail import trail_of
from conveyor_console.console import Console


async def _reading(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.console.database.reading() as session:
        yield session


async def _writing(request: Request) -> AsyncIterator[AsyncSession]:
    async with changing(request) as session:
        request.state.changes = session
        yield session


@asynccontextmanager
async def changing(request: Request) -> AsyncIterator[AsyncSession]:
    """A session of a request that must do something slow before or between its changes. What the
    request noted (`audit.trail.note`) is committed with them."""
    console = console_of(request)
    try:
        async with console.database.writing() as session:
            yield session
            console.recorder.add(session, request)
    except BaseException:
        trail_of(request).notes.clear()
        raise
    console.recorder.added(trail_of(request))


Reading = Annotated[AsyncSession, Depends(_reading, scope="function")]
"""A session to look things up with."""
Writing = Annotated[AsyncSession, Depends(_writing, scope="function")]
"""A session whose changes are committed before the answer leaves."""


def console_of(request: Request) -> Console:
    """Return the console that serves this request."""
    found: Console = request.app.state.console
    return found
