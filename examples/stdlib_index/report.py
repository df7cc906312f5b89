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
        bar = progress.add_task("", total=expected)
        while True:
            counts = await inspector.counts()
            over = sum(counts.get(state, 0) for state in _OVER)
            progress.update(bar, completed=over, description=_line(counts))
            if over >= expected:
                return
            await asyncio.sleep(0.1)


def _line(counts: dict[State, int]) -> str:
    leased, dead = counts.get(State.RUNNING, 0), counts.get(State.FAILED, 0)
    return f"{leased:>3} leased {counts.get(State.SCHEDULED, 0):>2} to retry {dead:>2} dead"


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
    _slowest(console, [await inspector.get(info.id) for info in _candidates(done)])


def _failures(console: Console, dead: list[TaskInfo]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("dead letter", no_wrap=True, min_width=20)
    table.add_column("attempts", justify="right", min_width=8)
    table.add_column("error", no_wrap=True)
    for info in sorted(dead, key=lambda i: str(i.args))[: 2 * _SHOWN]:
        error = f"{info.error.type}: {info.error.message}" if info.error else ""
        table.add_row(_name(info), str(info.attempts), error.partition("\n")[0])
    if dead:
        console.print(table)
    if len(dead) > 2 * _SHOWN:
        console.print(f"… and {len(dead) - 2 * _SHOWN} more")


def _candidates(done: list[TaskInfo]) -> list[TaskInfo]:
    """Those that may have been the slowest: what is stored in one batch is finished together, so
    only the record of the execution says how long it took."""
    indexed = [info for info in done if info.name.endswith("index_file")]
    return sorted(indexed, key=_at_most, reverse=True)[: 20 * _SHOWN]


def _slowest(console: Console, candidates: list[TaskInfo]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("slowest", no_wrap=True)
    table.add_column("seconds", justify="right")
    for info in sorted(candidates, key=_duration, reverse=True)[:_SHOWN]:
        table.add_row(_name(info), f"{_duration(info):.2f}")
    console.print(table)


def _name(info: TaskInfo) -> str:
    return "/".join(Path(str(info.args[0])).parts[-2:])


def _duration(info: TaskInfo) -> float:
    return info.executions[-1].duration


def _at_most(info: TaskInfo) -> float:
    return (info.finished_at or 0.0) - (info.started_at or info.finished_at or 0.0)


async def _all(inspector: Inspector, state: State) -> list[TaskInfo]:
    found: list[TaskInfo] = []
    before: str | None = None
    while page := await inspector.tasks(Filter(states=(state,), before=before, limit=1_000)):
        found += page
        before = page[-1].id
    return found
