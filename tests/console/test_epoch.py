"""Who may do what is read at every request, on one connection."""

from __future__ import annotations

import asyncio

from conveyor_console.db import schema
from conveyor_console.db.engine import Database
from conveyor_console.db.epoch import Epoch, advance


async def test_many_readers_share_one_connection(database_url: str) -> None:
    database = Database(database_url)
    await schema.upgrade(database)
    epoch = Epoch(database)
    try:
        before = await epoch.read()
        connection = epoch._raw

        first = asyncio.create_task(epoch.read())
        await asyncio.sleep(0)
        second = asyncio.create_task(epoch.read())
        await asyncio.sleep(0)
        late: list[asyncio.Task[int]] = []
        # One more asks in the instant when the first has its answer and the second has not begun.
        running = epoch._running or epoch._next
        if running is not None:  # SQLite answers at once
            running.add_done_callback(lambda _: late.append(asyncio.create_task(epoch.read())))
        found = [await first, await second]
        found += await asyncio.gather(*late)
        assert set(found) == {before}
        assert epoch._raw is connection
        async with database.writing() as session:
            await advance(session)
        assert await epoch.read() == before + 1
    finally:
        await epoch.close()
        await database.close()
