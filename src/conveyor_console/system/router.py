"""Is it alive, is it ready, what is it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import text

from conveyor import __version__
from conveyor_console.auth.access import needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.deps import console_of
from conveyor_console.kit.openapi import OPEN
from conveyor_console.kit.problems import Problem, problems

READY_SECONDS = 3.0
"""How long a probe waits for queue and database."""
router = APIRouter(prefix="/system", tags=["system"], responses=problems(401, 403))
probes = APIRouter(tags=["probes"])


@probes.get("/livez", openapi_extra=OPEN)
async def livez() -> dict[str, str]:
    """The loop turns."""
    return {"status": "alive"}


@probes.get("/readyz", responses=problems(503), openapi_extra=OPEN)
async def readyz(request: Request) -> dict[str, str]:
    """The queue and the database answer, within three seconds."""
    console = console_of(request)

    async def ask_queue() -> None:
        await (await console.queue.inspector()).queue_names()

    async def ask_database() -> None:
        # First on a connection of its own that probes share: when nothing answers, those of the
        # pool stay for requests.
        await console.epoch.read()
        async with console.database.reading() as db:
            await db.execute(text("SELECT 1"))

    questions = (
        _answers("queue", ask_queue()),
        _answers("console's database", ask_database()),
    )
    for found in await asyncio.gather(*questions, return_exceptions=True):
        if found is not None:
            raise found
    return {"status": "ready"}


async def _answers(who: str, question: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS):
            await question
    except TimeoutError:
        raise Problem(
            503,
            f"the {who} does not answer within {READY_SECONDS:g} s",
            headers={"Retry-After": "2"},
        ) from None


@router.get("/info", dependencies=[needs(Permission.SYSTEM_READ)])
async def info(request: Request) -> dict[str, Any]:
    """What runs here; no secrets."""
    console = console_of(request)
    client = await console.queue.client()
    return {
        "version": __version__,
        "broker": client.broker.url,
        "database": console.database.engine.url.render_as_string(hide_password=True),
        "registration": console.settings.registration,
        "history_days": console.settings.history_days,
        "task_definitions": sorted(console.queue.definitions),
    }
