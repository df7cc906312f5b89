"""Limits by argument: what a task's own code says of a node, once its arguments are known.

Whoever advances a run with that code at hand (a worker, a producer) asks it there and then. Whoever
has not (a keeper, the command line, a worker of another app) pushes a *relay* in place of the
task: a built-in task, named after the task whose code is needed, so that only a worker which knows
it takes the relay, and until one comes the relay is parked as any task that nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from conveyor.core.envelope import is_wrapped
from conveyor.packing import Packing

if TYPE_CHECKING:
    from conveyor.core.task import Task, Terms
    from conveyor.tasks import TaskDefinition

Definitions = Mapping[str, "TaskDefinition[..., Any, Any]"]


class CannotStart(Exception):
    """A node that may run but cannot; the message is the reason, in a sentence."""


class Elsewhere(Exception):
    """Only another process can tell; the message is the reason, in a sentence."""


class Code:
    """The task definitions of a process, as far as workflows need them."""

    def __init__(self, definitions: Definitions | None = None, packing: Packing | None = None):
        self.definitions: Definitions = definitions or {}
        self.packing = packing or Packing()

    def objection(self, task: Task) -> str | None:
        """Say why this process cannot tell the limits of a task, None when it can."""
        definition = self.definitions.get(task.name)
        if definition is None:
            return f"no definition is named {task.name!r} here"
        return self.packing.objection(task, definition)

    def terms(self, task: Task) -> Terms | None:
        """Return what its definition's limits mean for a task, with where it belongs. Raises
        `Elsewhere`, or `CannotStart` when the arguments do not fit or a key function fails.
        """
        if (objection := self.objection(task)) is not None:
            raise Elsewhere(objection)
        definition, terms = self.definitions[task.name], task.terms
        rules = definition.rules
        if rules is None or terms is None:
            return terms
        # Which tasks are one is a question of enqueues: a node runs once anyway.
        rules = msgspec.structs.replace(rules, unique=None, debounce=None)
        try:
            payload = task.payload
            if definition.version > 1 or is_wrapped(payload):
                payload = self.packing.unpack(task, definition)
            args, kwargs = definition.signature.decode(payload)
            told = rules.terms(definition.name, task.priority, b"", args, kwargs)
        except Exception as exc:
            # Of sealed arguments nothing is quoted.
            text = type(exc).__name__ if definition.encrypt else str(exc)
            raise CannotStart(
                f"its limits cannot be told: {text.removesuffix('; nothing was enqueued')}"
            ) from exc
        return msgspec.structs.replace(terms, gates=told.gates, fair=told.fair, lane=told.lane)
