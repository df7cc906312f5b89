"""The part that runs bulk actions at their pace; of all replicas one does it at a time.

Each lot is written down before it is touched, and counted with its number after: a process that
dies leaves a lot that the next one looks at again, and of two that believe they lead one counts.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from conveyor.errors import BrokerError, ConveyorError
from conveyor_console.bulk_actions import acting, choosing
from conveyor_console.bulk_actions.acting import Done, Order, Target
from conveyor_console.bulk_actions.models import Action, BulkAction, Of, State
from conveyor_console.bulk_actions.telling import tell
from conveyor_console.console import Console
from conveyor_console.kit.leading import LedRounds

EVERY = 1.0
"""Seconds between lots: `per_second` is the size of one."""
KEPT = timedelta(days=90)
"""How long bulk actions stay when they are over."""
_PRUNE_EVERY = 600


class Running:
    """Runs what was told to run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rounds = LedRounds(
            "bulk actions",
            lambda: EVERY,
            self._advance_all,
            queue=console.queue,
            role="console-bulk-actions",
            holder=f"console-{console.new_id()}",
            wanted=self._has_work,
        )
        self._waiting: list[str] = []
        self._number = 0

    async def start(self) -> None:
        """Begin."""
        self._rounds.start()

    async def close(self) -> None:
        """End, and let another replica take over."""
        await self._rounds.close()

    def wake(self) -> None:
        """Look at once."""
        self._rounds.wake()

    async def round(self) -> None:
        """Do one lot of each action that runs, when this process is the one that does."""
        await self._rounds.turn()

    async def _has_work(self) -> bool:
        self._number += 1
        if self._number % _PRUNE_EVERY == 1:
            await self._prune()
        self._waiting = await self._due()
        return bool(self._waiting)

    async def _advance_all(self) -> None:
        for action_id in self._waiting:
            # A lot may take long: the role is kept for each.
            if await self._rounds.lead():
                await self.advance(action_id)

    async def _due(self) -> list[str]:
        now = self._console.clock.now()
        wanted = select(BulkAction.id).where(
            BulkAction.state.in_([State.WAITING, State.RUNNING]), BulkAction.begins_at <= now
        )
        async with self._console.database.reading() as db:
            return list(await db.scalars(wanted.order_by(BulkAction.id)))

    async def advance(self, action_id: str) -> None:
        """Do one lot. What the queue refuses for reasons of the store is tried again."""
        try:
            lot = await self._begin(action_id)
            if lot is None:
                return
            row, is_repeat = lot
            targets = [Target(*one) for one in row.pending]  # type: ignore[arg-type]
            done = await self._act(row, targets, is_repeat=is_repeat)
        except BrokerError as exc:
            async with self._console.database.writing() as db:
                found = await _locked(db, action_id)
                if found is not None and found.error != str(exc)[:500]:
                    found.error = str(exc)[:500]
                    tell(db, self._console, found, "progress", self._console.clock.now())
            return
        await self._count(row, targets, done)

    async def _act(self, row: BulkAction, targets: list[Target], *, is_repeat: bool) -> Done | None:
        """Do it; None when it cannot be done."""
        reason = f"bulk action {row.id}" + (f": {row.reason}" if row.reason else "")
        order = Order(
            Action(row.action), row.started_by or "", reason, is_repeat, row.delay, row.due_at
        )
        try:
            return await acting.act(self._console, order, targets)
        except BrokerError:
            raise
        except ConveyorError as exc:
            row.error = str(exc)[:500]
            return None

    async def _begin(self, action_id: str) -> tuple[BulkAction, bool] | None:
        """Write the next lot down, or find the one that was never counted. None: there is nothing
        to do."""
        async with self._console.database.reading() as db:
            seen = await db.get(BulkAction, action_id)
        if seen is None:
            return None
        if seen.pending and seen.state == State.RUNNING:
            return seen, True
        chosen = await self._chosen(seen)
        async with self._console.database.writing() as db:
            row = await _locked(db, action_id)
            if row is None or row.lot != seen.lot or row.pending or not _may_run(row):
                return None
            row.state, row.before = State.RUNNING, chosen.before
            row.pending = [[one.id, one.queue, one.mark] for one in chosen.tasks]
            if not row.pending:
                row.lot += 1
                self._go_on(db, row)
        return (row, False) if row.pending else None

    async def _chosen(self, row: BulkAction) -> choosing.Lot:
        if row.before is None:
            return choosing.Lot([], None)
        made = row.created_at.timestamp()
        chosen = choosing.choice(Action(row.action), Of(row.of), row.q, made)
        return await choosing.lot(self._console, chosen, row.before, row.per_second)

    async def _count(self, of: BulkAction, targets: list[Target], done: Done | None) -> None:
        """Count a lot, once."""
        async with self._console.database.writing() as db:
            row = await _locked(db, of.id)
            if row is None or row.lot != of.lot or not row.pending:
                return
            row.lot += 1
            row.pending = []
            if done is None:
                row.failed += len(targets)
                row.error = of.error
            else:
                row.error = None
                row.done += len(done.ids)
                row.skipped = {
                    reason: row.skipped.get(reason, 0) + done.skipped[reason]
                    for reason in sorted({*row.skipped, *done.skipped})
                }
                await acting.follow(db, Action(row.action), done, targets)
            self._go_on(db, row)

    def _go_on(self, db: AsyncSession, row: BulkAction) -> None:
        """Say how far it is, and end it when there are no more."""
        now = self._console.clock.now()
        if row.state == State.RUNNING and row.before is None:
            row.state, row.ended_at = State.DONE, now
        tell(db, self._console, row, "done" if row.state == State.DONE else "progress", now)

    async def _prune(self) -> None:
        now = self._console.clock.now()
        never = (BulkAction.state == State.PLANNED) & (BulkAction.expires_at < now - KEPT)
        old = delete(BulkAction).where(or_(BulkAction.ended_at < now - KEPT, never))
        async with self._console.database.writing() as db:
            await db.execute(old)


def _may_run(row: BulkAction) -> bool:
    return row.state in {State.WAITING, State.RUNNING}


async def _locked(db: AsyncSession, action_id: str) -> BulkAction | None:
    return await db.get(BulkAction, action_id, with_for_update=True)
