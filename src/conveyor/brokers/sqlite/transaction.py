"""What a verb gets to write with: the connection, the time, order numbers, and its event."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from conveyor.brokers.sqlite.rows import encode, pack_id
from conveyor.brokers.sqlite.statements import SQL

PER_EVENT = 1 << 20
"""Order numbers that belong to one event row: more than any verb needs."""


class NeedsCare(Exception):
    """The fast way met a task that needs the slow one: undo what was done and do it again."""


MOST_LEASED = 50_000
"""Tasks remembered at most: far above what one process ever runs at a time."""


class Known:
    """What need not be looked up again because it never changes: the numbers of queues and names,
    and of the tasks that this process leases.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queues: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._leased: dict[str, tuple[int, bytes]] = {}
        self.tidied_gate = 0
        """Up to where housekeeping has looked at gates."""

    def forget(self) -> None:
        """What was inserted since the last commit may be gone."""
        self._queues.clear()
        self._names.clear()
        self._leased.clear()

    def queue(self, name: str) -> int:
        """Return the number of a queue, making it when it is new."""
        number = self._queues.get(name)
        if number is None:
            number = self._number(name, "queue")
            self._queues[name] = number
        return number

    def known_queues(self, names: Iterable[str]) -> list[tuple[int, str]]:
        """Return number and name of those queues that ever got a task, in the order given."""
        found = []
        for name in names:
            number = self._queues.get(name)
            if number is None:
                number = self._find(name, "queue")
                if number is None:
                    continue
                self._queues[name] = number
            found.append((number, name))
        return found

    def known_names(self, names: Iterable[str]) -> list[int]:
        """Return the numbers of those names that any task ever had."""
        numbers = (self._names.get(name) or self._find(name, "name") for name in names)
        return [number for number in numbers if number is not None]

    def name(self, name: str) -> int:
        """Return the number of a definition's name, making it when it is new."""
        number = self._names.get(name)
        if number is None:
            number = self._number(name, "name")
            self._names[name] = number
        return number

    def leased(self, task_id: str, seq: int, packed: bytes) -> None:
        """Remember a task until it is settled."""
        if len(self._leased) >= MOST_LEASED:
            # Left over from leases that others ended.
            self._leased.clear()
        self._leased[task_id] = (seq, packed)

    def settling(self, task_id: str) -> tuple[int, bytes] | None:
        """Return number and packed id of a task that is to be settled, if there is such a task."""
        known = self._leased.pop(task_id, None)
        if known is not None:
            return known
        packed = pack_id(task_id)
        row = packed and self._connection.execute(SQL["find_task"], (packed,)).fetchone()
        return (row[0], packed) if row and packed else None

    def _number(self, name: str, kind: str) -> int:
        number = self._find(name, kind)
        if number is not None:
            return number
        return self._connection.execute(SQL[f"insert_{kind}"], (name,)).lastrowid or 0

    def _find(self, name: str, kind: str) -> int | None:
        row = self._connection.execute(SQL[f"find_{kind}"], (name,)).fetchone()
        return None if row is None else int(row[0])


class Transaction:
    """One verb's share of a write transaction.

    `careful` tells a verb that its fast way was undone. `wake` and `wake_workers` collect whom to
    ring for after the commit, `sated` workers that need no bell now.
    """

    def __init__(
        self, connection: sqlite3.Connection, known: Known, now: int, event: int, *, careful: bool
    ) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.executemany = connection.executemany
        self.known = known
        self.now = now
        self.careful = careful
        self.wake: set[str] = set()
        self.wake_workers: set[str] = set()
        self.wake_all = False
        self.sated: set[str] = set()
        self._event = event
        self._ordered = 0
        self._changes: dict[tuple[int, int, int], list[bytes]] = {}
        self._checks: dict[int, list[int]] = {}

    def numbers(self, count: int) -> int:
        """Return the first of `count` consecutive order numbers, greater than all before."""
        first = self._event * PER_EVENT + self._ordered
        self._ordered += count
        return first

    def changed(self, state: int, execution: int, queue: int, task_id: bytes) -> None:
        """Note a change of state for the event."""
        self.change_of(state, execution, queue).append(task_id)

    def change_of(self, state: int, execution: int, queue: int) -> list[bytes]:
        """Return the list of ids with this change, to be added to."""
        return self._changes.setdefault((state, execution, queue), [])

    def check_later(self, at: int) -> list[int]:
        """Return the list of finished tasks that housekeeping looks at then, to be added to."""
        return self._checks.setdefault(at, [])

    @property
    def has_event(self) -> bool:
        """Whether any state was changed."""
        return bool(self._changes)

    def finish(self) -> None:
        """Write what the verb collected: its event, if there was any change."""
        for at, seqs in self._checks.items():
            self.execute(SQL["insert_prune"], (at, array("q", seqs).tobytes()))
        if not self._changes:
            return
        changes = [(*key, b"".join(ids)) for key, ids in self._changes.items()]
        count = sum(map(len, self._changes.values()))
        self.execute(SQL["insert_event"], (self._event, self.now, count, encode(changes)))

    def one(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """Run the named statement and return its first row, or None."""
        return self.connection.execute(SQL[statement], parameters).fetchone()

    def all(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Run the named statement and return all rows."""
        return self.connection.execute(SQL[statement], parameters).fetchall()

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Run the named statement and return how many rows it changed."""
        return self.connection.execute(SQL[statement], parameters).rowcount

    def run_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run the named statement once for each row and return how many rows it changed."""
        if not rows:
            return 0
        return self.connection.executemany(SQL[statement], rows).rowcount
