"""Limits as a definition states them, and the gates they mean for one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from conveyor.core.aimd import Adapt
from conveyor.core.amounts import is_number, per_second
from conveyor.core.errors import InvalidArguments, InvalidOption
from conveyor.core.gates import Gate
from conveyor.core.keying import MAX_KEY, KeyFunction, called, key_of, must_be_function

_ON_FULL = ("queue", "cancel_oldest", "cancel_newest", "drop")


class Rate(msgspec.Struct, frozen=True):
    """At most so many starts per time, for all workers together.

    `rate` is `"50/s"`, `"100/m"`, `"1000/h"`, `"5/10s"`; up to `burst` tasks may start at once. In
    any window of w seconds at most `burst + rate x w` start. `key` makes one such limit for each
    value; `cost` (a number or a function) is how many tokens a task takes, at most `burst`. Tasks
    whose limits have the same `name` share it; default: a limit of the task's own. `key` and
    `cost` functions get the task's arguments. With `adapt` the rate falls when the other side
    refuses, and recovers: `Adapt`.

    Raises `InvalidOption` when a value makes no sense.
    """

    rate: str
    burst: float = 1
    key: KeyFunction | None = None
    cost: float | KeyFunction = 1
    name: str | None = None
    adapt: Adapt | None = None

    def __post_init__(self) -> None:
        """Refuse a rate that cannot be read or could admit nothing."""
        if self.per_second <= 0:
            raise InvalidOption(f"Rate({self.rate!r}): above 0")
        if not is_number(self.burst) or not 1 <= self.burst <= 1_000_000:
            raise InvalidOption(f"Rate(burst={self.burst!r}): from 1 to 1000000 tokens")
        if not callable(self.cost) and (fault := _cost_fault(self.cost, self.burst)):
            raise InvalidOption(f"Rate({self.rate!r}): {fault}")
        if callable(self.cost):
            must_be_function(self.cost, "cost")
        must_be_function(self.key, "key")
        if self.adapt is not None and not isinstance(self.adapt, Adapt):
            raise InvalidOption(f"Rate(adapt={self.adapt!r}): an Adapt, e.g. Adapt(least='1/s')")
        _checked_name(self.name)

    @property
    def per_second(self) -> float:
        """Tokens per second."""
        return per_second(self.rate)

    def gate(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Gate:
        """Return the gate of one call."""
        name, cost = self.name or "", self.cost
        if callable(cost):
            cost = called(cost, f"the cost of {name!r}", args, kwargs)
            if fault := _cost_fault(cost, self.burst):
                raise InvalidArguments(f"limit {name!r}: {fault}; nothing was enqueued")
        return Gate(
            name,
            key_of(self.key, name, args, kwargs),
            rate=self.per_second,
            burst=float(self.burst),
            cost=float(cost),
        )


class Concurrency(msgspec.Struct, frozen=True):
    """At most so many running at a time, over all workers together.

    `key` makes one such limit for each value. `on_full` says what a task does that finds no slot:
    `queue` (wait), `cancel_oldest` (the longest-running one is cancelled to make room),
    `cancel_newest` (it is cancelled itself) or `drop` (it ends as skipped). Tasks whose limits have
    the same `name` share it. A slot is a lease: whatever happens to a worker, it comes back.

    Raises `InvalidOption` when a value makes no sense.
    """

    most: int
    key: KeyFunction | None = None
    on_full: str = "queue"
    name: str | None = None

    def __post_init__(self) -> None:
        """Refuse a limit that could admit nothing."""
        most: Any = self.most
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise InvalidOption(f"Concurrency({self.most!r}): a whole number from 1")
        if self.on_full not in _ON_FULL:
            raise InvalidOption(
                f"Concurrency(on_full={self.on_full!r}): one of {', '.join(_ON_FULL)}"
            )
        must_be_function(self.key, "key")
        _checked_name(self.name)

    def gate(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Gate:
        """Return the gate of one call."""
        name = self.name or ""
        key = key_of(self.key, name, args, kwargs)
        return Gate(name, key, most=self.most, on_full=self.on_full)


class SharedLimits:
    """The limits of all tasks by name. Tasks that share one say the same of it: else the rate would
    be that of whichever task asked last.
    """

    def __init__(self) -> None:
        self._first: dict[str, tuple[str, Rate | Concurrency]] = {}

    def add(self, task: str, limits: Iterable[Rate | Concurrency]) -> None:
        """Note the named limits of a task. Raises `InvalidOption` when another one states other
        numbers under the same name."""
        for limit in limits:
            owner, known = self._first.get(limit.name or "", (task, limit))
            if owner != task and _numbers(known) != _numbers(limit):
                raise InvalidOption(
                    f"limit {limit.name!r} is {_written(known)} for task {owner!r} and "
                    f"{_written(limit)} for task {task!r}: tasks that share a limit state the same "
                    "numbers; give one of them another name="
                )
            self._first[limit.name or ""] = (owner, limit if owner == task else known)


def _numbers(limit: Rate | Concurrency) -> tuple[str, float, float]:
    if isinstance(limit, Rate):
        return "rate", limit.per_second, limit.burst
    return "concurrency", limit.most, 0


def _written(limit: Rate | Concurrency) -> str:
    if isinstance(limit, Rate):
        return f"Rate({limit.rate!r}, burst={limit.burst:g})"
    return f"Concurrency({limit.most})"


def _checked_name(name: Any) -> None:
    if name is not None:
        limit_name(name)


def limit_name(name: Any) -> str:
    """Return the name of a limit. Raises `InvalidOption`."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_KEY or not name.isprintable():
        raise InvalidOption(f"limit name {name!r}: from 1 to {MAX_KEY} printable characters")
    return name


def _cost_fault(value: Any, burst: float) -> str | None:
    """Say what is wrong with a cost, None when it is a good one."""
    if not is_number(value) or not 0 < value <= burst:
        return f"the cost is {value!r}, but must be above 0 and at most the burst of {burst:g}"
    return None
