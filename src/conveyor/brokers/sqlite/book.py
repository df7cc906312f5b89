"""The gates that one verb looks at: read once, changed with each admission, written at the end."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from conveyor.brokers.sqlite import stalls
from conveyor.brokers.sqlite.lanes import GATES
from conveyor.brokers.sqlite.rows import MICROS
from conveyor.brokers.sqlite.transaction import Transaction
from conveyor.core.gates import Gate, GateState, Refusal


class _Page:
    """What is known of one gate."""

    __slots__ = ("is_awaited", "is_spent", "number", "state")

    def __init__(self, number: int, state: GateState, *, is_awaited: bool) -> None:
        self.number = number
        self.state = state
        self.is_awaited = is_awaited
        self.is_spent = False


class Book:
    """States of gates within one verb, which alone has the write lock."""

    def __init__(self, tx: Transaction) -> None:
        self.now = tx.now / MICROS
        self.awaits = False
        """Whether lanes may wait for any gate that was looked at."""
        self._tx = tx
        self._pages: dict[tuple[str, str], _Page] = {}
        self._slots: list[tuple[int, int, bool]] = []

    def state(self, gate: Gate) -> GateState:
        """Return the state of a gate as it is by now."""
        return self._page(gate).state

    def number(self, gate: Gate) -> int:
        """Return the number of a gate."""
        return self._page(gate).number

    def is_awaited(self, gate: Gate) -> bool:
        """Whether lanes may wait for the gate."""
        return self._page(gate).is_awaited

    def stall(self, refused: Refusal, queue: int, *, holds: bool) -> int:
        """Return the number of the stall for lanes of a queue that were refused so."""
        gate = refused.gate
        page = self._page(gate)
        page.is_awaited = self.awaits = True
        where = (page.number, queue, stalls.rule_of(gate, holds))
        opens = stalls.opening(self._tx, refused.at)
        ((number,),) = self._tx.execute(GATES["set_stall"], (*where, opens)).fetchall()
        return int(number)

    def holds(self, gates: Sequence[Gate], seq: int) -> list[bool]:
        """Say which of the gates the task has a slot of already."""
        for gate in gates:
            if gate.line:
                break
        else:
            return [False] * len(gates)
        held = {row[0] for row in self._tx.execute(GATES["slots_of"], (seq,)).fetchall()}
        return [self.number(gate) in held for gate in gates]

    def admitted(
        self, gates: Sequence[Gate], states: Sequence[GateState], seqs: Sequence[int]
    ) -> None:
        """Note the states after tasks with the same gates were admitted, and their slots."""
        for gate, state in zip(gates, states, strict=True):
            self.put(gate, state)
            if gate.rate <= 0:
                number, line = self.number(gate), gate.line
                self._slots += [(number, seq, line) for seq in seqs]

    def freed(self, gates: Sequence[Gate], held: Sequence[bool]) -> None:
        """Note that a task which ended gave back the slots that it had."""
        for gate, has in zip(gates, held, strict=True):
            if has:
                state = self.state(gate)
                self.put(gate, msgspec.structs.replace(state, running=state.running - 1))

    def put(self, gate: Gate, state: GateState) -> None:
        """Note a state."""
        page = self._page(gate)
        page.state = state
        page.is_spent |= gate.rate > 0

    def write(self) -> None:
        """Store what was noted."""
        if self._slots:
            self._tx.executemany(GATES["insert_slot"], self._slots)
        spent = [(page.state.tat, page.number) for page in self._pages.values() if page.is_spent]
        if spent:
            self._tx.executemany(GATES["set_tat"], spent)

    def _page(self, gate: Gate) -> _Page:
        where = (gate.limit, gate.key)
        page = self._pages.get(where)
        if page is None:
            page = self._pages[where] = self._read(where)
        return page

    def _read(self, where: tuple[str, str]) -> _Page:
        row = self._tx.execute(GATES["gate"], where).fetchone()
        if row is None:
            self._tx.execute(GATES["make_gate"], where)
            row = self._tx.execute(GATES["gate"], where).fetchone()
        number, *state, is_awaited = row
        self.awaits |= bool(is_awaited)
        return _Page(number, GateState(*state), is_awaited=bool(is_awaited))
