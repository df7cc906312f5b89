"""What a definition asks for beyond the plain line of its queue, and what that means for a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from conveyor.core.errors import InvalidArguments, InvalidOption
from conveyor.core.gates import Gate, lane_of
from conveyor.core.keying import KeyFunction, as_key, called, key_of, must_be_function
from conveyor.core.limits import Concurrency, Rate
from conveyor.core.task import Fair, Terms
from conveyor.core.uniqueness import Debounce, Unique, debounce_of, unique_of


class Rules(msgspec.Struct, frozen=True):
    """What a definition asks for beyond the plain line; None of them set means no rules at all."""

    limits: tuple[Rate | Concurrency, ...] = ()
    fair_by: KeyFunction | None = None
    partition_by: KeyFunction | None = None
    unique: Unique | None = None
    debounce: Debounce | None = None

    @property
    def by_argument(self) -> bool:
        """Whether any of them asks a call for its arguments."""
        functions = [self.fair_by, self.partition_by]
        for limit in self.limits:
            functions += [limit.key, getattr(limit, "cost", None)]
        return any(callable(function) for function in functions)

    @property
    def adapting(self) -> list[Rate]:
        """Its limits whose rates follow what the other side bears."""
        return [one for one in self.limits if isinstance(one, Rate) and one.adapt is not None]

    def named(self, task: str) -> Rules:
        """Return the same rules with every limit named: nameless ones are the task's own. Raises
        `InvalidOption` for two of one name: one gate cannot be two limits of a task.
        """
        limits: list[Rate | Concurrency] = []
        for limit in self.limits:
            kind = type(limit).__name__.lower()
            number = sum(isinstance(other, type(limit)) for other in limits)
            own = f"{task}:{kind}{number + 1 if number else ''}"
            if limit.name in {other.name for other in limits}:
                raise InvalidOption(
                    f"two limits of {task!r} are named {limit.name!r}: give each a name of its own"
                )
            limits.append(msgspec.structs.replace(limit, name=limit.name or own))
        return msgspec.structs.replace(self, limits=tuple(limits))

    def terms(
        self,
        name: str,
        priority: int,
        payload: bytes,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Terms:
        """Say what the rules mean for one call. Raises `InvalidArguments` when a key function
        fails or answers with something that is no key.
        """
        gates = [limit.gate(args, kwargs) for limit in self.limits]
        if self.partition_by is not None:
            key = key_of(self.partition_by, f"{name}:partition", args, kwargs)
            gates.append(Gate(f"{name}:partition", key, most=1, line=True))
        fair = None if self.fair_by is None else _fair(self.fair_by, name, args, kwargs)
        unique = None
        if self.debounce is not None:
            unique = self.debounce.term(name, args, kwargs)
        elif self.unique is not None:
            unique = self.unique.term(payload, name, args, kwargs)
        frees_at_lease = unique is not None and unique.until in {"queued", "start"}
        lane = ""
        if gates or fair is not None or frees_at_lease:
            lane = lane_of(priority, gates, None if fair is None else fair.key)
        return Terms(tuple(gates), fair, lane, unique)


def rules_of(
    *,
    rate_limit: Rate | Sequence[Rate] | None,
    concurrency: Concurrency | Sequence[Concurrency] | None,
    fair_by: KeyFunction | None,
    partition_by: KeyFunction | None,
    unique: Unique | str | float | timedelta | None,
    debounce: Debounce | None,
) -> Rules | None:
    """Gather what a definition says; None when it says nothing. Raises `InvalidOption`."""
    limits = (*_all(rate_limit, Rate, "rate_limit"), *_all(concurrency, Concurrency, "concurrency"))
    must_be_function(fair_by, "fair_by")
    must_be_function(partition_by, "partition_by")
    if not limits and all(rule is None for rule in (fair_by, partition_by, unique, debounce)):
        return None
    return with_uniqueness(Rules(limits, fair_by, partition_by), unique, debounce)


def with_uniqueness(
    rules: Rules | None,
    unique: Unique | str | float | timedelta | None,
    debounce: Debounce | None,
) -> Rules:
    """Return the rules of one enqueue that says itself which tasks are one. Raises
    `InvalidOption`.
    """
    if unique is not None and debounce is not None:
        raise InvalidOption("unique= and debounce= both say which tasks are one: give one of them")
    return msgspec.structs.replace(
        rules or Rules(), unique=unique_of(unique), debounce=debounce_of(debounce)
    )


def _all(value: Any, kind: type[Any], option: str) -> tuple[Any, ...]:
    if value is None:
        return ()
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for entry in values:
        if not isinstance(entry, kind):
            raise InvalidOption(f"{option}={entry!r}: a {kind.__name__} or several of them")
    return values


def _fair(
    function: KeyFunction, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Fair:
    answer = called(function, f"the fairness key of {name!r}", args, kwargs)
    if isinstance(answer, tuple):
        key, weight = answer
        if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= 1_000:
            raise InvalidArguments(
                f"the weight of {name!r} is {weight!r}, but must be a whole number from 1 to 1000; "
                "nothing was enqueued"
            )
        return Fair(as_key(key, name), weight)
    return Fair(as_key(answer, name))
