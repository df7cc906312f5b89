"""What tasks with terms hold beside their lease, and when they give it back."""

from __future__ import annotations

from collections.abc import Sequence

from conveyor.brokers.sqlite import stalls
from conveyor.brokers.sqlite.lanes import GATES
from conveyor.brokers.sqlite.transaction import Transaction
from conveyor.core.task import Task, Terms


def ended(tx: Transaction, finished: Sequence[tuple[int, Terms]]) -> None:
    """Free what finished tasks, by their numbers, have: slots and unique keys."""
    # A rate leaves nothing to free.
    slotted = [seq for seq, terms in finished if any(gate.rate <= 0 for gate in terms.gates)]
    if slotted:
        stalls.free(tx, slotted)
    given = [(seq,) for seq, terms in finished if terms.unique is not None]
    if given:
        tx.executemany(GATES["give_unique"], given)


def put_back(tx: Transaction, seq: int, task_id: bytes, task: Task) -> None:
    """Free the slots of a task that lives on, those of lines excepted; it may take the unique key
    back that it gave away when it was leased.
    """
    terms = task.terms
    if terms is None:
        return
    if terms.gates:
        stalls.free(tx, [seq], lines=False)
    if terms.unique is not None and terms.unique.until == "queued":
        take_back(tx, seq, task_id, task)


def take_back(tx: Transaction, seq: int, task_id: bytes, task: Task) -> None:
    """Take the unique key of a task that waits again, if nobody else has it by now. A period goes
    on from the enqueue, whatever becomes of the task.
    """
    rule = None if task.terms is None else task.terms.unique
    if rule is not None and rule.until != "period":
        queue, name = tx.known.queue(task.queue), tx.known.name(task.name)
        tx.execute(GATES["retake_unique"], (queue, name, rule.key, seq, task_id, tx.now))
