"""Tasks and the application's own rows in one transaction, with SQLAlchemy 2.1.

    async with sessions() as session, session.begin():
        session.add(order)
        await ship.with_options(session=session).enqueue(order.id)

Needs `pip install 'conveyor[sqlalchemy]'`; nothing else of Conveyor imports SQLAlchemy.
"""

from conveyor.transactions.savepoints import sound_savepoints
from conveyor.transactions.tables import create_tables, create_tables_sync, metadata

__all__ = ["create_tables", "create_tables_sync", "metadata", "sound_savepoints"]
