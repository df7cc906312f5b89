"""The API described as OpenAPI 3.1: what routes say, and what every request may meet before it
reaches one."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, compile_path

from conveyor_console.kit.problems import ProblemOut, problems

OPEN: dict[str, Any] = {"security": []}
"""`openapi_extra` of a route for everybody."""
_ANYWHERE = problems(400, 408, 413, 421)
"""A body or a host that makes no sense, a body that comes too slowly or is too large, a host of
somebody else."""
_BUSY = problems(503)
_SECURITY: dict[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token of a sign-in, or an API key (`cv_…`).",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "conveyor_access",
        "description": "Of a sign-in in a browser; changes need the header X-CSRF-Token too.",
    },
}


def described(routes: Sequence[BaseRoute], *, never_busy: Collection[str]) -> dict[str, Any]:
    """Describe routes. Paths in `never_busy` are let in however many requests there are."""
    schema = get_openapi(
        title="Conveyor",
        version="1",
        description="Tasks, queues, workers and everything around them.",
        routes=routes,
    )
    for path, operations in schema["paths"].items():
        everywhere = _ANYWHERE if path in never_busy else _ANYWHERE | _BUSY
        for operation in operations.values():
            said = operation["responses"]
            more = {str(status): answer for status, answer in everywhere.items()}
            operation["responses"] = dict(sorted((more | said).items()))
    parts = schema.setdefault("components", {})
    model = ProblemOut.model_json_schema(ref_template="#/components/schemas/{model}")
    parts.setdefault("schemas", {})["ProblemOut"] = model
    parts["securitySchemes"] = _SECURITY
    schema["security"] = [{name: []} for name in _SECURITY]
    return schema


def methods_by_path(routes: Sequence[BaseRoute]) -> dict[str, frozenset[str]]:
    """Return the methods of each path, which routes know one by one only."""
    found: dict[str, frozenset[str]] = {}
    for route in iter_route_contexts(routes):
        if route.path_format is not None:
            known = found.get(route.path_format, frozenset())
            found[route.path_format] = known | (route.methods or set())
    return found


def methods_at(methods: Mapping[str, frozenset[str]], path: str) -> frozenset[str]:
    """Return the methods that there are at the path of a request, of those that templates have; a
    path that is written down as it is goes before one with parameters."""
    found = [path] if path in methods else [one for one in methods if _fits(one, path)]
    return frozenset[str]().union(*(methods[one] for one in found))


def _fits(template: str, path: str) -> bool:
    return _pattern(template).match(path) is not None


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return compile_path(template)[0]
