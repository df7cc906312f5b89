"""The authorisation matrix: who may call which route, read from the app itself.

`python -m tests.console.authorisation > tests/console/authorisation.txt` writes it anew; the diff
is what a reviewer looks at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from conveyor import Conveyor
from conveyor_console.app import create_app
from conveyor_console.auth.access import Needs
from conveyor_console.auth.models import Role
from conveyor_console.auth.permissions import SCOPES, Permission, allowed
from conveyor_console.settings import Settings


class Row(NamedTuple):
    """One route and what it asks for; None: nothing."""

    method: str
    path: str
    permission: Permission | None

    def admits(self, role: Role, scopes: tuple[str, ...] | None = None) -> bool:
        """Whether somebody of this role, or a key of theirs with these scopes, gets in."""
        return self.permission is None or self.permission in allowed(role, scopes)


def rows_of(app: FastAPI) -> list[Row]:
    """Return a row for each method of each route, by path."""
    found = []
    for context in iter_route_contexts(app.routes):
        route: Any = context._effective_route
        if not isinstance(context.original_route, APIRoute):
            raise TypeError(f"{context.path}: only API routes are known here")
        needed = {need.permission for need in _needs(route.dependant)}
        if len(needed) > 1:
            raise TypeError(f"{context.path} names several permissions: {sorted(needed)}")
        permission = next(iter(needed), None)
        found += [Row(method, str(context.path), permission) for method in route.methods]
    return sorted(found, key=lambda row: (row.path, row.method))


def _needs(dependant: Dependant) -> Iterator[Needs]:
    for inner in dependant.dependencies:
        if isinstance(inner.call, Needs):
            yield inner.call
        yield from _needs(inner)


def table(rows: list[Row]) -> str:
    """Write the matrix for people: ● may, · may not. A key has its scopes only, so a route takes
    keys when its permission is a scope."""
    lines = [f"{'route':72} {'permission':18} anonymous viewer operator admin key"]
    for row in rows:
        marks = [row.permission is None, *(row.admits(role) for role in Role)]
        marks.append(row.permission is None or row.permission in SCOPES)
        route = f"{row.method} {row.path}"
        cells = "".join(f" {'●' if may else '·':^8}" for may in marks)
        lines.append(f"{route:72} {row.permission or '-':18}{cells}".rstrip())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(rows_of(create_app(Conveyor("sqlite:///:memory:"), Settings()))), end="")
