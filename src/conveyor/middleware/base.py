"""The seam for behaviour that wraps every task: tracing, metrics, audit, …

A middleware overrides `enqueue`, `execute`, or both. They nest in the order the app lists them: the
first is outermost on both sides. What is not overridden costs nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conveyor.context import CurrentTask
    from conveyor.core.task import NewTask

PushNext = Callable[["NewTask"], Awaitable[Any]]
RunNext = Callable[[], Awaitable[Any]]


class Middleware:
    """Base class: passes everything on. Exceptions raised around `call_next` count as the
    task's own (worker side) or reach the caller (client side)."""

    async def enqueue(self, task: NewTask, call_next: PushNext) -> Any:
        """Wrap one enqueue. Pass `task`, or a changed copy of it, to `call_next`."""
        return await call_next(task)

    async def execute(self, task: CurrentTask, call_next: RunNext) -> Any:
        """Wrap one execution: arguments are decoded, `call_next()` runs the function and returns
        its value."""
        return await call_next()


def push_chain(middleware: Sequence[Middleware], last: PushNext) -> PushNext:
    """Nest the `enqueue` sides around `last`."""
    chain = last
    for layer in reversed(middleware):
        if type(layer).enqueue is not Middleware.enqueue:
            chain = partial(_push, layer, chain)
    return chain


async def _push(layer: Middleware, call_next: PushNext, task: NewTask) -> Any:
    return await layer.enqueue(task, call_next)


def run_layers(middleware: Sequence[Middleware]) -> tuple[Middleware, ...]:
    """Pick the layers that have an `execute` side, innermost first."""
    return tuple(
        layer for layer in reversed(middleware) if type(layer).execute is not Middleware.execute
    )


def run_chain(layers: Sequence[Middleware], task: CurrentTask, last: RunNext) -> RunNext:
    """Nest the `execute` sides (innermost first) around `last`."""
    chain = last
    for layer in layers:
        chain = partial(layer.execute, task, chain)
    return chain
