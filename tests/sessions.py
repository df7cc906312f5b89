"""What the tests of sessions share: a table of the application, its URLs, a task."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from conveyor import Conveyor


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(50), default="")


class Boom(Exception):
    pass


def driver(url: str, name: str) -> str:
    scheme, rest = url.split("://", 1)
    return f"{scheme}+{name}://{rest}"


def async_url(url: str) -> str:
    return driver(url, "aiosqlite" if url.startswith("sqlite") else "asyncpg")


def sync_url(url: str) -> str:
    return url if url.startswith("sqlite") else driver(url, "psycopg")


def define(app: Conveyor) -> Any:
    @app.task(name="ship")
    async def ship(order: int) -> int:
        return order

    return ship


async def counts(app: Conveyor) -> int:
    return sum((await (await app.inspector()).counts()).values())
