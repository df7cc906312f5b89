"""How the tasks of a node are enqueued: what of a definition's options a stored graph can hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from conveyor.core.errors import InvalidWorkflow
from conveyor.core.graph import Lot

if TYPE_CHECKING:
    from conveyor.core.options import Options
    from conveyor.core.rules import Rules
    from conveyor.core.task import Terms
    from conveyor.tasks import BoundTask, TaskDefinition


def lot_of_call(call: BoundTask[Any], *, known: bool) -> Lot:
    """Return what is stored of a call's options. `known`: none of its arguments is a result, so
    that limits by argument can be told now; else they are told when the node starts. Raises
    `InvalidWorkflow`.
    """
    definition = call.definition
    _check(definition, call.rules)
    if call.rules is None:
        return _lot(call.options, definition.version, None)
    if not known and call.rules.by_argument:
        return _lot(call.options, definition.version, None, keyed=True)
    terms = call.rules.terms(definition.name, call.options.priority, b"", call.args, call.kwargs)
    return _lot(call.options, definition.version, terms)


def lot_of_definition(definition: TaskDefinition[..., Any, Any]) -> Lot:
    """Return what is stored for a node that names its task only. Raises `InvalidWorkflow`."""
    rules, options = definition.rules, definition.options
    _check(definition, rules)
    if rules is None:
        return _lot(options, definition.version, None)
    if rules.by_argument:
        return _lot(options, definition.version, None, keyed=True)
    terms = rules.terms(definition.name, options.priority, b"", (), {})
    return _lot(options, definition.version, terms)


class Lots(Mapping[str, Lot]):
    """What is stored of the definitions of an app, told when it is asked for: that of one may be
    refused (`InvalidWorkflow`) while another one is wanted.
    """

    def __init__(self, definitions: Mapping[str, TaskDefinition[..., Any, Any]]) -> None:
        self._definitions = definitions

    def __getitem__(self, name: str) -> Lot:
        return lot_of_definition(self._definitions[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._definitions)

    def __len__(self) -> int:
        return len(self._definitions)


def _check(definition: TaskDefinition[..., Any, Any], rules: Rules | None) -> None:
    if rules is not None and (rules.unique is not None or rules.debounce is not None):
        raise InvalidWorkflow(
            f"{definition.name}: unique= and debounce= are about enqueues, and a node runs exactly "
            "once in its run: declare the function under a second name without them, or let a node "
            "enqueue the task"
        )


def _lot(options: Options, version: int, terms: Terms | None, *, keyed: bool = False) -> Lot:
    return Lot(
        options.queue,
        options.priority,
        options.max_attempts,
        options.retry_base,
        options.retry_cap,
        options.timeout,
        options.result_ttl,
        options.delay,
        options.headers,
        version,
        terms,
        keyed,
    )
