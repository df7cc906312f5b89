"""The Lua scripts, each put together from its file and the snippets its first lines name.

What only gated tasks need is named by `-- lanes:` instead of `-- include:`. It becomes the body of
one function, `lanes()`, which returns what its snippets export: a script makes all its closures
anew in every call, and for plain tasks these would be made for nothing.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from conveyor.brokers.base import DEAD_RETENTION_SECONDS, RETENTION_SECONDS
from conveyor.core.gates import SLACK

_FOLDER = Path(__file__).parent / "lua"
_INCLUDE = re.compile(r"^-- include: ([a-z ]+)\n", re.MULTILINE)
_LANES = re.compile(r"^-- lanes: ([a-z ]+)\n", re.MULTILINE)
_EXPORTS = re.compile(r"^-- exports: ([a-z_ ]+)\n", re.MULTILINE)
_COMMENT = re.compile(r"^ *--.*\n", re.MULTILINE)
_CONSTANTS = (
    f"local RETENTION_MS, DEAD_RETENTION_MS = "
    f"{round(RETENTION_SECONDS * 1000)}, {round(DEAD_RETENTION_SECONDS * 1000)}\n"
    f"local SLACK = {SLACK}\n"
)


class Script(NamedTuple):
    """A script as the server gets it."""

    name: str
    source: bytes
    sha: bytes


@cache
def script(name: str) -> Script:
    """Return the script in `lua/<name>.lua`."""
    source = put_together((_FOLDER / f"{name}.lua").read_text(encoding="utf-8"))
    return Script(name, source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())


def put_together(text: str) -> bytes:
    """Return the source of a script with the snippets that it names, without the comments."""
    gated = _snippets(_LANES, text)
    parts = [_CONSTANTS, *_snippets(_INCLUDE, text), text]
    if gated:
        parts.insert(1, "local lanes, lanes_made\n")
        parts.insert(-1, _function(gated))
    return _COMMENT.sub("", "".join(parts)).encode()


def _snippets(header: re.Pattern[str], text: str) -> list[str]:
    found = header.search(text)
    names = found[1].split() if found else []
    return [(_FOLDER / f"_{name}.lua").read_text(encoding="utf-8") for name in names]


def _function(snippets: list[str]) -> str:
    """Return the function `lanes()`: it makes what the snippets export once, when it is needed."""
    body = "".join(snippets)
    names = [name for found in _EXPORTS.finditer(body) for name in found[1].split()]
    table = ", ".join(f"{name} = {name}" for name in names)
    return (
        f"lanes = function()\nif lanes_made then return lanes_made end\n{body}"
        f"lanes_made = {{ {table} }}\nreturn lanes_made\nend\n"
    )
