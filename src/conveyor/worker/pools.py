"""The processes of tasks that run in one of their own, begun with the first such task."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conveyor.app import Conveyor
    from conveyor.worker.processes import ProcessPool
    from conveyor.worker.settings import WorkerSettings


class LazyPool:
    """A process pool that costs nothing before it is needed."""

    def __init__(self, app: Conveyor, settings: WorkerSettings) -> None:
        self._app = app
        self._settings = settings
        self._pool: ProcessPool | None = None

    def get(self) -> ProcessPool:
        """Return the pool, always the same."""
        from conveyor.worker.processes import ProcessPool

        if self._pool is None:
            self._pool = ProcessPool(
                self._settings.target,
                self._settings.concurrency,
                url=self._app.url,
                grace=self._settings.kill_grace,
                log_level=self._settings.log_level,
            )
        return self._pool

    async def close(self) -> None:
        """End every process that there is."""
        if self._pool is not None:
            await self._pool.close()
