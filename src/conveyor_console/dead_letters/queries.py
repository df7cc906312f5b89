"""Dead letters by what killed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.history.letters import column
from conveyor_console.history.models import DeadLetter
from conveyor_console.kit.filters import Condition
from conveyor_console.kit.selecting import Selecting


async def groups(
    session: AsyncSession, wanted: Sequence[Condition], before: str | None, limit: int
) -> list[Any]:
    """Return rows of fingerprint, number, first and last death, and the newest letter itself."""
    newest = func.max(DeadLetter.task_id)
    fits = Selecting(column, is_sqlite=session.get_bind().dialect.name == "sqlite").clause(wanted)
    grouped = (
        select(
            DeadLetter.fingerprint,
            func.count().label("number"),
            func.min(DeadLetter.died_at).label("first"),
            func.max(DeadLetter.died_at).label("last"),
            newest.label("newest"),
        )
        .where(fits)
        .group_by(DeadLetter.fingerprint)
        .order_by(newest.desc())
        .limit(limit)
    )
    if before is not None:
        grouped = grouped.having(newest < before)
    each = grouped.subquery()
    statement = (
        select(each, DeadLetter)
        .join(DeadLetter, DeadLetter.task_id == each.c.newest)
        .order_by(each.c.newest.desc())
    )
    return list(await session.execute(statement))
