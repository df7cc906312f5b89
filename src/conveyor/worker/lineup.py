"""In which order a worker looks at its queues, and how many slots it keeps free for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from conveyor.brokers.base import Step, StepReply

if TYPE_CHECKING:
    from conveyor.brokers.base import Broker


class Lineup:
    """`weights` (1 where none is given) say how often a queue is the first one looked at;
    `reserved` slots are used by tasks of their queue only.
    """

    def __init__(self, weights: Mapping[str, int], reserved: Mapping[str, int]) -> None:
        self._weights = weights
        self._reserved = reserved
        self._credit: dict[str, int] = {}

    def turn(self, queues: list[str]) -> None:
        """Put the queue first whose turn it is: round robin, smoothly weighted, so that each is the
        first one as often as its weight says and none waits behind a busy one.
        """
        if len(queues) < 2:
            return
        if not self._weights:
            queues.append(queues.pop(0))
            return
        total = 0
        for queue in queues:
            weight = self._weights.get(queue, 1)
            total += weight
            self._credit[queue] = self._credit.get(queue, 0) + weight
        first = max(queues, key=lambda queue: self._credit[queue])
        self._credit[first] -= total
        queues.remove(first)
        queues.insert(0, first)

    async def step(self, broker: Broker, step: Step, held: Iterable[str]) -> StepReply:
        """Do one step, or with reserved slots two: first for the queues that have some, then for
        all others with what is left over. `held` names the queue of each task that this worker has.
        """
        if not self._reserved or step.want <= 0:
            return await broker.step(step)
        mine = [queue for queue in step.queues if queue in self._reserved]
        first = await broker.step(msgspec.structs.replace(step, queues=mine))
        taken = Counter(held) + Counter(lease.task.queue for lease in first.leases)
        kept = sum(max(0, slots - taken[queue]) for queue, slots in self._reserved.items())
        left = step.want - len(first.leases) - kept
        others = [queue for queue in step.queues if queue not in self._reserved]
        if left <= 0 or not others:
            return first
        gated = sum(lease.task.terms is not None for lease in first.leases)
        slots = None if step.slots is None else max(0, step.slots - gated)
        second = await broker.step(Step(step.worker, others, left, (), slots))
        return _together(first, second)


def _together(first: StepReply, second: StepReply) -> StepReply:
    due = [reply.next_due for reply in (first, second) if reply.next_due is not None]
    return StepReply(
        [*first.leases, *second.leases],
        first.refused,
        [*first.cancels, *second.cancels],
        min(due, default=None),
    )
