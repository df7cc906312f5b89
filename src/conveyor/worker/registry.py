"""Which definition a task's name means to this worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conveyor.tasks import TaskDefinition


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
