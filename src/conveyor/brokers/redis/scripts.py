"""The Lua scripts, each put together from its file and the snippets its first line names."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from conveyor.brokers.base import DEAD_RETENTION_SECONDS, RETENTION_SECONDS

_FOLDER = Path(__file__).parent / "lua"
_INCLUDE = re.compile(r"-- include: ([a-z ]+)\n")
_COMMENT = re.compile(r"^ *--.*\n", re.MULTILINE)
_CONSTANTS = (
    f"local RETENTION_MS, DEAD_RETENTION_MS = "
    f"{round(RETENTION_SECONDS * 1000)}, {round(DEAD_RETENTION_SECONDS * 1000)}\n"
)


class Script(NamedTuple):
    """A script as the server gets it."""

    name: str
    source: bytes
    sha: bytes


@cache
def script(name: str) -> Script:
    """Return the script in `lua/<name>.lua`."""
    text = (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    header = _INCLUDE.match(text)
    snippets = header[1].split() if header else []
    parts = [(_FOLDER / f"_{snippet}.lua").read_text(encoding="utf-8") for snippet in snippets]
    source = _COMMENT.sub("", _CONSTANTS + "".join([*parts, text])).encode()
    return Script(name, source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())
