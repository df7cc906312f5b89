"""Admission on PostgreSQL decides what the core does, and many at a time as one by one."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from math import inf
from typing import Any

import asyncpg
import msgspec
import pytest

from conveyor.brokers.url import connect
from conveyor.core.gates import Gate, GateState, Refusal, admit, reserve
from conveyor.core.task import Task
from conveyor.system import new_id
from conveyor.testing.conformance.gates_rig import (
    gated,
    per_second,
    slots,
    taken,
)
from conveyor.testing.conformance.rig import Capabilities, Rig, ok
from tests.servers import PostgresServer

NOW = 4_000_000_000.0
CASES = 400


@pytest.fixture
async def rig(postgres_url: str) -> AsyncIterator[Rig]:
    made = Rig(lambda clock: connect(postgres_url, clock=clock), Capabilities())
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(postgres_url, server_settings={"search_path": "conveyor"})
    yield connection
    await connection.close()


def some_gate(dice: random.Random, number: int) -> Gate:
    if dice.random() < 0.5:
        burst = dice.choice([1.0, 2.0, 5.0, 100.0])
        cost = min(burst, dice.choice([1.0, 1.0, 2.0, 0.5]))
        return Gate(
            "rate", str(number), rate=dice.choice([0.01, 1, 10, 333.3]), burst=burst, cost=cost
        )
    return Gate("slots", str(number), most=dice.randint(1, 3), line=dice.random() < 0.5)


def calm_state(dice: random.Random, gate: Gate) -> GateState:
    """Return a state that most often has room for several tasks."""
    if gate.rate:
        ahead = dice.choice([-9.0, dice.uniform(-1, 1) * gate.burst / gate.rate])
        return GateState(tat=NOW + ahead, rate=dice.choice([None, dice.uniform(0.1, 99)]))
    return GateState(running=dice.randint(0, 2), most=dice.choice([None, 5, 60]))


def some_state(dice: random.Random, gate: Gate) -> GateState:
    closed = dice.choice([0.0, 0.0, 0.0, NOW - 1, NOW + dice.uniform(0, 9), inf])
    if gate.rate:
        ahead = dice.choice([-9.0, 0.0, dice.uniform(-1, 9), gate.burst / gate.rate])
        rate = dice.choice([None, None, dice.uniform(0.1, 99)])
        return GateState(tat=NOW + ahead, closed_until=closed, rate=rate)
    most = dice.choice([None, None, 0, 2, 5])
    return GateState(running=dice.randint(0, 4), closed_until=closed, most=most)


async def store(database: Any, which: str, gate: Gate, state: GateState, place: int) -> None:
    await database.execute(
        "INSERT INTO toll VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        *(which, place, gate.id, gate.rate, gate.burst, gate.cost, gate.most, gate.line, "queue"),
    )
    await database.execute(
        "INSERT INTO gate VALUES ($1, $2, $3)", gate.id, state.tat, state.running
    )
    await database.execute("INSERT INTO ruling VALUES ($1, $2)", gate.id, state.closed_until)


async def states(database: Any, gates: Sequence[Gate]) -> list[tuple[float, int]]:
    found = {row[0]: (row[1], row[2]) for row in await database.fetch("SELECT * FROM gate")}
    return [found[gate.id] for gate in gates]


async def asked(database: Any, which: str, upto: int) -> Any:
    """Ask the gates of a task for so many like it, and pass as many as they admit."""
    return await database.fetchrow(
        "SELECT a.*, CASE WHEN a.number > 0 THEN take_gates(a.now, a.gates, a.number)::text END"
        " FROM ask_gates($1, $2, $3) AS a",
        *(NOW, which, upto),
    )


async def prepared(
    dice: random.Random, database: Any, which: str, make_state: Any = some_state
) -> tuple[list[Gate], Any]:
    """Store a task with gates in random states; returns them."""
    for table in ("toll", "gate", "ruling", "slot"):
        await database.execute(f"DELETE FROM {table}")
    gates = [some_gate(dice, number) for number in range(dice.randint(1, 3))]
    before = [make_state(dice, gate) for gate in gates]
    # Numbers that people gave are those of a whole limit: one of a kind here.
    tuned = {g.limit: s for g, s in zip(gates, before, strict=True)}
    before = [
        GateState(s.tat, s.running, s.closed_until, tuned[g.limit].rate, tuned[g.limit].most)
        for g, s in zip(gates, before, strict=True)
    ]
    for place, (gate, state) in enumerate(zip(gates, before, strict=True)):
        await store(database, which, gate, state, place)
    for limit, state in tuned.items():
        await database.execute(
            "INSERT INTO ruling VALUES ($1, NULL, NULL, $2, $3)", limit, state.rate, state.most
        )
    return gates, before


async def test_every_decision_is_the_one_of_the_core(database: Any) -> None:
    dice = random.Random(7)
    verdicts = Counter[str]()
    for _ in range(CASES):
        which = new_id()
        gates, before = await prepared(dice, database, which)
        holds = [bool(g.most) and dice.random() < 0.2 for g in gates]
        for gate, has in zip(gates, holds, strict=True):
            if has:
                await database.execute("INSERT INTO slot VALUES ($1, $2, true, 0)", which, gate.id)
        expected = admit(gates, before, NOW, holds=holds)
        row = await asked(database, which, 1)
        if isinstance(expected, Refusal):
            at = inf if expected.at is None else expected.at
            assert (row["refused_by"], row["until"]) == (expected.gate.id, at)
            assert row["is_full"] is (expected.why == "full")
            after = [(state.tat, state.running) for state in before]
            verdicts[expected.why] += 1
        else:
            assert (row["refused_by"], row["number"]) == (None, 1)
            after = [(state.tat, state.running) for state in expected]
            verdicts["admitted"] += 1
        assert await states(database, gates) == after
    assert min(verdicts[why] for why in ("closed", "rate", "full", "admitted")) > CASES / 20


async def test_a_run_is_what_the_core_admits_one_by_one(database: Any) -> None:
    dice = random.Random(13)
    lengths = Counter[bool]()
    for _ in range(CASES):
        which, upto = new_id(), dice.choice([1, 3, 200])
        make_state = dice.choice([some_state, calm_state])
        gates, states_now = await prepared(dice, database, which, make_state)
        row = await asked(database, which, upto)
        number = 0
        while number < upto:
            after = admit(gates, states_now, NOW)
            if isinstance(after, Refusal):
                break
            states_now = after
            number += 1
        assert row["number"] == number
        assert await states(database, gates) == [(s.tat, s.running) for s in states_now]
        lengths[1 < number < upto] += 1
    assert lengths[True] > CASES / 10


@pytest.fixture
async def twin(postgres: PostgresServer, rig: Rig) -> AsyncIterator[Rig]:
    """Another store with the same clock."""
    url = postgres.create_database()
    made = Rig(lambda clock: connect(url, clock=clock), Capabilities())
    made.clock = rig.clock
    broker = made.unopened()
    await broker.migrate()
    await broker.close()
    await made.start()
    yield made
    await made.stop()
    postgres.drop_database(url)


def some_lanes(rig: Rig, dice: random.Random, lanes: int) -> list[Task]:
    """Tasks of some lanes, in no order, and plain ones between them."""
    kinds = []
    for n in range(lanes):
        key, weight = str(n), dice.choice([1, 2, 7])
        gates = [
            slots(dice.choice([1, 4, 50]), key=key),
            per_second(dice.choice([1.0, 33.3]), burst=dice.choice([2.0, 30.0]), key=key),
            slots(max(9, lanes), key="shared"),
            per_second(7, burst=25, key="shared"),
        ]
        fair = dice.choice([None, key])
        chosen = dice.sample(gates, dice.randint(0 if fair else 1, 2))
        kinds.append((chosen, fair, weight, dice.choice([4, 5, 5, 5])))
    tasks = list[Task]()
    while len(tasks) < 60 + 2 * lanes:
        chosen, fair, weight, priority = dice.choice(kinds)
        run = dice.choice([1, 1, 10 if lanes < 5 else 2])
        if dice.random() < 0.2:
            tasks += [rig.task() for _ in range(run)]
        elif dice.random() < 0.05:
            # The same gates, but not the same numbers: they stand in the same lane.
            other = [msgspec.structs.replace(g, burst=g.burst + 1) for g in chosen]
            tasks.append(gated(rig, *other, fair=fair, weight=weight, priority=priority))
        else:
            tasks += [
                gated(rig, *chosen, fair=fair, weight=weight, priority=priority) for _ in range(run)
            ]
    return tasks


@pytest.mark.parametrize("lanes", [1, 2, 4, 30])
@pytest.mark.parametrize("seed", range(6))
async def test_a_step_for_many_takes_what_many_steps_for_one_take(
    rig: Rig, twin: Rig, lanes: int, seed: int
) -> None:
    dice = random.Random(seed)
    for task in some_lanes(rig, dice, lanes):
        rig.clock.advance(dice.choice([0.0, 0.01]))
        for each in (rig, twin):
            await each.push(task)
    for _ in range(8):
        rig.clock.advance(dice.choice([0.1, 1.0]))
        for each in (rig, twin):
            await each.worker()
        want = dice.choice([3, 10, 40])
        many = list((await rig.step(want=want)).leases)
        ones = [lease for _ in range(want) for lease in (await twin.step(want=1)).leases]
        assert taken(many) == taken(ones)
        assert await rig.broker.gates.look() == await twin.broker.gates.look()
        kept = {lease.task.id for lease in many if dice.random() < 0.5}
        for each, leases in ((rig, many), (twin, ones)):
            await each.step(
                *(each.settlement(e, ok()) for e in leases if e.task.id not in kept), want=0
            )
            assert await each.is_healthy()


async def test_every_reservation_is_the_one_of_the_core(database: Any) -> None:
    dice = random.Random(11)
    for number in range(CASES):
        gate = Gate("rate", str(number), rate=dice.uniform(0.1, 99), burst=dice.choice([1.0, 7.0]))
        state = GateState(
            tat=NOW + dice.uniform(-2, 2), closed_until=NOW + dice.choice([-1.0, 0.0, 3.0])
        )
        await store(database, new_id(), gate, state, 0)
        for _ in range(3):
            state, wait = reserve(gate, state, NOW)
            assert wait == await database.fetchval(
                "SELECT reserve($1, $2, $3, $4, $5)",
                *(NOW, gate.id, gate.rate, gate.burst, gate.cost),
            )
        assert await states(database, [gate]) == [(state.tat, 0)]
