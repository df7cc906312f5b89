"""What the demo shows: live progress and a summary."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from conveyor import Conveyor
from conveyor.inspect import Filter, Inspector, State, TaskInfo
from examples.stdlib_index.facts import Facts

_OVER = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
_SHOWN = 5


async def watch(console: Console, app: Conveyor, expected: int) -> None:
    """Draw a bar until that many tasks are over."""
    inspector = await app.inspector()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("indexing", total=expected)
        while True:
            counts = await inspector.counts()
            over = sum(counts.get(state, 0) for state in _OVER)
            progress.update(bar, completed=over, description=_line(counts))
            if over >= expected:
                return
            await asyncio.sleep(0.1)


def _line(counts: dict[State, int]) -> str:
    running, dead = counts.get(State.RUNNING, 0), counts.get(State.FAILED, 0)
    waiting = counts.get(State.SCHEDULED, 0)
    return f"indexing  ◐ {running:<3} ↻ {waiting:<3} ✕ {dead:<3}"


async def summary(console: Console, app: Conveyor, total: Facts, seconds: float) -> None:
    """Print totals, throughput, failures and the slowest tasks."""
    inspector = await app.inspector()
    done = await _all(inspector, State.SUCCEEDED)
    dead = await _all(inspector, State.FAILED)
    retried = sum(1 for info in done if info.attempts > 0)
    console.print()
    console.print(
        f"[bold]{total.files:,}[/bold] files · {total.lines:,} lines · {total.functions:,} "
        f"functions · {total.classes:,} classes · {total.imports:,} imports"
    )
    console.print(
        f"{(len(done) + len(dead)) / seconds:,.0f} tasks/s over {seconds:.1f} s · {retried} "
        f"succeeded after a retry · {len(dead)} dead letters"
    )
    _failures(console, dead)
    _slowest(console, done)


def _failures(console: Console, dead: list[TaskInfo]) -> None:
    table = Table("dead letter", "attempts", "error", box=box.SIMPLE_HEAD, pad_edge=False)
    for info in sorted(dead, key=lambda i: str(i.args))[: 2 * _SHOWN]:
        error = f"{info.error.type}: {info.error.message}" if info.error else ""
        table.add_row(_name(info), str(info.attempts), error[:70])
    if dead:
        console.print(table)
    if len(dead) > 2 * _SHOWN:
        console.print(f"… and {len(dead) - 2 * _SHOWN} more")


def _slowest(console: Console, done: list[TaskInfo]) -> None:
    table = Table("slowest", "seconds", box=box.SIMPLE_HEAD, pad_edge=False)
    ranked = sorted(done, key=_duration, reverse=True)
    for info in [i for i in ranked if i.name.endswith("index_file")][:_SHOWN]:
        table.add_row(_name(info), f"{_duration(info):.2f}")
    console.print(table)


def _name(info: TaskInfo) -> str:
    return "/".join(Path(str(info.args[0])).parts[-2:])


def _duration(info: TaskInfo) -> float:
    return (info.finished_at or 0.0) - (info.started_at or info.finished_at or 0.0)


async def _all(inspector: Inspector, state: State) -> list[TaskInfo]:
    found: list[TaskInfo] = []
    before: str | None = None
    while page := await inspector.tasks(Filter(states=(state,), before=before, limit=1_000)):
        found += page
        before = page[-1].id
    return found
