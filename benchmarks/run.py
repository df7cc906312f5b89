"""Measure everything: `python benchmarks/run.py [--quick] [--only names] [--stores names]`."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run as a file: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.peers import PEERS, Peer
from benchmarks.phases import (
    QUICK,
    Bench,
    Plan,
    measure_crash,
    measure_drain,
    measure_enqueue,
    measure_latency,
)
from benchmarks.processes import ROOT
from benchmarks.report import write
from benchmarks.servers import MAKERS, Store, Stores

Row = dict[str, Any]
PARTS = ("enqueue", "drain", "latency", "crash")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure Conveyor beside its peers.")
    parser.add_argument(
        "--only", default="", help="names of peers, comma separated; a part of a name is enough"
    )
    parser.add_argument("--stores", default=",".join(MAKERS), help="redis, postgres, sqlite")
    parser.add_argument("--parts", default=",".join(PARTS), help=", ".join(PARTS))
    parser.add_argument("--n", type=int, help="no-op tasks (default 20000, quick 2000)")
    parser.add_argument("--repetitions", type=int, help="default 3, quick 1")
    parser.add_argument("--quick", action="store_true", help="a look in less than 4 minutes")
    parser.add_argument(
        "--crash-seconds", type=float, help="how long to wait for a recovery (60, quick 6)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    found = parser.parse_args()
    for name, known in ((found.stores, MAKERS), (found.parts, PARTS)):
        if unknown := set(name.split(",")) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
    return found


def plan_of(found: argparse.Namespace) -> Plan:
    """The amounts that the command line asks for."""
    plan = QUICK if found.quick else Plan()
    asked = {
        "tasks": found.n,
        "repetitions": found.repetitions,
        "crash_seconds": found.crash_seconds,
    }
    plan = replace(plan, **{key: value for key, value in asked.items() if value is not None})
    return replace(plan, largest=max(plan.largest, plan.tasks))


def chosen(found: argparse.Namespace) -> list[Peer]:
    """The peers that the command line asks for."""
    parts = [part for part in found.only.split(",") if part]
    stores = found.stores.split(",")
    return [
        peer
        for peer in PEERS
        if peer.store in stores and (not parts or any(part in peer.name for part in parts))
    ]


def interpreter(peer: Peer) -> str:
    """The Python of a peer: BENCH_PYTHON_<NAME> says when it lives elsewhere.

    Conveyor runs from the project's own: it needs a redis-py that SAQ and Repid do not allow.
    """
    family = peer.module.rpartition(".")[2]
    if named := os.environ.get(f"BENCH_PYTHON_{family.upper()}"):
        return named
    own = ROOT / ".venv" / "bin" / "python"
    return str(own) if family == "conveyor" and own.exists() else sys.executable


def attempt(row: Row, part: str, measure: Callable[[], Row]) -> Row:
    """Measure; a failure becomes part of the row."""
    try:
        return measure()
    except Exception as error:  # noqa: BLE001 - one peer's trouble must not end the run of the others
        row["errors"].setdefault(part, f"{type(error).__name__}: {error}"[:600].replace("\n", " "))
        return {}


def add(row: Row, found: Row) -> None:
    """Append the figures of one repetition."""
    for key, value in found.items():
        row["measured"].setdefault(key, []).append(value)


def repetition(bench: Bench, row: Row, parts: list[str], first: bool) -> None:
    """One round of one peer; what does not swing is measured in the first round only."""
    if "enqueue" in parts:
        add(row, attempt(row, "enqueue", lambda: measure_enqueue(bench)))
    if "drain" in parts:
        drained = attempt(row, "drain with 1 worker", lambda: measure_drain(bench, 1))
        cpu: Row = {key: drained[key] for key in ("cpu_worker", "cpu_server") if key in drained}
        add(row, {"rate_1": drained.get("rate"), "tasks_1": drained.get("tasks"), **cpu})
        drained = attempt(row, "drain with 2 workers", lambda: measure_drain(bench, 2))
        add(row, {"rate_2": drained.get("rate"), "tasks_2": drained.get("tasks")})
    if "latency" in parts and first:
        add(row, attempt(row, "latency", lambda: measure_latency(bench)))
    row["about"] = bench.about or row["about"]


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"{dt.datetime.now(dt.UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


def summary(row: Row) -> str:
    """The last figures of a row in a few words."""
    last = {key: values[-1] for key, values in row["measured"].items() if values}
    parts = [f"{key} {last[key]:,.0f}/s" for key in ("rate_1", "rate_2") if last.get(key)]
    return ", ".join([*parts, *(f"{part} FAILED" for part in row["errors"])]) or "no figures"


def run(found: argparse.Namespace, plan: Plan, folder: Path) -> list[Row]:
    """Start the stores, measure every peer, round by round, then crash them side by side."""
    peers, parts = chosen(found), found.parts.split(",")
    rows = [
        Row(name=peer.name, store=peer.store, about={}, measured={}, errors={}) for peer in peers
    ]
    with Stores(sorted({peer.store for peer in peers})) as stores:
        places = {name: count() for name in stores}
        benches = [make(peer, stores, next(places[peer.store]), folder, plan) for peer in peers]
        if set(parts) - {"crash"}:
            for turn in range(plan.repetitions):
                for bench, row in zip(benches, rows, strict=True):
                    repetition(bench, row, parts, first=turn == 0)
                    say(f"round {turn + 1}/{plan.repetitions} {row['name']}: {summary(row)}")
        if "crash" in parts:
            crashes(benches, rows)
    return rows


def make(peer: Peer, stores: dict[str, Store], index: int, folder: Path, plan: Plan) -> Bench:
    """A peer with a database of its own."""
    return Bench(peer, stores[peer.store], index, folder, interpreter(peer), plan)


def crashes(benches: list[Bench], rows: list[Row]) -> None:
    """Crash several peers at a time: most of a recovery is waiting."""

    def one(pair: tuple[Bench, Row]) -> None:
        bench, row = pair
        row["crash"] = attempt(row, "crash", lambda: measure_crash(bench))
        row["about"] = bench.about or row["about"]
        say(f"crash {row['name']}: {row['crash'] or row['errors'].get('crash')}")

    with ThreadPoolExecutor(benches[0].plan.crash_parallel) as pool:
        list(pool.map(one, zip(benches, rows, strict=True)))


def main() -> int:
    """Run, write the report, and say where it is."""
    found = options()
    if found.list:
        print("\n".join(f"{peer.store:9} {peer.name}" for peer in PEERS))
        return 0
    plan, begin = plan_of(found), time.monotonic()
    found.out.mkdir(parents=True, exist_ok=True)
    for log in found.out.glob("*.log"):
        log.unlink()
    rows = run(found, plan, found.out)
    facts = {
        "date": f"{dt.datetime.now(dt.UTC):%Y-%m-%d}",
        "tasks": plan.tasks,
        "repetitions": plan.repetitions,
        "cores": os.cpu_count(),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "seconds": round(time.monotonic() - begin),
    }
    for path in write({"run": facts, "rows": rows}, found.out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
