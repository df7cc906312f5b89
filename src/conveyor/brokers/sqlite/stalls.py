"""Where lanes wait for gates, and who lets them out.

A stall holds the lanes of one queue that one gate refused by the same numbers. When the gate may
have opened, the first of them is let out as a scout; what the scout meets decides about the next
one. So nothing polls, and an event costs as much with one lane as with a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil

from conveyor.brokers.sqlite.lanes import GATES
from conveyor.brokers.sqlite.rows import MICROS, encode
from conveyor.brokers.sqlite.transaction import Transaction
from conveyor.core.gates import Gate


def rule_of(gate: Gate, holds: bool) -> bytes:
    """Return the numbers of a gate, and whether the task has a slot of it already: tasks of which
    these are the same are refused alike.
    """
    return encode((gate.rate, gate.burst, gate.cost, gate.most, holds))


def opening(tx: Transaction, at: float | None) -> int | None:
    """Return the instant at which a refused lane looks again, not a moment too early."""
    return None if at is None else max(ceil(at * MICROS) + 1, tx.now + 1)


def stir(tx: Transaction, gates: Iterable[int]) -> None:
    """Something happened to gates: let those who wait for them look, and ring for them."""
    queues = {
        queue
        for gate in set(gates)
        for (queue,) in tx.execute(GATES["stir"], (tx.now, gate)).fetchall()
    }
    for queue in queues:
        tx.wake.add(tx.execute(GATES["queue_name"], (queue,)).fetchone()[0])


def stir_by_name(tx: Transaction, gates: Iterable[Gate]) -> None:
    """As `stir`, for gates as tasks carry them."""
    rows = (tx.execute(GATES["gate"], (gate.limit, gate.key)).fetchone() for gate in gates)
    stir(tx, [row[0] for row in rows if row is not None])


def let_out(tx: Transaction, queue: int, most: int) -> bool:
    """Open the first lane of every stall whose time has come; says whether there was one."""
    opened = False
    for (stall,) in tx.execute(GATES["ripe_stalls"], (queue, tx.now, most)).fetchall():
        first = tx.execute(GATES["first_stalled"], (stall,)).fetchone()
        if first is None:
            tx.execute(GATES["delete_stall"], (stall,))
        else:
            tx.execute(GATES["stall_lane"], (None, queue, first[0]))
            tx.execute(GATES["rest_stall"], (stall,))
            opened = True
    return opened


def free(tx: Transaction, seqs: Sequence[int], *, lines: bool = True) -> None:
    """Free slots, those of lines only if `lines`, and let whoever waits for them look."""
    if lines and tx.execute(GATES["any_stall"]).fetchone() is None:
        tx.executemany(GATES["free_unawaited_slots"], [(seq,) for seq in seqs])
        return
    statement = GATES["free_slots" if lines else "free_slots_but_lines"]
    stir(tx, [gate for seq in seqs for (gate,) in tx.execute(statement, (seq,)).fetchall()])
