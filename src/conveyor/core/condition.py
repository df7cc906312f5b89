"""Conditions of workflows: expressions over parents' results, kept as plain data.

An expression is a nested tuple `(operator, operand, …)`, e.g. `("gt", ("result", 3, "risk"),
("value", 70))`. It is stored with the graph, evaluated wherever the run is advanced, and explained
with the operands that decided. `Operand` builds expressions from Python operators; the text form is
parsed by `conveyor.core.condition_text`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from conveyor.core.errors import InvalidWorkflow

Expression = Sequence[Any]
MAX_SIZE, MAX_DEPTH = 200, 20
"""Operators and operands of one condition, and how deeply they may be nested."""

_COMPARISONS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "eq": ("==", operator.eq),
    "ne": ("!=", operator.ne),
    "lt": ("<", operator.lt),
    "le": ("<=", operator.le),
    "gt": (">", operator.gt),
    "ge": (">=", operator.ge),
    "in": ("in", lambda item, box: item in box),
    "add": ("+", operator.add),
    "sub": ("-", operator.sub),
    "mul": ("*", operator.mul),
}
COMPARISONS = {name: sign for name, (sign, _) in _COMPARISONS.items()}
_ARITHMETIC = {"add", "sub", "mul"}
INPUT = -1
"""The node number that stands for the inputs of the run."""
LEAVES = {"result", "state", "value"}
ARITY = {**dict.fromkeys(_COMPARISONS, 2), "not": 1, "len": 1, "is_none": 1}


class ConditionError(Exception):
    """A condition that cannot be evaluated: the message says which part, with its operands."""


class Operand:
    """A value that is known when a run has come so far: compare it, index it, combine it.

    `&`, `|` and `~` are and, or, not (Python does not let `and` be redefined); `.is_in(values)`,
    `.contains(value)`, `.length()` and `.is_none()` stand for what Python spells with words.
    """

    __slots__ = ("expression",)
    __hash__ = object.__hash__

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    def __getitem__(self, key: Any) -> Operand:
        if self.expression[0] != "result" or not isinstance(key, (str, int)):
            raise InvalidWorkflow(f"[{key!r}]: a result can be indexed by text and whole numbers")
        return type(self)((*self.expression, key))

    def __iter__(self) -> Iterator[Any]:
        raise InvalidWorkflow(
            "a result is not known while a workflow is built: use flow.map over it"
        )

    def __bool__(self) -> bool:
        raise InvalidWorkflow(
            "a condition is not known while a workflow is built: use flow.when(…), and &, |, ~ in "
            "place of and, or, not"
        )

    def __eq__(self, other: object) -> Operand:  # type: ignore[override]
        return self._with("eq", other)

    def __ne__(self, other: object) -> Operand:  # type: ignore[override]
        return self._with("ne", other)

    def __lt__(self, other: object) -> Operand:
        return self._with("lt", other)

    def __le__(self, other: object) -> Operand:
        return self._with("le", other)

    def __gt__(self, other: object) -> Operand:
        return self._with("gt", other)

    def __ge__(self, other: object) -> Operand:
        return self._with("ge", other)

    def __add__(self, other: object) -> Operand:
        return self._with("add", other)

    def __sub__(self, other: object) -> Operand:
        return self._with("sub", other)

    def __mul__(self, other: object) -> Operand:
        return self._with("mul", other)

    def __and__(self, other: object) -> Operand:
        return self._with("and", other)

    def __or__(self, other: object) -> Operand:
        return self._with("or", other)

    def __invert__(self) -> Operand:
        return Operand(("not", self.expression))

    def is_in(self, values: Any) -> Operand:
        """Whether it is one of `values`."""
        return self._with("in", list(values) if isinstance(values, (set, frozenset)) else values)

    def contains(self, value: Any) -> Operand:
        """Whether it has `value` in it."""
        return Operand(("in", as_expression(value), self.expression))

    def length(self) -> Operand:
        """How many items it has."""
        return Operand(("len", self.expression))

    def is_none(self) -> Operand:
        """Whether it is None: also what an absent key is."""
        return Operand(("is_none", self.expression))

    def _with(self, name: str, other: object) -> Operand:
        return Operand((name, self.expression, as_expression(other)))


def as_expression(value: Any) -> Expression:
    """Return the expression of an operand or of a plain value."""
    if isinstance(value, Operand):
        return value.expression
    return ("value", value)


def check(expression: Expression) -> None:
    """Raise `InvalidWorkflow` for an expression that is no expression, too large or too deep."""
    size = [0]

    def visit(part: Any, depth: int) -> None:
        size[0] += 1
        if size[0] > MAX_SIZE or depth > MAX_DEPTH:
            raise InvalidWorkflow(
                f"a condition has at most {MAX_SIZE} parts, nested {MAX_DEPTH} deep: "
                "let a task decide and test its result"
            )
        name = part[0] if isinstance(part, (list, tuple)) and part else None
        if name in LEAVES and len(part) >= 2:
            return
        if name not in ARITY and name not in {"and", "or"}:
            raise InvalidWorkflow(f"{name!r} is no operator of conditions")
        if name in ARITY and len(part) != ARITY[name] + 1:
            raise InvalidWorkflow(f"{name!r} takes {ARITY[name]} operand(s), not {len(part) - 1}")
        for operand in part[1:]:
            visit(operand, depth + 1)

    visit(expression, 1)


def nodes_of(expression: Expression, leaf: str = "result") -> set[int]:
    """Return the numbers of the nodes whose results (or, with "state", states) it looks at."""
    if expression[0] in LEAVES:
        return {expression[1]} if expression[0] == leaf and leaf != "value" else set()
    return set().union(*(nodes_of(part, leaf) for part in expression[1:]))


def paths_of(expression: Expression, node: int) -> list[tuple[Any, ...]]:
    """Return the paths into the result of a node that it looks at."""
    if expression[0] in LEAVES:
        is_it = expression[0] == "result" and expression[1] == node
        return [tuple(expression[2:])] if is_it else []
    return [path for part in expression[1:] for path in paths_of(part, node)]


def moved(expression: Expression, by: Callable[[int], int]) -> Expression:
    """Return the expression with its node numbers replaced."""
    if expression[0] == "value":
        return expression
    if expression[0] in LEAVES:
        return (expression[0], by(expression[1]), *expression[2:])
    return (expression[0], *(moved(part, by) for part in expression[1:]))


def pick(value: Any, path: Sequence[Any]) -> Any:
    """Follow keys and indexes into a value; None where there is nothing."""
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


class Facts:
    """What is known of a run: `result(node)` is a plain value (None when it has none), and
    `state(node)` a word.
    """

    def __init__(self, result: Callable[[int], Any], state: Callable[[int], str]) -> None:
        self.result = result
        self.state = state


def holds(expression: Expression, facts: Facts) -> bool:
    """Say whether a condition holds. Raises `ConditionError` when it cannot be told."""
    return bool(_value(expression, facts))


def _leaf(part: Expression, facts: Facts) -> Any:
    if part[0] == "result":
        return pick(facts.result(part[1]), part[2:])
    return facts.state(part[1]) if part[0] == "state" else part[1]


def _value(part: Expression, facts: Facts) -> Any:
    match part[0]:
        case "value" | "result" | "state":
            return _leaf(part, facts)
        case "and":
            return all(_value(operand, facts) for operand in part[1:])
        case "or":
            return any(_value(operand, facts) for operand in part[1:])
        case "not":
            return not _value(part[1], facts)
        case "is_none":
            return _value(part[1], facts) is None
        case _:
            return _computed(part[0], [_value(operand, facts) for operand in part[1:]])


def _computed(name: str, operands: list[Any]) -> Any:
    if name == "mul" and not all(isinstance(operand, (int, float)) for operand in operands):
        # "a" * 10**9 would be a way to eat the memory of every worker.
        raise ConditionError(f"{operands[0]!r} * {operands[1]!r} is not of two numbers")
    try:
        return len(operands[0]) if name == "len" else _COMPARISONS[name][1](*operands)
    except (TypeError, OverflowError) as exc:
        sign = COMPARISONS.get(name, name)
        shown = (
            f" {sign} ".join(map(_short, operands)) if len(operands) > 1 else _short(operands[0])
        )
        raise ConditionError(f"{shown}: {exc}") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def text(expression: Expression, name: Callable[[int], str]) -> str:
    """Write an expression in the language of `conveyor.core.condition_text`."""
    return _text(expression, name, lambda _: "")


def explain(expression: Expression, name: Callable[[int], str], facts: Facts) -> str:
    """Write an expression with the value of each result or state in it, and what came of it."""

    def seen(part: Expression) -> str:
        return f" (= {_short(_value(part, facts))})"

    try:
        verdict = "holds" if holds(expression, facts) else "does not hold"
    except ConditionError as exc:
        verdict = f"cannot be told: {exc}"
    return f"{_text(expression, name, seen)} {verdict}"


def _text(part: Expression, name: Callable[[int], str], note: Callable[[Expression], str]) -> str:
    kind = part[0]
    if kind == "value":
        return repr(part[1])
    if kind in LEAVES:
        owner = "input" if part[1] == INPUT else f"{name(part[1])}.{kind}"
        return f"{owner}{''.join(f'[{key!r}]' for key in part[2:])}{note(part)}"
    operands = [_text(operand, name, note) for operand in part[1:]]
    wrapped = [
        text if operand[0] in {*LEAVES, "len"} else f"({text})"
        for operand, text in zip(part[1:], operands, strict=True)
    ]
    if kind == "not":
        return f"not {wrapped[0]}"
    if kind == "is_none":
        return f"{wrapped[0]} is None"
    if kind == "len":
        return f"len({operands[0]})"
    return f" {COMPARISONS.get(kind, kind)} ".join(wrapped)
