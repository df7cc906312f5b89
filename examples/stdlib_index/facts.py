"""What is counted in a source file. Pure: no queue in here."""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Facts:
    """Counts of one file, or summed over many."""

    files: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    imports: int = 0

    def __add__(self, other: Facts) -> Facts:
        return Facts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def read(path: Path, *, strict: bool) -> str:
    """Read a source file as Python does (PEP 263); not strict: as Latin-1, which never fails."""
    if not strict:
        return path.read_text(encoding="latin-1")
    with tokenize.open(path) as source:
        return source.read()


def count(source: str, name: str) -> Facts:
    """Parse and count. Raises `SyntaxError` or `ValueError` for what is not Python."""
    nodes = list(ast.walk(ast.parse(source, filename=name)))
    return Facts(
        files=1,
        lines=source.count("\n") + (not source.endswith("\n") and bool(source)),
        functions=sum(isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in nodes),
        classes=sum(isinstance(n, ast.ClassDef) for n in nodes),
        imports=sum(isinstance(n, (ast.Import, ast.ImportFrom)) for n in nodes),
    )


def count_directly(paths: Iterable[Path], attempts: int) -> tuple[Facts, int]:
    """Do the whole job in this process, without a queue: the truth the queue is checked against.
    Returns the totals and how many files failed for good."""
    total, failed = Facts(), 0
    for path in paths:
        facts = _attempt(path, attempts)
        if facts is None:
            failed += 1
        else:
            total += facts
    return total, failed


def _attempt(path: Path, attempts: int) -> Facts | None:
    for attempt in range(1, attempts + 1):
        try:
            return count(read(path, strict=attempt == 1), str(path))
        except (SyntaxError, ValueError):
            continue
    return None
