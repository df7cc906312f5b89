"""JSON, a Markdown table and a chart out of the rows of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

Row = dict[str, Any]
STORES = {"redis": "Redis (Valkey)", "postgres": "PostgreSQL", "sqlite": "SQLite"}
OURS = "conveyor"


def middle(row: Row, key: str) -> float | None:
    """The median over the repetitions."""
    values = [value for value in row["measured"].get(key, []) if value is not None]
    return median(values) if values else None


def spread(row: Row, key: str) -> str:
    """The median with the lowest and highest repetition."""
    values = [value for value in row["measured"].get(key, []) if value is not None]
    if not values:
        return "–"
    text = short(median(values))
    return text if len(values) == 1 else f"{text} ({short(min(values))}–{short(max(values))})"


def short(value: float) -> str:
    """Three significant digits, thousands as k."""
    if value >= 1000:
        return f"{value / 1000:.3g}k"
    return f"{value:.3g}"


def fastest(rows: Iterable[Row], key: str) -> float | None:
    """The best peer's median: what ratios are formed with."""
    values = [middle(row, key) for row in rows if not row["name"].startswith(OURS)]
    return max((value for value in values if value is not None), default=None)


def ratio(row: Row, rows: list[Row], key: str) -> str:
    """How a row stands to the fastest peer on its store."""
    value, best = middle(row, key), fastest(rows, key)
    return f"{value / best:.2f}×" if value is not None and best else "–"


def total_cpu(row: Row) -> str:
    """Worker and server CPU seconds for 10,000 tasks."""
    worker, server = middle(row, "cpu_worker"), middle(row, "cpu_server")
    return "–" if worker is None or server is None else f"{worker:.2f} + {server:.2f}"


def recovery(row: Row) -> str:
    """Seconds from the kill until the last task was done."""
    crash = row.get("crash")
    if not crash:
        return "–"
    seconds, limit = crash["recovery"], crash["recovery_limit"]
    return f">{limit:.0f} s" if seconds is None else f"{seconds:.1f} s"


def lost(row: Row) -> str:
    """Tasks in flight at the kill, not done at the end of the wait, finished but run again."""
    crash = row.get("crash")
    if not crash:
        return "–"
    return f"{crash['interrupted']} / {crash['never_done']} / {crash['done_twice']}"


def milliseconds(row: Row) -> str:
    """p50 / p99."""
    low, high = middle(row, "latency_p50"), middle(row, "latency_p99")
    return "–" if low is None or high is None else f"{low:.2f} / {high:.2f}"


def megabytes(row: Row) -> str:
    """Resident memory of an idle worker."""
    value = middle(row, "rss")
    return "–" if value is None else f"{value / 1e6:.0f}"


Column = tuple[str, Callable[[Row, list[Row]], str]]
COLUMNS: list[Column] = [
    ("queue", lambda row, _: f"{row['name']} {row['about'].get('version', '')}".strip()),
    ("1 worker /s", lambda row, _: spread(row, "rate_1")),
    ("to best peer", lambda row, rows: ratio(row, rows, "rate_1")),
    ("2 workers /s", lambda row, _: spread(row, "rate_2")),
    ("to best peer", lambda row, rows: ratio(row, rows, "rate_2")),
    ("enqueue /s: 1 caller", lambda row, _: spread(row, "enqueue_single")),
    ("100 callers", lambda row, _: spread(row, "enqueue_concurrent")),
    ("bulk", lambda row, _: spread(row, "enqueue_bulk")),
    ("CPU s per 10k: worker + server", lambda row, _: total_cpu(row)),
    ("start p50 / p99 ms", lambda row, _: milliseconds(row)),
    ("idle RSS MB", lambda row, _: megabytes(row)),
    ("after kill -9: all done", lambda row, _: recovery(row)),
    ("in flight / undone / done twice", lambda row, _: lost(row)),
]


