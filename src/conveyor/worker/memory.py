"""How much memory a process and its descendants hold, and giving back what start-up took."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_PROC = Path("/proc")


def family_rss(pid: int) -> int:
    """Return the resident memory of a process and all its descendants, in bytes; 0 where the
    system has no /proc, or when the process is gone.
    """
    if not _PROC.is_dir():
        return 0
    total, todo = 0, [pid]
    while todo:
        current = todo.pop()
        total += _rss(current)
        todo += _children(current)
    return total


def give_back() -> None:
    """Return freed memory to the system, where the C library can.

    Importing modules that have no cached bytecode (usual in containers) leaves some 15 MiB of
    free heap behind, which an idle process would keep for ever.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _rss(pid: int) -> int:
    try:
        pages = int((_PROC / str(pid) / "statm").read_bytes().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in (_PROC / str(pid) / "task").iterdir():
            found += map(int, (thread / "children").read_bytes().split())
    except OSError:
        # It has just ended, or this kernel does not list children: then it counts alone.
        return found
    return found
