"""The gates that one verb looks at: read once, changed with each admission, written at the end."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from conveyor.brokers.sqlite import stalls
from conveyor.brokers.sqlite.lanes import GATES
from conveyor.brokers.sqlite.rows import MICROS
from conveyor.brokers.sqlite.transaction import Transaction
from conveyor.core.gates import Gate, GateState, Refusal


class Book:
    """States of gates within one verb, which alone has the write lock."""

    def __init__(self, tx: Transaction) -> None:
        self.now = tx.now / MICROS
        self._tx = tx
        self._numbers: dict[str, int] = {}
        self._states: dict[str, GateState] = {}
        self._spent: set[str] = set()
        self._awaited: set[str] = set()
        self._slots: list[tuple[int, int, bool]] = []

    def state(self, gate: Gate) -> GateState:
        """Return the state of a gate as it is by now."""
        found = self._states.get(gate.id)
        if found is None:
            found = self._read(gate)
        return found

    def number(self, gate: Gate) -> int:
        """Return the number of a gate whose state was asked before."""
        return self._numbers[gate.id]

    def is_awaited(self, gate: Gate) -> bool:
        """Whether lanes may wait for the gate."""
        return gate.id in self._awaited

    def stall(self, refused: Refusal, queue: int, *, holds: bool) -> int:
        """Return the number of the stall for lanes of a queue that were refused so."""
        gate = refused.gate
        self._awaited.add(gate.id)
        where = (self.number(gate), queue, stalls.rule_of(gate, holds))
        opens = stalls.opening(self._tx, refused.at)
        ((number,),) = self._tx.execute(GATES["set_stall"], (*where, opens)).fetchall()
        return int(number)

    def holds(self, gates: Sequence[Gate], seq: int) -> list[bool]:
        """Say which of the gates the task has a slot of already."""
        if not any(gate.line for gate in gates):
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
        self._states[gate.id] = state
        if gate.rate > 0:
            self._spent.add(gate.id)

    def write(self) -> None:
        """Store what was noted."""
        if self._slots:
            self._tx.executemany(GATES["insert_slot"], self._slots)
        if self._spent:
            rows = [(self._states[name].tat, self._numbers[name]) for name in self._spent]
            self._tx.executemany(GATES["set_tat"], rows)

    def _read(self, gate: Gate) -> GateState:
        where = (gate.limit, gate.key)
        row = self._tx.execute(GATES["gate"], where).fetchone()
        if row is None:
            self._tx.execute(GATES["make_gate"], where)
            row = self._tx.execute(GATES["gate"], where).fetchone()
        self._numbers[gate.id] = row[0]
        self._states[gate.id] = state = GateState(*row[1:6])
        if row[6]:
            self._awaited.add(gate.id)
        return state
