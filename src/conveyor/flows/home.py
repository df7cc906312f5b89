"""The port through which workflows reach the queue; the app is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from conveyor.tasks import Dispatcher, TaskDefinition

if TYPE_CHECKING:
    from conveyor.client import Client
    from conveyor.core.clock import Clock
    from conveyor.packing import Packing


class Home(Dispatcher, Protocol):
    """Where runs are stored and started."""

    clock: Clock
    packing: Packing
    definitions: dict[str, TaskDefinition[..., Any, Any]]

    async def client(self) -> Client:
        """Return this event loop's client."""

    def run_sync(self, coroutine: Any) -> Any:
        """Run a coroutine from synchronous code."""
