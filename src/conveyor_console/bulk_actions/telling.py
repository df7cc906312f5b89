"""Tells of bulk actions as they happen: every replica's event streams read it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from conveyor_console.bulk_actions.models import BulkAction
from conveyor_console.console import Console
from conveyor_console.live import notices


def tell(db: AsyncSession, console: Console, row: BulkAction, what: str, at: datetime) -> None:
    """Say where it stands now: `what` is `created`, `started`, `progress`, `done`, `aborted` or
    `undone`. It is told when the transaction commits."""
    data = {
        "id": row.id,
        "action": row.action,
        "of": row.of,
        "state": row.state,
        "count": row.count,
        "is_exact": row.is_exact,
        "done": row.done,
        "failed": row.failed,
        "skipped": sum(row.skipped.values()),
        "error": row.error,
    }
    notices.add(db, console.new_id(), at, f"bulk-actions.{what}", data)
