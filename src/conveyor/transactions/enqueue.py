"""Enqueue in a session's transaction: the task is visible if, and only if, it commits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import UnboundExecutionError

from conveyor.core.errors import InvalidOption
from conveyor.middleware.base import Middleware, push_chain
from conveyor.transactions.database import Database
from conveyor.transactions.homes import Homes
from conveyor.transactions.hooks import after_commit
from conveyor.transactions.lending import Lent, async_session, sync_session
from conveyor.transactions.locks import writing
from conveyor.transactions.outbox import put
from conveyor.transactions.relay import Outgoing
from conveyor.transactions.savepoints import must_be_sound

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session

    from conveyor.brokers.base import Pushed
    from conveyor.brokers.joining import Bell
    from conveyor.client import Client
    from conveyor.connections import Connections
    from conveyor.core.task import NewTask


async def push(app: Connections, session: object, tasks: Sequence[NewTask]) -> list[Pushed]:
    """Store tasks in the transaction of an `AsyncSession`. Raises what `Broker.push` raises, and
    SQLAlchemy's errors for what the session's own database says.
    """
    here = async_session(session)
    homes = homes_of(await app.client())
    await homes.prepare(_engine(here.sync_session), tasks)
    return await here.run_sync(lambda plain: _store(app, homes, plain, tasks))


def push_sync(app: Connections, session: object, tasks: Sequence[NewTask]) -> list[Pushed]:
    """Store tasks in the transaction of a `Session`, whose thread this is."""
    here = sync_session(session)
    homes = app.run_sync(_prepared(app, _engine(here), tasks))
    return _store(app, homes, here, tasks)


def push_through_layers(
    app: Connections, middleware: Sequence[Middleware], session: object, tasks: Sequence[NewTask]
) -> list[Any]:
    """Do what `push_sync` does inside the app's middleware: that runs on a loop, and hands each
    task back to this thread, which has the session.
    """
    turns: SimpleQueue[tuple[NewTask, asyncio.Future[Any]] | None] = SimpleQueue()

    async def innermost(task: NewTask) -> Any:
        stored: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        turns.put((task, stored))
        return await stored

    async def onion() -> list[Any]:
        chain = push_chain(middleware, innermost)
        try:
            return [await chain(task) for task in tasks]
        finally:
            turns.put(None)

    whole = app.start(onion(), here=False)
    while (turn := turns.get()) is not None:
        task, stored = turn
        try:
            value, error = push_sync(app, session, [task])[0], None
        except BaseException as exc:  # noqa: BLE001 - raised where the middleware waits
            value, error = None, exc
        stored.get_loop().call_soon_threadsafe(_tell, stored, value, error)
    answers: list[Any] = whole.result()
    return answers


def _tell(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


def homes_of(client: Client) -> Homes:
    """Return what is known of a client's broker."""
    homes = client.homes
    if homes is None:
        homes = client.homes = Homes(client.broker)
    found: Homes = homes
    return found


async def _prepared(app: Connections, engine: Engine, tasks: Sequence[NewTask]) -> Homes:
    homes = homes_of(await app.client())
    await homes.prepare(engine, tasks)
    return homes


def _store(
    app: Connections, homes: Homes, session: Session, tasks: Sequence[NewTask]
) -> list[Pushed]:
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        must_be_sound(session, connection)
        writing(session)
    joining = homes.find(connection)
    if joining is None:
        return _store_in_outbox(app, session, connection, tasks)
    answers, bell = joining.push(Lent(connection), tasks)
    if bell is not None:
        after_commit(session, ring, bell)
    return answers


def _store_in_outbox(
    app: Connections, session: Session, connection: Connection, tasks: Sequence[NewTask]
) -> list[Pushed]:
    answers = put(connection, tasks, app.clock.time())
    ids = [answer.id for answer in answers if answer.created]
    if ids:
        after_commit(session, _outgoing(app, connection.engine).committed, ids)
    return answers


def ring(bells: list[Bell]) -> None:
    """Ring them. An after-commit hook."""
    for bell in bells:
        bell()


def _outgoing(app: Connections, engine: Engine) -> Outgoing:
    known = app.outgoing
    if engine not in known:
        known[engine] = Outgoing(app, Database(engine))
    found: Outgoing = known[engine]
    return found


def _engine(session: Session) -> Engine:
    try:
        return session.get_bind().engine
    except UnboundExecutionError as exc:
        raise InvalidOption(
            "session= has no default engine: tasks go where its bind= leads"
        ) from exc
