"""The text form of conditions: a small part of Python's expressions, parsed and never run.

    score.result["risk"] > 70 and not review.state == "skipped"
    len(user.result.contacts) >= 1 or user.result["plan"] in ["pro", "team"]

Names are nodes of the workflow, `input` its inputs. What else Python can say is refused with the
place where it was said.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import NoReturn

from conveyor.core.condition import INPUT, Expression, check
from conveyor.core.errors import InvalidWorkflow

MAX_TEXT = 2_000
"""Characters of one condition."""

_COMPARE: dict[type[ast.AST], str] = {
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.In: "in",
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.And: "and",
    ast.Or: "or",
}
_CONSTANTS = (str, int, float, bool, type(None))


def parse(text: str, nodes: Mapping[str, int]) -> Expression:
    """Return the expression of a text; `nodes` gives the numbers of node names.

    Raises `InvalidWorkflow` with the column of what is not understood.
    """
    if len(text) > MAX_TEXT:
        raise InvalidWorkflow(f"a condition of {len(text):,} characters: at most {MAX_TEXT:,}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as exc:
        column = getattr(exc, "offset", None) or len(text) + 1
        reason = getattr(exc, "msg", None) or exc
        raise InvalidWorkflow(f"condition {text!r}: {reason} at column {column}") from None
    expression = _Reader(text, nodes).read(tree.body)
    check(expression)
    return expression


class _Reader:
    def __init__(self, text: str, nodes: Mapping[str, int]) -> None:
        self._text = text
        self._nodes = nodes
        self._readers: dict[type[ast.AST], Callable[..., Expression]] = {
            ast.BoolOp: self._bool,
            ast.BinOp: self._binary,
            ast.UnaryOp: self._unary,
            ast.Compare: self._compare,
            ast.Call: self._call,
            ast.Attribute: self._attribute,
            ast.Subscript: self._subscript,
            ast.Constant: self._constant,
            ast.List: self._list,
            ast.Tuple: self._list,
        }

    def read(self, part: ast.expr) -> Expression:
        """Turn one part of the tree into an expression."""
        reader = self._readers.get(type(part))
        if reader is None:
            what = f"the name {part.id!r} alone" if isinstance(part, ast.Name) else ""
            self._refuse(part, what or type(part).__name__)
        return reader(part)

    def _refuse(self, part: ast.expr, what: str) -> NoReturn:
        raise InvalidWorkflow(
            f"condition {self._text!r}: {what} at column {part.col_offset + 1} is not understood; "
            "write comparisons of NODE.result, NODE.state, numbers and texts, with and, or, not, "
            "in, is None, len()"
        )

    def _bool(self, part: ast.BoolOp) -> Expression:
        return (_COMPARE[type(part.op)], *map(self.read, part.values))

    def _binary(self, part: ast.BinOp) -> Expression:
        name = _COMPARE.get(type(part.op))
        if name is None:
            self._refuse(part, f"operator {type(part.op).__name__}")
        return (name, self.read(part.left), self.read(part.right))

    def _unary(self, part: ast.UnaryOp) -> Expression:
        if isinstance(part.op, ast.Not):
            return ("not", self.read(part.operand))
        inner = self.read(part.operand)
        if isinstance(part.op, ast.USub) and inner[0] == "value" and _is_number(inner[1]):
            return ("value", -inner[1])
        return self._refuse(part, f"operator {type(part.op).__name__}")

    def _compare(self, part: ast.Compare) -> Expression:
        operands = [part.left, *part.comparators]
        pairs = [
            self._pair(left, sign, right)
            for left, sign, right in zip(operands, part.ops, operands[1:], strict=False)
        ]
        return pairs[0] if len(pairs) == 1 else ("and", *pairs)

    def _pair(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> Expression:
        if isinstance(sign, (ast.Is, ast.IsNot)):
            if not (isinstance(right, ast.Constant) and right.value is None):
                self._refuse(right, "what follows 'is' (None can)")
            test: Expression = ("is_none", self.read(left))
            return test if isinstance(sign, ast.Is) else ("not", test)
        if isinstance(sign, ast.NotIn):
            return ("not", ("in", self.read(left), self.read(right)))
        return (_COMPARE[type(sign)], self.read(left), self.read(right))

    def _call(self, part: ast.Call) -> Expression:
        is_len = isinstance(part.func, ast.Name) and part.func.id == "len"
        if not is_len or len(part.args) != 1 or part.keywords:
            self._refuse(part, "a call (len(x) is the only one)")
        return ("len", self.read(part.args[0]))

    def _constant(self, part: ast.Constant) -> Expression:
        if not isinstance(part.value, _CONSTANTS):
            self._refuse(part, f"the constant {part.value!r}")
        return ("value", part.value)

    def _list(self, part: ast.List | ast.Tuple) -> Expression:
        items = [self.read(item) for item in part.elts]
        if any(item[0] != "value" for item in items):
            self._refuse(part, "a list of other than numbers and texts")
        return ("value", [item[1] for item in items])

    def _attribute(self, part: ast.Attribute) -> Expression:
        if isinstance(part.value, ast.Name):
            return self._of_node(part, part.value)
        inner = self.read(part.value)
        if inner[0] != "result":
            self._refuse(part, f".{part.attr}")
        return (*inner, part.attr)

    def _of_node(self, part: ast.Attribute, name: ast.Name) -> Expression:
        if name.id == "input":
            return ("result", INPUT, part.attr)
        if name.id not in self._nodes:
            raise InvalidWorkflow(
                f"condition {self._text!r}: no node is named {name.id!r} "
                f"(column {name.col_offset + 1})"
            )
        if part.attr not in {"result", "state"}:
            self._refuse(part, f".{part.attr} of a node (.result and .state are known)")
        return (part.attr, self._nodes[name.id])

    def _subscript(self, part: ast.Subscript) -> Expression:
        if isinstance(part.value, ast.Name) and part.value.id == "input":
            inner: Expression = ("result", INPUT)
        else:
            inner = self.read(part.value)
        key = self.read(part.slice)
        if inner[0] != "result" or key[0] != "value" or not isinstance(key[1], (str, int)):
            self._refuse(part, "an index that is neither a text nor a whole number")
        return (*inner, key[1])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
