"""I8 and acceptance 3: workers die by SIGKILL in the middle of a workflow, and every successor runs
exactly once: the joins fire, the map is complete, nothing runs under the same execution twice."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.flow_work import bottom, item, side, top, total
from tests.chaos.ledger import children, end, start_worker, started, starts, violations
from tests.chaos.work import app

SIDES, ITEMS = 300, 400
TARGET = "tests.chaos.flow_work:app"
pytestmark = [pytest.mark.unmeasured, pytest.mark.chaos, pytest.mark.timeout(240)]


async def test_a_diamond_and_a_map_with_children_killed_at_random(
    broker_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    log, dice = tmp_path / "starts", random.Random(2)
    app.url = broker_url
    async with app:
        flow = app.workflow("chaos")
        first = flow.add(top)
        sides = [flow.add(side, number, first.result) for number in range(1, SIDES + 1)]
        flow.add(bottom, SIDES).after(*sides)
        flow.map(item, range(ITEMS), window=20).reduce(total)
        handle = await flow.enqueue()
        worker = start_worker(broker_url, log, "--processes", "2", target=TARGET)
        try:
            for kill in range(1, 5):
                await started(log, kill * 100)
                with suppress(ProcessLookupError, IndexError):
                    os.kill(dice.choice(children(worker)), signal.SIGKILL)
            assert await handle.result(120) == {"bottom": SIDES, "total": sum(range(ITEMS))}
            counts = await (await app.inspector()).counts()
            assert await violations() == []
        finally:
            code = end(worker)
    runs = Counter(starts(log))
    numbers = {number for number, _ in runs}
    nodes = 1 + SIDES + 1 + ITEMS + 1
    again = len([n for n in numbers if (n, 1) not in runs or (n, 2) in runs])
    record_property("ledger", f"{nodes} nodes, {len(runs)} executions, {again} recovered")
    assert len(numbers) == nodes
    assert {state: n for state, n in counts.items() if n} == {"succeeded": nodes}
    assert max(runs.values()) == 1, "an execution ran twice"
    assert code == 0
