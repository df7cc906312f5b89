"""Runs of a lane on Redis: they come to what the tasks one by one would, for less."""

import random
from typing import Any

import msgspec
import pytest

from conveyor.brokers.redis.scripts import put_together
from conveyor.core.gates import admit_run
from conveyor.testing.conformance.gates_rig import gated, per_second, pushed, slots, take, taken
from conveyor.testing.conformance.rig import Rig, ids, ok
from tests.unit import test_redis_gates as kit
from tests.unit.redis_kit import rig
from tests.unit.test_redis_gates import A_LOOK_AROUND, calls, client

__all__ = ["client", "rig"]

RUN = b"""-- include: clock terms gates
local gates, members, after = cmsgpack.unpack(ARGV[2]), {}, {}
local count = count_run(gates, tonumber(ARGV[3]))
for n = 1, count do members[n] = 'member' .. n end
if count > 0 then take_run_of_gates(gates, members) end
for _, one in ipairs(gates) do
  local state = { id = gate_id(one) }
  after[#after + 1] = string.format('%.17g', tat_of(state))
  after[#after + 1] = running_of(state)
end
return { count, after }
"""


@pytest.mark.parametrize("seed", range(4))
def test_runs(client: Any, seed: int) -> None:
    dice = random.Random(seed)
    source = put_together(RUN.decode())
    for number in range(150):
        now = round(1_700_000_000_000 + dice.random() * 1e6)
        cases = [
            kit.TestMirror._case(dice, f"limit{n}", now / 1000) for n in range(dice.randint(1, 3))
        ]
        gates, states = [gate for gate, _, _ in cases], [state for _, state, _ in cases]
        shared = f"{{{number}}}:"
        for gate, state, _ in cases:
            kit.TestMirror._write(client, shared, gate, state, held=False)
        packed, most = msgspec.msgpack.encode(gates), dice.randint(1, 120)
        count, after = client.eval(source, 2, "{r}", shared, now, packed, most)
        expected, taken_from = admit_run(gates, states, now / 1000, most)
        assert count == expected
        seen = [(float(tat), int(n)) for tat, n in zip(*[iter(after)] * 2, strict=True)]
        assert seen == [(state.tat, state.running) for state in taken_from]


@pytest.mark.parametrize("many", [False, True])
async def test_a_run_of_one_lane_costs_commands_per_step_and_none_each(
    rig: Rig, client: Any, *, many: bool
) -> None:
    gates = (slots(500), per_second(1e6, burst=1e4)) if many else (per_second(1e6, burst=1e4),)
    spent = []
    await rig.worker()
    await rig.step()
    for number in (10, 200):
        await pushed(rig, number, *gates)
        before = calls(client)
        leases = (await rig.step(want=number + 1)).leases
        await rig.step(*(rig.settlement(lease, ok()) for lease in leases))
        spent.append(calls(client) - before)
    assert spent[1] <= spent[0] + A_LOOK_AROUND


async def test_a_run_ends_where_somebody_else_stands_first(rig: Rig) -> None:
    wide, other = slots(100), slots(100, key="b")
    tasks = []
    for make in (*[wide] * 4, None, *[wide] * 3, *[other] * 3, wide):
        rig.clock.advance(0.01)
        tasks.append(rig.task() if make is None else gated(rig, make))
        await rig.push(tasks[-1])
    assert taken(await take(rig, want=20)) == ids(tasks)
    assert await rig.is_healthy()


async def test_a_run_ends_where_the_numbers_change(rig: Rig) -> None:
    tasks = [gated(rig, slots(most)) for most in (9, 9, 9, 9, 3, 9)]
    for task in tasks:
        rig.clock.advance(0.01)
        await rig.push(task)
    leases = await take(rig)
    assert taken(leases) == ids(tasks[:4])
    await rig.step(*(rig.settlement(lease, ok()) for lease in leases[:2]), want=0)
    assert taken(await take(rig)) == ids(tasks[4:])


async def test_a_push_of_one_lane_costs_commands_per_call_and_none_each(
    rig: Rig, client: Any
) -> None:
    spent = []
    for number in (10, 10, 200):
        before = calls(client)
        await pushed(rig, number, slots(5))
        spent.append(calls(client) - before)
    # The first call made the queue known.
    assert spent[2] <= spent[1] + A_LOOK_AROUND


async def test_a_repeat_among_new_tasks_is_stored_once(rig: Rig) -> None:
    tasks = [gated(rig, slots(9)) for _ in range(3)]
    await rig.push(tasks[0])
    await rig.push(tasks[1], tasks[0], tasks[2], tasks[1])
    assert sorted(taken(await take(rig))) == sorted(ids(tasks))
    assert await rig.is_healthy()
