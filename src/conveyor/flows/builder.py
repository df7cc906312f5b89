"""Building workflows in Python: typed where a checker can follow, validated before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import msgspec

from conveyor.core import condition, fit, template
from conveyor.core import graph as graphs
from conveyor.core.amounts import seconds
from conveyor.core.codec import MAX_PAYLOAD
from conveyor.core.condition import INPUT, Expression, Operand
from conveyor.core.errors import InvalidWorkflow
from conveyor.core.graph import Graph, Lot
from conveyor.core.options import queue_name
from conveyor.flows.handle import WorkflowHandle, begin
from conveyor.flows.lots import lot_of_call
from conveyor.flows.nodes import Draft, MapNode, Mode, Node, Reference
from conveyor.flows.streams import Results

if TYPE_CHECKING:
    from conveyor.flows.home import Home
    from conveyor.tasks import BoundTask, Enqueuer

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
MAX_ITEMS = 8 * 1024 * 1024
"""Bytes of a list to map over that is part of the graph."""


class Workflow:
    """A workflow under construction; `await flow.enqueue()` starts a run of it.

    Nodes wait for the nodes whose results they use, and for those named by `after`. Whatever makes
    no sense raises `InvalidWorkflow` here, before anything is stored.
    """

    def __init__(self, home: Home, name: str, *, queue: str = "default") -> None:
        if not name or len(name) > graphs.MAX_NAME:
            raise InvalidWorkflow(f"name={name!r}: from 1 to {graphs.MAX_NAME} characters")
        self.name = name
        self._home = home
        self._lot = Lot(queue=queue_name(queue))
        self._drafts: list[Draft] = []
        self._names: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._conditions: list[Expression] = []
        self._last: Expression | None = None
        self._result: int | None = None

    # -- nodes

    def add(self, task: Enqueuer[P, T], *args: P.args, **kwargs: P.kwargs) -> Node[T]:
        """Add a task; its arguments may be results of earlier nodes. Options come from
        `task.with_options(…)`; a key is refused, for a node runs once anyway."""
        return self._add_call(task.bind(*args, **kwargs))

    def map(
        self,
        task: Enqueuer[..., T],
        items: Any,
        *,
        window: int = 1_000,
        fail_fast: bool = False,
        kwargs: Mapping[str, Any] | None = None,
    ) -> MapNode[T]:
        """Run a task for each item: of a list, of a node's result, or for 0 … n-1 of a number n.

        At most `window` children are in flight; the next are made as others end, so that a hundred
        thousand of them never wait in one transaction. With `fail_fast` the first child that fails
        stops the others: what waits is cancelled, what runs is told to stop. `kwargs` go to each
        child.
        """
        call = task.bind(template.ITEM_OPERAND, **(kwargs or {}))
        draft = self._draft(_last_part(call.definition.name), "map", lot_of_call(call, known=False))
        draft.task, draft.window = call.definition.name, window
        draft.fail_fast = fail_fast
        draft.payload = self._template(draft, (call.args, call.kwargs))
        draft.items = self._template(draft, _as_items(items), limit=MAX_ITEMS)
        draft.returns = list.__class_getitem__(call.definition.signature.returns)
        self._check_items(draft, call, items)
        return MapNode(self, draft)

    def reduce(
        self, mapped: MapNode[Any], task: Enqueuer[..., R], mode: Mode, kwargs: Mapping[str, Any]
    ) -> Node[R]:
        """Do what `MapNode.reduce` does."""
        self.must_own(mapped)
        call = task.bind(mapped.result, **kwargs)
        node = self._add_call(call, kind="reduce", checks=False)
        node.after(mapped, mode=mode)
        first = next(iter(call.definition.signature.text.parameters), "")
        node._draft.streams = _is_results(call.definition.signature.hints.get(first, Any))
        return node

    def sleep(self, delay: float | timedelta) -> Node[None]:
        """Add a pause of so many seconds, which holds no slot and survives restarts."""
        draft = self._draft("sleep", "sleep", self._lot)
        draft.seconds = seconds(delay, "sleep")
        return Node(self, draft)

    def wait_for(self, signal: str, *, timeout: float | timedelta | None = None) -> Node[Any]:
        """Add a wait for `handle.signal(signal, value)`; its result is the value, also of a signal
        that was sent before. After `timeout` seconds the node fails.
        """
        draft = self._draft(f"wait_for {signal}", "signal", self._lot)
        draft.signal = signal
        if timeout is not None:
            draft.seconds = seconds(timeout, "timeout")
        return Node(self, draft)

    def include(self, other: Workflow, **inputs: Any) -> Node[Any]:
        """Add another workflow as one node: it becomes a run of its own with these inputs, and its
        result is the node's."""
        draft = self._draft(other.name, "flow", self._lot)
        draft.graph = other.graph()
        draft.payload = self._template(draft, ((), inputs))
        return Node(self, draft)

    def input(self, name: str) -> Any:
        """Stands for an input: what `enqueue(name=…)` or `include(…, name=…)` gives."""
        return Reference(("result", INPUT, name))

    def chain(self, first: BoundTask[Any], *then: Enqueuer[..., Any]) -> Node[Any]:
        """Add tasks that run one after the other, each with the result of the one before; returns
        the last."""
        node: Node[Any] = self._add_call(first)
        for task in then:
            node = self._add_call(task.bind(node.result))
        return node

    def group(self, calls: Iterable[BoundTask[T]]) -> list[Node[T]]:
        """Add tasks that run side by side."""
        return [self._add_call(call) for call in calls]

    def batch(
        self,
        calls: Iterable[BoundTask[Any]],
        *,
        on_success: BoundTask[Any] | None = None,
        on_complete: BoundTask[Any] | None = None,
        on_first_failure: BoundTask[Any] | None = None,
    ) -> list[Node[Any]]:
        """Add tasks that run side by side, and what to run when all have succeeded, when all have
        ended, and once at the first failure. A batch of none has succeeded."""
        members = self.group(calls)
        for call, mode in ((on_success, "success"), (on_complete, "end")):
            if call is not None:
                self._add_call(call).after(*members, mode=mode)  # type: ignore[arg-type]
        if on_first_failure is not None and members:
            alarm = self._add_call(on_first_failure).after(*members, mode="failure")
            # Under a condition too: members that were skipped do not fail.
            alarm._draft.first, alarm._draft.when = True, None
            alarm._draft.implied = {}
        return members

    # -- conditions

    @contextmanager
    def when(self, condition_: Any) -> Iterator[None]:
        """Nodes added inside run only if the condition holds; else they are skipped."""
        if not isinstance(condition_, Operand):
            raise InvalidWorkflow(
                f"when({condition_!r}): compare results of nodes, e.g. score.result['risk'] > 70"
            )
        condition.check(condition_.expression)
        with self._under(condition_.expression):
            yield

    @contextmanager
    def otherwise(self) -> Iterator[None]:
        """Nodes added inside run only if the condition of the `when` before it does not hold."""
        if self._last is None:
            raise InvalidWorkflow("otherwise() follows a `with flow.when(…)` of the same depth")
        with self._under(("not", self._last)):
            yield

    @contextmanager
    def _under(self, expression: Expression) -> Iterator[None]:
        self._conditions.append(expression)
        self._last = None
        try:
            yield
        finally:
            self._conditions.pop()
            self._last = expression

    # -- running it

    def returns(self, node: Node[Any]) -> None:
        """Make a node's result the result of the run; without it, it is the last node's (of
        several last nodes, a dictionary by name)."""
        self.must_own(node)
        self._result = node._draft.number

    def graph(self) -> Graph:
        """Return the finished graph. Raises `InvalidWorkflow`."""
        lots: dict[bytes, int] = {}
        stored: list[Lot] = []
        used = self._used()
        nodes = []
        for draft in self._drafts:
            lot = draft.lot
            if draft.number in used:
                lot = msgspec.structs.replace(lot, result_ttl=max(lot.result_ttl, graphs.KEPT))
            key = msgspec.msgpack.encode(lot)
            if key not in lots:
                lots[key] = len(stored)
                stored.append(lot)
            nodes.append(draft.finished(lots[key]))
        whole = graphs.arranged(Graph(self.name, tuple(nodes), tuple(stored), self._result))
        graphs.check(whole)
        return whole

    async def enqueue(self, **inputs: Any) -> WorkflowHandle[Any]:
        """Store a run and start its first nodes; `inputs` are what `flow.input(name)` stands for.

        Raises `InvalidWorkflow`, and what `task.enqueue` raises.
        """
        return await begin(self._home, self.graph(), inputs)

    def enqueue_sync(self, **inputs: Any) -> WorkflowHandle[Any]:
        """Do what `enqueue` does, from synchronous code."""
        handle: WorkflowHandle[Any] = self._home.run_sync(self.enqueue(**inputs))
        return handle

    # -- how

    def must_own(self, node: Node[Any]) -> None:
        """Raise `InvalidWorkflow` for a node of another workflow."""
        if node._flow is not self:
            raise InvalidWorkflow(
                f"{node!r} cannot be used in workflow {self.name!r}: include the other one"
            )

    def rename(self, draft: Draft, name: str) -> None:
        """Give a node another name."""
        if self._names.get(name, draft.number) != draft.number:
            raise InvalidWorkflow(f"workflow {self.name!r} has a node named {name!r} already")
        del self._names[draft.name]
        self._names[name] = draft.number
        draft.name = name

    def _used(self) -> set[int]:
        used: set[int] = set() if self._result is None else {self._result}
        parents: set[int] = set()
        for draft in self._drafts:
            used |= draft.implied.keys()
            parents |= draft.implied.keys() | draft.edges.keys()
        return used | {draft.number for draft in self._drafts if draft.number not in parents}

    def _draft(self, name: str, kind: str, lot: Lot) -> Draft:
        unique = name
        while unique in self._names:
            # Ten thousand nodes may run one task: counting from 1 each time would take minutes.
            self._counts[name] = self._counts.get(name, 1) + 1
            unique = f"{name}-{self._counts[name]}"
        draft = Draft(len(self._drafts), unique, kind, lot)
        self._names[unique] = draft.number
        self._drafts.append(draft)
        for expression in self._conditions:
            draft.when = expression if draft.when is None else ("and", draft.when, expression)
            for parent in condition.nodes_of(expression) - {INPUT}:
                draft.implied.setdefault(parent, "success")
            draft.implied |= dict.fromkeys(condition.nodes_of(expression, "state"), "end")
        return draft

    def _add_call(self, call: BoundTask[T], kind: str = "task", *, checks: bool = True) -> Node[T]:
        definition = call.definition
        if call.options.key is not None or call.options.due_at is not None:
            raise InvalidWorkflow(f"{definition.name}: a node has neither key= nor at=")
        draft = self._draft(_last_part(definition.name), kind, self._lot)
        draft.task, draft.returns = definition.name, definition.signature.returns
        draft.payload = self._template(draft, (call.args, call.kwargs))
        draft.lot = lot_of_call(call, known=not template.references(draft.payload))
        if checks:
            self._check_types(draft, call)
        return Node(self, draft)

    def _template(self, draft: Draft, value: Any, limit: int = MAX_PAYLOAD) -> bytes:
        made = template.make(value, f"arguments of node {draft.name}", limit=limit)
        for parent, _ in template.references(made):
            if parent >= draft.number:
                raise InvalidWorkflow(f"node {draft.name!r} uses a result of another workflow")
            if parent >= 0:
                draft.implied.setdefault(parent, "success")
        return made

    def _check_types(self, draft: Draft, call: BoundTask[Any]) -> None:
        signature = call.definition.signature
        for name, value in signature.text.bind(*call.args, **call.kwargs).arguments.items():
            given, wanted = self._type_of(value), signature.hints.get(name, Any)
            if fit.mismatch(given, wanted):
                raise InvalidWorkflow(
                    f"node {draft.name!r} takes {name}: {fit.name(wanted)}, but the result it "
                    f"gets is {fit.name(given)}"
                )

    def _check_items(self, draft: Draft, call: BoundTask[Any], items: Any) -> None:
        given = self._type_of(items)
        if not fit.is_list(given):
            raise InvalidWorkflow(
                f"node {draft.name!r} maps over a result that is {fit.name(given)}, not a list"
            )
        name = next(iter(call.definition.signature.text.parameters))
        wanted = call.definition.signature.hints.get(name, Any)
        if fit.mismatch(fit.item_of(given), wanted):
            raise InvalidWorkflow(
                f"node {draft.name!r} takes {name}: {fit.name(wanted)}, but the items it gets are "
                f"{fit.name(fit.item_of(given))}"
            )

    def _type_of(self, value: Any) -> Any:
        """Return the annotation of what a whole reference stands for; Any when it is not known."""
        if isinstance(value, Reference) and len(value.expression) == 2:
            number = value.expression[1]
            if 0 <= number < len(self._drafts):
                return self._drafts[number].returns
        return Any


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]


def _as_items(items: Any) -> Any:
    if isinstance(items, range):
        return {"range": [items.start, items.stop, items.step]}
    if isinstance(items, (Operand, int)) and not isinstance(items, bool):
        return items
    if isinstance(items, (str, bytes, dict)) or not isinstance(items, Iterable):
        raise InvalidWorkflow(f"map over {type(items).__name__}: a list, a result or a number")
    return list(items)


def _is_results(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", annotation) is Results
