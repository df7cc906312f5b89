"""The report of the feature benchmarks: complete, valid JSON, readable without every figure."""

from __future__ import annotations

import json
from math import nan
from typing import Any

import pytest

from benchmarks.features_report import NONE, as_json, as_tables

ROW: dict[str, Any] = {
    "drain_per_second": {"limits off": 10_000.0, "rate limit on": 9_000.0},
    "to_off": {"limits off": 1.0, "rate limit on": 0.9},
    "schedules_due_at_once": 10_000,
    "schedules_seconds": 2.5,
    "workflow_nodes_per_second": {"diamond": 4_000, "chain": 500},
    "transactions": {
        "rows_per_second": 900.0,
        "row_and_task_per_second": 450.0,
        "tasks_per_second_by_100": 12_345.6,
    },
}


def test_every_feature_has_a_table_with_a_row_for_each_store() -> None:
    tables = as_tables({"redis": ROW, "postgres": ROW})
    assert tables.count("### ") == 4
    assert tables.count("| redis") == tables.count("| postgres") == 4
    for cell in ("9,000/s (0.90×)", "| 10,000 | 2.50 | 4,000 |", "| 900 | 450 | 12,346 |"):
        assert cell in tables
    for block in tables.split("### ")[1:]:
        assert len({line.count("|") for line in block.splitlines() if "|" in line}) == 1


def test_a_figure_that_did_not_come_is_a_dash_and_null() -> None:
    late = {
        **ROW,
        "drain_per_second": {"limits off": 10_000.0, "rate limit on": None},
        "to_off": {"limits off": 1.0, "rate limit on": None},
        "schedules_seconds": None,
        "transactions": dict.fromkeys(ROW["transactions"]),
    }
    tables = as_tables({"sqlite": late})
    assert f"| 10,000 | {NONE} | {NONE} |" in tables
    assert "nan" not in tables
    assert json.loads(as_json({"sqlite": late}))["sqlite"]["schedules_seconds"] is None
    with pytest.raises(ValueError, match="JSON"):
        as_json({"sqlite": {**ROW, "schedules_seconds": nan}})
