"""Strikes: tasks that are held back by name, queue or argument, by a person. Pure.

A strike is looked at when a task is about to start, so it works on tasks of any shape without a
column for every argument. What it hits waits, free of charge, until the strike is lifted or over.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from conveyor.core.errors import InvalidOption
from conveyor.core.task import TaskInfo

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
STRUCK = " are struck"
_WHERE = re.compile(r"\s*([A-Za-z_]\w*|[0-9]{1,3})\s*(==|!=|<=|>=|=|<|>)\s*(.*?)\s*\Z", re.DOTALL)


class Comparison(msgspec.Struct, frozen=True, array_like=True):
    """A comparison with one argument, by name or by position from 0."""

    argument: str
    operator: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> Comparison:
        """Read `customer_id == 7`: a name or position, an operator, a JSON value (a bare word is a
        string). Raises `InvalidOption`.
        """
        match = _WHERE.match(text)
        if match is None or not match[3]:
            raise InvalidOption(
                f"where {text!r}: an argument, one of {' '.join(_COMPARE)}, and a JSON value, "
                "e.g. customer_id == 7"
            )
        name, sign, raw = match.groups()
        try:
            value = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            value = raw
        return cls(name, "==" if sign == "=" else sign, value)

    def holds(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether the call has such an argument; values that cannot be compared do not match."""
        if self.argument in kwargs:
            found = kwargs[self.argument]
        elif self.argument.isdigit() and int(self.argument) < len(args):
            found = args[int(self.argument)]
        else:
            return False
        try:
            return bool(_COMPARE[self.operator](found, self.value))
        except TypeError:
            return False

    def __str__(self) -> str:
        return f"{self.argument} {self.operator} {self.value!r}"


class Strike(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks are held back: all conditions that are set must hold, and one is set at least."""

    id: str
    name: str | None = None
    """Name of the task definition; `*` and `?` stand for any letters."""
    queue: str | None = None
    where: tuple[Comparison, ...] = ()
    reason: str = ""
    by: str = ""
    at: float = 0.0
    until: float | None = None
    """Epoch seconds when it ends by itself."""

    def __post_init__(self) -> None:
        """Refuse a strike on everything by accident."""
        if self.name is None and self.queue is None and not self.where:
            raise InvalidOption("a strike needs a task name, a queue or an argument to go by")
        if self.name == "":
            raise InvalidOption("name='': the name of a task definition; * and ? are wild")

    def hits(self, info: TaskInfo, now: float) -> bool:
        """Whether it holds the task back now."""
        return self.covers(info.name, info.queue, now) and self.fits(info.args, info.kwargs)

    def covers(self, name: str, queue: str, now: float) -> bool:
        """Whether it is in force for such tasks, whatever their arguments."""
        return (
            (self.until is None or now < self.until)
            and (self.name is None or fnmatchcase(name, self.name))
            and (self.queue is None or queue == self.queue)
        )

    def fits(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether the arguments are such."""
        return all(comparison.holds(args, kwargs) for comparison in self.where)

    def sentence(self) -> str:
        """Say what it does, and who wanted it."""
        what = [f"tasks {self.name}"] if self.name is not None else ["tasks"]
        what += [f"of queue {self.queue!r}"] if self.queue is not None else []
        what += ["with " + " and ".join(map(str, self.where))] if self.where else []
        by = f" by {self.by}" if self.by else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"{' '.join(what)}{STRUCK}{by}{reason}"
