"""An app whose tasks write into a shop's database, and a producer that dies where it is told.

python -m tests.chaos.bookings WHERE NUMBER     before: the commit; after: it, with no bell rung
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from conveyor import Conveyor, Retry, current_task

SHOP = "CONVEYOR_TEST_SHOP"
engine = create_async_engine(os.environ.get(SHOP, "sqlite+aiosqlite://"))
sessions = async_sessionmaker(engine)
again = Retry(max_attempts=50, base=0.01, cap=0.05)
app = Conveyor(sessions=sessions, retry=again)


class Base(DeclarativeBase):
    pass


class Booking(Base):
    __tablename__ = "booking"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


@app.task(queue="chaos", transactional=True)
async def book(number: int) -> int:
    """Write a row, take 20 ms, enqueue another one."""
    session: AsyncSession = current_task().session
    await asyncio.sleep(0.02)
    session.add(Booking(number=number))
    if number < 1_000:
        await book.enqueue(number + 1_000)
    return number


def die(_: Session) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def produce(where: str, number: int) -> None:
    async with sessions() as session:
        handle = await book.with_options(session=session).enqueue(number)
        session.add(Booking(number=-number))
        await session.flush()
        print(handle.id, flush=True)
        # Ahead of our own hook, which rings or relays.
        name = {"before": "before_commit", "after": "after_commit"}[where]
        event.listen(session.sync_session, name, die, insert=True)
        await session.commit()


if __name__ == "__main__":
    asyncio.run(produce(sys.argv[1], int(sys.argv[2])))