def table(rows: list[Row]) -> list[str]:
    """The rows of one store, the fastest first."""
    ordered = sorted(rows, key=lambda row: -(middle(row, "rate_1") or 0))
    lines = ["| " + " | ".join(name for name, _ in COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    cells = ([cell(row, rows) for _, cell in COLUMNS] for row in ordered)
    return [*lines, *("| " + " | ".join(line) + " |" for line in cells)]


def note(row: Row) -> str:
    """One line of promises."""
    about = row["about"]
    kept = "yes" if about.get("results") else "no"
    cells = [row["name"], about.get("guarantee", "–"), kept, about.get("tuning", "–")]
    return "| " + " | ".join(cells) + " |"


def notes(rows: list[Row]) -> list[str]:
    """What each queue promises, how it was set, and what went wrong."""
    head = ["| queue | delivery guarantee | results kept | setting |", "|---|---|---|---|"]
    lines = head + [note(row) for row in rows]
    failures: dict[str, list[str]] = {}
    for row in rows:
        for part, text in row["errors"].items():
            failures.setdefault(f"{row['name']}: {text}", []).append(part)
    told = [f"- {text} ({', '.join(parts)})" for text, parts in failures.items()]
    return [*lines, "", "Failures:", "", *told] if told else lines


def markdown(result: Row) -> str:
    """The whole report."""
    facts = result["run"]
    lines = [
        "# Conveyor and its peers",
        "",
        (
            f"{facts['tasks']:,} no-op tasks, {facts['repetitions']} repetition(s), medians"
            f" (lowest–highest); {facts['cores']} cores, Python {facts['python']}, {facts['date']}."
            " Figures are for comparing the rows of one run with each other, not for quoting alone."
        ),
        "",
    ]
    for store, title in STORES.items():
        rows = [row for row in result["rows"] if row["store"] == store]
        if rows:
            lines += [f"## {title}", "", *table(rows), "", *notes(rows), ""]
    return "\n".join(lines)


def chart(result: Row, path: Path) -> None:
    """Horizontal bars: throughput, CPU and latency for each store."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = {store: charted(result, store) for store in STORES}
    shown = {store: rows for store, rows in shown.items() if rows}
    if not shown:
        return
    heights = [1 + len(rows) for rows in shown.values()]
    figure, axes = plt.subplots(
        len(shown),
        3,
        figsize=(15, 1 + 0.45 * sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for line, (store, rows) in zip(axes, shown.items(), strict=True):
        bars(line[0], rows, ("rate_1", "1 worker"), ("rate_2", "2 workers"))
        line[0].set_title(f"{STORES[store]}: no-op tasks a second")
        bars(line[1], rows, ("cpu_worker", "worker"), ("cpu_server", "server"))
        line[1].set_title("CPU seconds for 10,000 tasks (log)")
        line[1].set(xscale="log", xlim=(0.02, 200))
        bars(line[2], rows, ("latency_p50", "p50"), ("latency_p99", "p99"))
        line[2].set_title("enqueue to start at 100/s, ms (log)")
        line[2].set(xscale="log", xlim=(0.2, 2000))
    figure.savefig(path)
    plt.close(figure)


def charted(result: Row, store: str) -> list[Row]:
    """The rows of a store that have a throughput, the fastest last: bars grow upwards."""
    rows = [row for row in result["rows"] if row["store"] == store]
    found = [(rate, row) for row in rows if (rate := middle(row, "rate_1")) is not None]
    return [row for _, row in sorted(found, key=lambda pair: pair[0])]


def bars(axis: Any, rows: list[Row], *series: tuple[str, str]) -> None:
    """Two thin bars a queue; ours in another colour."""
    for offset, strength, (key, label) in zip((0.2, -0.2), (1.0, 0.45), series, strict=True):
        shades = ["#c8553d" if row["name"].startswith(OURS) else "#1f6f8b" for row in rows]
        places = [place + offset for place in range(len(rows))]
        values = [middle(row, key) or 0 for row in rows]
        axis.barh(places, values, 0.38, label=label, color=shades, alpha=strength)
    axis.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axis.legend(loc="best", frameon=False, fontsize="small")


def write(result: Row, folder: Path) -> list[Path]:
    """Write all three and say where."""
    folder.mkdir(parents=True, exist_ok=True)
    data, text, picture = (folder / f"results.{end}" for end in ("json", "md", "svg"))
    data.write_text(json.dumps(result, indent=1) + "\n")
    text.write_text(markdown(result))
    chart(result, picture)
    return [data, text, picture]
