"""`--reload`: notices that a Python file below the current directory has changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

EVERY = 0.5
_NOT_OURS = {"node_modules", "site-packages", "__pycache__"}

Seen = dict[str, int]
"""Modification time in nanoseconds, by path."""


def look(root: Path) -> Seen:
    """Return the Python files below `root`, without environments and hidden folders."""
    seen: Seen = {}
    for folder, folders, files in os.walk(root):
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        folders[:] = [name for name in folders if name[0] != "." and name not in _NOT_OURS]
        for name in files:
            if name.endswith(".py"):
                path = Path(folder, name)
                try:
                    seen[str(path)] = path.stat().st_mtime_ns
                except OSError:
                    continue  # gone since it was listed: the next look sees that
    return seen


def compare(before: Seen, after: Seen) -> list[str]:
    """Return the files that changed, came or went between two looks."""
    return sorted({path for path, _ in before.items() ^ after.items()})


async def changes(root: Path, every: float = EVERY) -> AsyncIterator[list[str]]:
    """Yield the files that changed, came or went, each time that some did. `every` is seconds."""
    before = await asyncio.to_thread(look, root)
    while True:
        await asyncio.sleep(every)
        after = await asyncio.to_thread(look, root)
        if files := compare(before, after):
            yield files
        before = after
