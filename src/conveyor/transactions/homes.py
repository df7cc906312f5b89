"""Where the tasks of a session go: into the broker's own tables when they are in the session's
database, else into an outbox there."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine

from conveyor.transactions.lending import Lent

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker
    from conveyor.brokers.joining import Joining
    from conveyor.core.task import NewTask


class Homes:
    """Remembers for each engine whether the broker is in its database."""

    def __init__(self, broker: Broker) -> None:
        self._joining: Joining | None = getattr(broker, "joining", None)
        self._known: MutableMapping[Engine, bool] = WeakKeyDictionary()

    async def prepare(self, engine: Engine, tasks: Sequence[NewTask]) -> None:
        """Ask the broker what has to be known before `find`. Raises `BrokerError`."""
        joining = self._joining
        if joining is None or joining.dialect != engine.dialect.name:
            return
        if engine not in self._known:
            await joining.identify()
        await joining.prepare(tasks)

    def find(self, connection: Connection) -> Joining | None:
        """Return the way into the broker's tables; None when they are not in this database."""
        joining, engine = self._joining, connection.engine
        if joining is None or joining.dialect != engine.dialect.name:
            return None
        known = self._known.get(engine)
        if known is None:
            known = self._known[engine] = joining.is_home(Lent(connection))
        return joining if known else None
