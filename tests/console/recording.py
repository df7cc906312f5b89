"""A recorder as a process, to be killed: `python -m tests.console.recording QUEUE DB`."""

from __future__ import annotations

import asyncio
import sys

from uuid_utils import uuid7

from conveyor_console.db.engine import Database
from conveyor_console.history.recorder import Recorder
from conveyor_console.kit.clock import SystemClock
from tests.console.history_kit import shop


async def main(queue_url: str, database_url: str) -> None:
    """Record until killed. A tiny leadership: nobody waits for the one that was killed."""
    from conveyor_console.history import recorder

    recorder.LEADERSHIP, recorder._RENEW = 0.3, 0.1
    database = Database(database_url)
    async with shop(queue_url) as queue:
        Recorder(queue, database, SystemClock(), lambda: str(uuid7()), 30).start()
        sys.stdout.write("recording\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
