"""The gated side of a step: lanes and the plain line in one order, admission by the core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from conveyor.brokers.sqlite import lanes, stalls, terms
from conveyor.brokers.sqlite.ahead import Ahead
from conveyor.brokers.sqlite.book import Book
from conveyor.brokers.sqlite.lanes import GATES, Behind, Rung, Stand, Turn
from conveyor.brokers.sqlite.rows import (
    CANCELLED,
    LEVEL,
    SKIPPED,
    Record,
    decode_story,
    decode_task,
)
from conveyor.brokers.sqlite.settle import Ending, finish
from conveyor.brokers.sqlite.statements import SQL
from conveyor.brokers.sqlite.transaction import Transaction
from conveyor.core.gates import Gate, Refusal, admit, admit_run, refusal
from conveyor.core.task import Fair, Task

LOOKS = 256
"""Lanes that one step looks at in vain, at most: the next one goes on."""
PASSES = 8
"""Lanes that a step lets out of one stall only for another gate to refuse them."""
PATIENCE = 1.0
"""Seconds that a stall then waits at most for that other gate."""
_ENDS = {"cancel_newest": CANCELLED, "drop": SKIPPED}

_NOBODY = (2**63 - 1, 0)
"""Stands behind everybody."""

Row = tuple[Any, ...]
"""Columns of a task that is leased: seq, id, execution, story, body (of lanes, the task)."""


def has_lanes(tx: Transaction) -> bool:
    """Whether any task waits in a lane: all that a step without them pays."""
    return tx.execute(GATES["any_lane"]).fetchone() is not None


def _gives_at_start(task: Task) -> bool:
    rule = None if task.terms is None else task.terms.unique
    return rule is not None and rule.until != "done"


class _Head(NamedTuple):
    """The head of an open lane."""

    queue: int
    stand: Stand
    behind: Behind | None
    row: Row
    task: Task

    @property
    def seq(self) -> int:
        return int(self.row[0])

    @property
    def gates(self) -> Sequence[Gate]:
        return () if self.task.terms is None else self.task.terms.gates

    @property
    def turn(self) -> Fair | None:
        return None if self.task.terms is None else self.task.terms.fair

    def is_alike(self, task: Task) -> bool:
        """Whether a task behind it in its lane has the same gates and the same turn."""
        own, asked = self.task, task.terms
        return (
            asked is not None
            and asked.gates == self.gates
            and asked.fair == self.turn
            and task.priority == own.priority
        )


class Admission:
    """Admits tasks of lanes in one step, at most `room` of them."""

    def __init__(self, tx: Transaction, room: int) -> None:
        self._tx = tx
        self._book = Book(tx)
        self._room = room
        self._looks = LOOKS
        self._served: list[int] = []
        self._in_vain: list[tuple[Task, Gate]] = []
        self._passes: dict[tuple[int, bytes], int] = {}
        self._ripe = True

    def concerns(self, queue: int) -> bool:
        """Whether the queue has lanes."""
        return self._tx.execute(GATES["any_lane_of"], (queue,)).fetchone() is not None

    def claim(self, queue: int, plain: Sequence[Row], want: int) -> tuple[list[Row], int]:
        """Choose up to `want` tasks of a queue in the order of the claim, among the first of its
        plain line (rows that begin with rank and ord) and its lanes. Returns them, and how many of
        the plain ones are among them.
        """
        chosen: list[Row] = []
        taken = 0
        self._ripe = True
        self._served.append(queue)
        self._ahead = Ahead(self._tx, queue)
        head = None
        while len(chosen) < want:
            head = head or self._next(queue)
            line: Rung = plain[taken][:2] if taken < len(plain) else _NOBODY
            if head is not None and head.stand[1:3] < line:
                chosen += self._run(head, want - len(chosen), line) or self._admit(head)
                head = None
            elif taken < len(plain):
                chosen.append(plain[taken][2:])
                taken += 1
            else:
                break
        self._ahead.flush()
        return chosen, taken

    def ring(self, queue: int, name: str, *, sated: bool) -> None:
        """Let others come for what this step leaves in a queue, or spare them the way. When only
        this worker had no room for it, those are rung for that were to be rung for anyway.
        """
        if (sated or self._looks <= 0) and self._leaves(queue):
            self._tx.wake.add(name)
        elif self._room > 0:
            self._tx.wake.discard(name)

    def _leaves(self, queue: int) -> bool:
        execute = self._tx.execute
        for statement in (SQL["any_ready"], GATES["any_open_lane"]):
            if execute(statement, (queue,)).fetchone() is not None:
                return True
        return bool(execute(GATES["ripe_stalls"], (queue, self._tx.now, 1)).fetchall())

    def next_due(self) -> int | None:
        """Return when a lane of the queues that were claimed from looks again."""
        if self._room <= 0:
            # Until it has a slot of its own, time brings this worker nothing.
            return None
        if self._looks <= 0:
            return self._tx.now
        execute = self._tx.execute
        times = [execute(GATES["first_opening"], (queue,)).fetchone()[0] for queue in self._served]
        return min((time for time in times if time is not None), default=None)

    def write(self) -> None:
        """Store the states of the gates, when what was chosen has its leases."""
        self._book.write()
        for task, gate in self._in_vain:
            self._cancel_oldest(task, gate)

    def _next(self, queue: int) -> _Head | None:
        """Return the head of the open lane that stands first, if there is room for it."""
        if self._room <= 0 or self._looks <= 0:
            return None
        if self._ripe:
            self._ripe = False
            self._ahead.flush()
            if stalls.let_out(self._tx, queue, LOOKS):
                self._ahead.forget()
        found = self._ahead.first()
        if found is None:
            return None
        task = decode_task(found[-1])
        behind = None if found[7] is None else found[7:10]
        return _Head(queue, Stand(*found[:7]), behind, (*found[10:-1], task), task)

    def _run(self, head: _Head, want: int, line: Rung) -> list[Row]:
        """Admit the head and those behind it that stand before the plain line and every other
        lane, all at once: they carry the same gates, and nobody waits for those.
        """
        rival = self._ahead.rival()
        before = line if rival is None else min(line, rival)
        most, turn = min(want, self._room), head.turn
        if turn is not None:
            most = min(most, turn.weight - head.stand.used)
        if most < 2 or not self._may_run(head, before):
            return []
        book, gates = self._book, head.gates
        states = [book.state(gate) for gate in gates]
        most, _ = admit_run(gates, states, book.now, most)
        rows, last = self._alike(head, most, before) if most > 1 else ([], head.stand)
        if len(rows) < 2:
            return []
        _, states = admit_run(gates, states, book.now, len(rows))
        book.admitted(gates, states, [row[0] for row in rows])
        self._room -= len(rows)
        self._ahead.passed(lanes.advance(self._tx, head.queue, last, self._turn(head)))
        self._give_unique(rows)
        return rows

    def _may_run(self, head: _Head, before: Rung) -> bool:
        """Whether one decision may do for several tasks: the one behind the head is next, too."""
        gates, stand, behind = head.gates, head.stand, head.behind
        if behind is None:
            return False
        if lanes.follow(stand, *behind[1:], turn=head.turn is not None)[1:3] >= before:
            return False
        if head.turn is None and stand.floor is not None:
            return False
        if len(gates) > 1 and len({gate.id for gate in gates}) < len(gates):
            return False
        return not any(gate.line or self._holds_back(gate, head.queue) for gate in gates)

    def _holds_back(self, gate: Gate, queue: int) -> bool:
        """Whether lanes of the queue wait for a gate: one task after the other may let them out."""
        book = self._book
        book.state(gate)
        if not book.is_awaited(gate):
            return False
        where = (book.number(gate), queue)
        return self._tx.execute(GATES["any_stalled"], where).fetchone() is not None

    def _alike(self, head: _Head, most: int, before: Rung) -> tuple[list[Row], Stand]:
        """Return up to `most` tasks from the head on that have the same gates and stand before a
        place, and how their lane stands when the last of them is its head.
        """
        rows: list[Row] = []
        last = stand = head.stand
        turn = head.turn is not None
        # A lane that has its turn stands where it began, however old its tasks are.
        within = (head.queue, stand.lane, *(_NOBODY if turn else before), most)
        for rank, order, *row, body in self._tx.execute(GATES["run"], within).fetchall():
            task = decode_task(body)
            if not rows:
                if row[0] != head.seq:
                    break
            else:
                stand = lanes.follow(last, rank, order, turn=turn)
                if stand[1:3] >= before or not head.is_alike(task):
                    break
            last = stand
            rows.append((*row, task))
        return rows, last

    def _admit(self, head: _Head) -> list[Row]:
        book, gates = self._book, head.gates
        states = [book.state(gate) for gate in gates]
        holds = book.holds(gates, head.seq)
        verdict = admit(gates, states, book.now, holds=holds)
        if isinstance(verdict, Refusal):
            self._looks -= 1
            self._refuse(head, verdict, holds)
            return []
        book.admitted(gates, verdict, [head.seq])
        self._room -= 1
        self._ahead.advance(head.stand, head.behind, self._turn(head))
        self._give_unique([head.row])
        self._pass_on(head, holds)
        return [head.row]

    def _turn(self, head: _Head) -> Turn | None:
        fair = head.turn
        if fair is None:
            return None
        return Turn(fair.weight, self._tx.now - head.task.priority * LEVEL)

    def _give_unique(self, rows: Sequence[Row]) -> None:
        given = [(row[0],) for row in rows if _gives_at_start(row[-1])]
        if given:
            self._tx.executemany(GATES["give_unique"], given)

    def _pass_on(
        self, head: _Head, holds: Sequence[bool], elsewhere: Refusal | None = None
    ) -> None:
        """Let the lanes that wait for the same gates go on: the head may have been their scout.
        `elsewhere` is why it was refused itself.
        """
        if not self._book.awaits:
            return
        for gate, has in zip(head.gates, holds, strict=True):
            if elsewhere is None or gate is not elsewhere.gate:
                self._time(gate, has, head.queue, elsewhere)

    def _time(self, gate: Gate, has: bool, queue: int, elsewhere: Refusal | None) -> None:
        """Time the lanes that wait for a gate by what is left of it."""
        if not self._book.is_awaited(gate):
            return
        refused = refusal(gate, self._book.state(gate), self._book.now, holds=has)
        rule = stalls.rule_of(gate, has)
        opens: int | None = self._tx.now
        if refused is not None:
            opens = stalls.opening(self._tx, refused.at)
            if opens is None:
                return
        elif elsewhere is not None:
            opens = self._patience((self._book.number(gate), rule), elsewhere)
        where = (self._book.number(gate), queue, rule)
        if self._tx.execute(GATES["time_stall"], (opens, *where)).rowcount:
            self._ripe = True

    def _patience(self, stall: tuple[int, bytes], elsewhere: Refusal) -> int | None:
        """Lanes that share two gates would all move from one to the other and back; when several
        in a row were refused by a gate that opens soon, the rest waits for that where it is.
        """
        passed = self._passes[stall] = self._passes.get(stall, 0) + 1
        at = elsewhere.at
        if passed > PASSES and at is not None and at - self._book.now <= PATIENCE:
            return stalls.opening(self._tx, at)
        return self._tx.now

    def _refuse(self, head: _Head, refused: Refusal, holds: Sequence[bool]) -> None:
        gate, tx = refused.gate, self._tx
        if refused.why == "full" and gate.on_full in _ENDS:
            self._end(head, gate)
            self._book.freed(head.gates, holds)
            self._ripe = True
            self._pass_on(head, holds)
            return
        if refused.why == "full" and gate.on_full == "cancel_oldest":
            self._in_vain.append((head.task, gate))
        stall = self._book.stall(refused, head.queue, holds=holds[head.gates.index(gate)])
        tx.execute(GATES["stall_lane"], (stall, head.queue, head.stand.lane))
        self._ahead.passed()
        self._pass_on(head, holds, refused)

    def _end(self, head: _Head, gate: Gate) -> None:
        """End the head because a limit is full."""
        tx, state = self._tx, _ENDS[gate.on_full]
        self._ahead.advance(head.stand, head.behind)
        seq, task_id, execution, story, _ = head.row
        reason = f"the limit {gate.limit!r} was full when its turn came"
        record = Record(None, decode_story(story).counters, None, reason)
        finish(tx, seq, Ending(state, execution - 1, record))
        tx.changed(state, execution - 1, head.queue, task_id)
        if head.task.terms is not None:
            terms.ended(tx, [(seq, head.task.terms)])

    def _cancel_oldest(self, task: Task, gate: Gate) -> None:
        """Flag the task that has run longest under the gate, unless it is flagged already."""
        found = self._tx.execute(GATES["oldest_holder"], (self._book.number(gate),)).fetchone()
        if found is None or found[1]:
            return
        seq, _, token = found
        why = f"cancelled because the limit {gate.limit!r} is full and {task.id} came"
        self._tx.run("flag_cancel", (why, seq))
        self._tx.wake_workers.add(token)
