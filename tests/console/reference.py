"""The reference of the HTTP API, written from the app's own OpenAPI document.

`python -m tests.console.reference > docs/reference/http.md` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from conveyor import Conveyor
from conveyor_console.app import API, create_app
from conveyor_console.settings import Settings
from tests.console.authorisation import rows_of

HEAD = """\
# HTTP API

Written by `python -m tests.console.reference` from the OpenAPI document (3.1) that a running
console answers at `/api/openapi.json`. How to use it:
[Operate over HTTP](../howto/operate-over-http.md), which begins with a list of all resources,
[Enqueue over HTTP](../howto/enqueue-over-http.md),
[Sign in, roles and keys](../howto/roles-and-keys.md),
[Look at what happened](../howto/history.md), [Filters](filters.md).

Paths begin with `/api/v1`, those of probes and metrics left out. A field with \\* must be given.
Durations are seconds, times ISO 8601 in UTC. What goes wrong is a [ProblemOut](#problemout)
(`application/problem+json`).
"""
Schema = dict[str, Any]


def reference(app: FastAPI) -> str:
    """Return the page."""
    document = app.openapi()
    permissions = {
        # The document does not say that a name may hold slashes.
        (row.method, row.path.replace(":path}", "}")): row.permission
        for row in rows_of(app)
    }
    lines = [HEAD]
    for tag, routes in sorted(_by_tag(document).items()):
        lines.append(f"## {tag.replace('-', ' ').capitalize()}\n")
        for method, path, operation in routes:
            lines += _route(method, path, operation, permissions.get((method, path)))
    lines.append("## Types\n")
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += _type(name, schema)
    return "\n".join(lines).rstrip() + "\n"


def _by_tag(document: Schema) -> dict[str, list[tuple[str, str, Schema]]]:
    found: dict[str, list[tuple[str, str, Schema]]] = {}
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            found.setdefault(tag, []).append((method.upper(), path, operation))
    return found


def _route(method: str, path: str, operation: Schema, permission: str | None) -> Iterator[str]:
    yield f"### `{method} {path.removeprefix(API)}`\n"
    yield f"{_text(operation.get('description', ''))}\n"
    yield f"- Permission: {f'`{permission}`' if permission else 'none'}"
    for parameter in operation.get("parameters", ()):
        said = _text(parameter.get("description", ""))
        said = f": {said}" if said else ""
        star = "\\*" if parameter.get("required") else ""
        kind = f"{parameter['in']}, {_kind(parameter['schema'])}"
        yield f"- `{parameter['name']}`{star} ({kind}){said}"
    body = operation.get("requestBody")
    if body is not None:
        (content,) = body["content"].values()
        star = "\\*" if body.get("required") else ""
        yield f"- Body{star}: {_kind(content['schema'])}"
    yield f"- Answers: {'; '.join(_answers(operation['responses']))}\n"


def _answers(responses: Schema) -> Iterator[str]:
    problems = []
    for status, answer in sorted(responses.items()):
        content = answer.get("content", {})
        if "application/problem+json" in content:
            problems.append(f"`{status}` {answer['description'].lower()}")
            continue
        kinds = [_kind(one.get("schema", {})) for one in content.values()]
        yield f"`{status}` {', '.join(kinds) or 'nothing'}"
    if problems:
        yield ", ".join(problems)


def _type(name: str, schema: Schema) -> Iterator[str]:
    yield f"### {name}\n"
    if said := _text(schema.get("description", "")):
        yield f"{said}\n"
    if "enum" in schema:
        yield f"{_kind({**schema, 'title': None})}\n"
    properties = schema.get("properties")
    if not properties:
        return
    yield "| field | is | |"
    yield "|---|---|---|"
    must = set(schema.get("required", ()))
    for field, kind in properties.items():
        star = "\\*" if field in must else ""
        yield f"| `{field}`{star} | {_cell(_kind(kind))} | {_cell(_more(kind))} |"
    yield ""


def _kind(schema: Schema) -> str:
    """Say what type it is, in words."""
    several = schema.get("anyOf") or schema.get("oneOf")
    if several:
        return " or ".join(_kind(one) for one in several)
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    return _plain_kind(schema)


def _plain_kind(schema: Schema) -> str:
    kind = schema.get("type", "anything")
    inner = schema.get("items") or schema.get("additionalProperties")
    of = f" of {_kind(inner)}" if isinstance(inner, dict) else ""
    said = {"array": f"list{of}", "object": f"object{of}"}
    return said.get(kind) or str(schema.get("format", kind))


_BOUNDS = {
    "minimum": "≥ {:g}",
    "exclusiveMinimum": "> {:g}",
    "maximum": "≤ {:g}",
    "exclusiveMaximum": "< {:g}",
    "minLength": "{} or more characters",
    "maxLength": "at most {} characters",
    "minItems": "{} or more",
    "maxItems": "at most {}",
}


def _more(schema: Schema) -> str:
    parts = [_text(schema.get("description", "")).rstrip(".")]
    for one in (schema, *schema.get("anyOf", ())):
        parts += [said.format(one[name]) for name, said in _BOUNDS.items() if name in one]
    if schema.get("default") not in (None, "", [], {}):
        parts.append(f"default `{schema['default']}`")
    return "; ".join(part for part in parts if part)


def _text(description: str) -> str:
    return " ".join(description.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(reference(create_app(Conveyor("sqlite:///:memory:"), Settings())), end="")
