"""Which definition a task's name means to this worker."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conveyor.brokers.base import Broker
    from conveyor.tasks import TaskDefinition

log = logging.getLogger("conveyor.worker")


def known_names(
    definitions: Mapping[str, TaskDefinition[..., Any, Any]], module: str
) -> dict[str, TaskDefinition[..., Any, Any]]:
    """Map every name a producer may have used to its definition.

    A definition of the module given on the command line also answers to `__main__.qualname` and to
    the module's last part: that is how a producer run as a script names it.
    """
    names = dict(definitions)
    for definition in definitions.values():
        for alias in definition.aliases:
            names.setdefault(alias, definition)
    prefix = f"{module}."
    last = module.rpartition(".")[2]
    for name, definition in definitions.items():
        if name.startswith(prefix):
            qualname = name.removeprefix(prefix)
            names.setdefault(f"__main__.{qualname}", definition)
            names.setdefault(f"{last}.{qualname}", definition)
    return names


def limits_of_several_queues(
    definitions: Mapping[str, TaskDefinition[..., Any, Any]],
) -> dict[str, list[str]]:
    """Return the limits that tasks of several queues share, with these queues."""
    queues: dict[str, set[str]] = {}
    for definition in definitions.values():
        for rule in definition.rules.limits if definition.rules is not None else ():
            queues.setdefault(str(rule.name), set()).add(definition.options.queue)
    return {name: sorted(mine) for name, mine in sorted(queues.items()) if len(mine) > 1}


def warn_of_limits_that_multiply(
    definitions: Mapping[str, TaskDefinition[..., Any, Any]], broker: Broker
) -> None:
    """Say which limits admit more than they state on a store whose queues count by themselves."""
    if broker.gates.span_queues:
        return
    for name, queues in limits_of_several_queues(definitions).items():
        log.warning(
            "limit %r is shared by the queues %s, but in a Redis Cluster limits count per queue: "
            "together they may do %d times what it says; put its tasks into one queue",
            name,
            ", ".join(queues),
            len(queues),
        )
