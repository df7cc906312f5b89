"""Forgets the effects of tasks that need them no more: those that succeeded, or are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conveyor.core.errors import TaskNotFound
from conveyor.core.task import State

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker

KIND = "effect"
EVERY = 10.0
"""Seconds between two pages."""
_PAGE = 500


class EffectBroom:
    """Goes through the effects page by page, and begins again at the end."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._after = ""
        self._next = float("-inf")

    async def sweep(self, now: float) -> int:
        """Look at the next page if it is time (`now` is monotonic); returns how many were deleted.
        Dead letters keep theirs: they may be requeued. Raises `BrokerError`.
        """
        if now < self._next:
            return 0
        self._next = now + EVERY
        documents = self._broker.documents
        page = await documents.list(KIND, self._after, _PAGE)
        self._after = page[-1].id if len(page) == _PAGE else ""
        over = await self._over({one.id.partition("/")[0] for one in page})
        gone = [one.id for one in page if one.id.partition("/")[0] in over]
        for doc_id in gone:
            await documents.delete(KIND, doc_id)
        return len(gone)

    async def _over(self, ids: set[str]) -> set[str]:
        """Which of these tasks succeeded or are not known any more."""
        over: set[str] = set()
        while left := sorted(ids - over):
            try:
                finals = await self._broker.finals(left)
            except TaskNotFound as exc:
                over.add(exc.task_id)
                continue
            over |= {one.id for one in finals.values() if one.state is State.SUCCEEDED}
            break
        return over
