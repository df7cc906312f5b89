"""What only the SQLite store promises of lanes: what they cost, and what its doctor sees."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from conveyor.brokers.base import Pushed, Settlement, Step
from conveyor.brokers.sqlite.admission import LOOKS
from conveyor.brokers.sqlite.broker import SQLiteBroker
from conveyor.core.errors import InvalidOption
from conveyor.core.gates import Gate, lane_of
from conveyor.core.lifecycle import decide
from conveyor.core.outcome import Snoozed, Unroutable
from conveyor.core.task import Fair, NewTask, Pause, State, Terms, Unique
from conveyor.testing.clock import ManualClock
from tests.unit.sqlite_kit import broker, clock, lease, on_writer, success, task

__all__ = ["broker", "clock"]

pytestmark = pytest.mark.sqlite

ME = Pause("maintenance", "ada", 0.0)
ONE_SLOT = Gate("slots", most=1)
A_SECOND = Gate("rate", rate=1.0)


def gated(*gates: Gate, fair: str | None = None, **fields: Any) -> NewTask:
    turn = None if fair is None else Fair(fair)
    return task(terms=Terms(gates, turn, lane_of(5, gates, fair)), **fields)


@asynccontextmanager
async def statements(broker: SQLiteBroker) -> AsyncIterator[list[str]]:
    """Collect what the writer runs meanwhile."""
    seen: list[str] = []
    writer = broker._opened().writer
    await writer.read(lambda connection: connection.set_trace_callback(seen.append))
    yield seen
    await writer.read(lambda connection: connection.set_trace_callback(None))


# -- what it costs


async def test_plain_tasks_pay_one_look_a_step_for_lanes(broker: SQLiteBroker) -> None:
    async with statements(broker) as seen:
        await broker.push([task() for _ in range(10)])
        leases = (await broker.step(Step("w", ["q"], 10))).leases
        await broker.step(Step("w", ["q"], 10, [success(lease) for lease in leases]))
    words = ("lane", "gate", "slot", "stall", "unique", "limit")
    ours = [text for text in seen if any(f"conveyor_{word}" in text for word in words)]
    assert ours == ["SELECT 1 FROM conveyor_lane LIMIT 1;"] * 2


async def test_plain_tasks_pay_nothing_for_the_lanes_beside_them(broker: SQLiteBroker) -> None:
    costs = []
    # The first time, the gate is made.
    for number in (1, 1, 50):
        await broker.push([gated(ONE_SLOT), *[task() for _ in range(number)]])
        async with statements(broker) as seen:
            leases = (await broker.step(Step("w", ["q"], 100))).leases
        assert len(leases) == number + 1
        # A lease each is written in any case.
        costs.append(len([text for text in seen if "INTO conveyor_lease" not in text]))
        await broker.step(Step("w", ["q"], 0, [success(lease) for lease in leases]))
    assert costs[1] == costs[2]


@pytest.mark.parametrize(
    "gates",
    [(Gate("rate", rate=1e6, burst=1e6),), (Gate("slots", most=1_000), Gate("wide", most=1_000))],
    ids=["rate", "two of slots"],
)
async def test_a_run_of_one_lane_is_decided_at_once(
    broker: SQLiteBroker, gates: tuple[Gate, ...]
) -> None:
    costs = []
    # The first time, the gates are made.
    for number in (2, 2, 50):
        async with statements(broker) as seen:
            await broker.push([gated(*gates) for _ in range(number)])
            leases = (await broker.step(Step("w", ["q"], number))).leases
            await broker.step(Step("w", ["q"], 0, [success(lease) for lease in leases]))
        assert len(leases) == number
        # Each task has a row, a lease, slots and an end of its own, whatever it waits for.
        own = ("INTO conveyor_task", "_lease", "INTO conveyor_finished", "_slot", "conveyor_key")
        costs.append(len([text for text in seen if not any(word in text for word in own)]))
    assert costs[1] == costs[2]


async def test_a_run_ends_where_somebody_else_stands_first(broker: SQLiteBroker) -> None:
    wide, other = Gate("slots", most=100), Gate("slots", "b", most=100)
    news = [gated(wide), gated(wide), task(), gated(wide), gated(other), gated(other), gated(wide)]
    await broker.push(news)
    leases = (await broker.step(Step("w", ["q"], 10))).leases
    assert [lease.task.id for lease in leases] == [new.task.id for new in news]
    assert await broker.inspector.check() == []


async def test_a_run_ends_where_the_numbers_change(broker: SQLiteBroker) -> None:
    news = [gated(Gate("slots", most=most)) for most in (9, 9, 9, 2, 2, 9)]
    await broker.push(news)
    leases = (await broker.step(Step("w", ["q"], 10))).leases
    assert [lease.task.id for lease in leases] == [new.task.id for new in news[:3]]
    (*_, last) = leases
    ends = [success(lease) for lease in leases[:2]]
    leases = (await broker.step(Step("w", ["q"], 10, ends))).leases
    assert [lease.task.id for lease in leases] == [news[3].task.id]
    ends = [success(lease) for lease in (last, *leases)]
    leases = (await broker.step(Step("w", ["q"], 10, ends))).leases
    assert [lease.task.id for lease in leases] == [news[4].task.id, news[5].task.id]


async def test_a_turn_is_a_run_of_its_weight(broker: SQLiteBroker) -> None:
    def turns(key: str) -> list[NewTask]:
        return [
            task(terms=Terms((), Fair(key, 3), lane_of(5, (), key)), name=key) for _ in range(7)
        ]

    await broker.push([*turns("a"), *turns("b")])
    leases = [
        lease for want in (2, 6, 10) for lease in (await broker.step(Step("w", ["q"], want))).leases
    ]
    assert "".join(lease.task.name for lease in leases) == "aaabbbaaabbbab"


@pytest.mark.parametrize("gate", [ONE_SLOT, A_SECOND], ids=["slots", "rate"])
async def test_what_opens_a_gate_costs_the_same_with_any_number_of_lanes(
    broker: SQLiteBroker, clock: ManualClock, gate: Gate
) -> None:
    costs = []
    for lanes in (10, 1_000):
        here = msgspec.structs.replace(gate, key=str(lanes))
        await broker.push([gated(here, fair=str(n), queue=f"q{lanes}") for n in range(lanes)])
        step = Step("w", [f"q{lanes}"], 10)
        held = (await broker.step(step)).leases
        while (await broker.step(step)).next_due == 0.0:
            pass
        clock.advance(1.1)
        async with statements(broker) as seen:
            settlements = [success(lease) for lease in held]
            reply = await broker.step(Step("w", [f"q{lanes}"], 10, settlements))
        assert len(reply.leases) == 1
        costs.append(len(seen))
        await broker.step(Step("w", [], 0, [success(lease) for lease in reply.leases]))
        clock.advance(1.1)
    assert costs[0] == costs[1]


async def test_a_step_looks_at_so_many_lanes_and_the_next_one_goes_on(
    broker: SQLiteBroker,
) -> None:
    await broker.gates.close("slots", None, None, ME)
    lanes = 2 * LOOKS + 10
    await broker.push([gated(Gate("slots", str(n), most=1)) for n in range(lanes)])
    dues = [(await broker.step(Step("w", ["q"], 10))).next_due for _ in range(3)]
    assert dues == [0.0, 0.0, None]
    stalled = "SELECT count(*) FROM conveyor_lane WHERE stall IS NOT NULL"
    assert await on_writer(broker, stalled) == lanes


async def test_a_worker_without_slots_is_told_no_time_that_it_cannot_use(
    broker: SQLiteBroker,
) -> None:
    await broker.push([gated(ONE_SLOT), gated(A_SECOND), gated(A_SECOND)])
    reply = await broker.step(Step("w", ["q"], 10, (), 0))
    assert (list(reply.leases), reply.next_due) == ([], None)
    assert (await broker.step(Step("w", ["q"], 10, (), 3))).next_due == pytest.approx(1, abs=0.01)


# -- nobody is in the way


async def test_a_lane_of_a_paused_queue_keeps_no_slot_from_the_others(
    broker: SQLiteBroker,
) -> None:
    await broker.push([gated(ONE_SLOT, queue=queue) for queue in ("q", "q", "r")])
    (first,) = (await broker.step(Step("w", ["q", "r"], 10))).leases
    await broker.pause("q", ME)
    (second,) = (await broker.step(Step("w", ["q", "r"], 10, [success(first)]))).leases
    assert second.task.queue == "r"


async def test_a_cancelled_scout_lets_the_next_one_look(broker: SQLiteBroker) -> None:
    news = [gated(ONE_SLOT, fair=str(n)) for n in range(3)]
    await broker.push(news)
    (first,) = (await broker.step(Step("w", ["q"], 10))).leases
    # The freed slot lets the second lane out, and nobody looks before it is cancelled.
    await broker.step(Step("w", ["q"], 0, [success(first)]))
    await broker.cancel([news[1].task.id])
    (last,) = (await broker.step(Step("w", ["q"], 10))).leases
    assert last.task.id == news[2].task.id


async def test_a_parked_gated_task_is_adopted_into_its_lane(broker: SQLiteBroker) -> None:
    await broker.push([gated(ONE_SLOT), gated(ONE_SLOT)])
    (first,) = await lease(broker)
    unroutable = Settlement(first, decide(first, Unroutable(), dice=0.5))
    (second,) = (await broker.step(Step("w", ["q"], 10, [unroutable]))).leases
    assert await broker.adopt("w", ["work"], ["q"], 10) == []
    assert (await broker.step(Step("w", ["q"], 10))).leases == []
    (again,) = (await broker.step(Step("w", ["q"], 10, [success(second)]))).leases
    assert (again.task.id, again.execution) == (first.task.id, 2)
    assert await broker.inspector.check() == []


async def test_the_oldest_is_flagged_though_it_was_leased_by_the_same_step(
    broker: SQLiteBroker,
) -> None:
    gate = Gate("slots", most=1, on_full="cancel_oldest")
    await broker.push([gated(gate), gated(gate), gated(gate)])
    (first,) = (await broker.step(Step("w", ["q"], 10))).leases
    assert (await broker.step(Step("w", ["q"], 0))).cancels == [first.task.id]


async def test_a_task_that_a_full_limit_ends_gives_its_line_to_the_next(
    broker: SQLiteBroker, clock: ManualClock
) -> None:
    line = Gate("line", "k", most=1, line=True)
    await broker.push([gated(line, Gate("slots", most=1, on_full="drop")), gated(line)])
    (first,) = (await broker.step(Step("w", ["q"], 10))).leases
    retry = Settlement(first, decide(first, Snoozed(5.0), dice=0.5))
    await broker.push([gated(ONE_SLOT)])
    (holder,) = (await broker.step(Step("w", ["q"], 10, [retry]))).leases
    clock.advance(6)
    (second,) = (await broker.step(Step("w", ["q"], 10))).leases
    assert second.task.id != holder.task.id
    assert (await broker.inspector.get(first.task.id)).state is State.SKIPPED
    assert await broker.inspector.check() == []


# -- keys


async def test_a_push_that_names_a_holder_leaves_no_trace(broker: SQLiteBroker) -> None:
    terms = Terms(unique=Unique("u", "done"))
    first, second = task(terms=terms), task(terms=terms, key="k", digest="d")
    assert await broker.push([first]) == [Pushed(first.task.id)]
    assert await broker.push([second]) == [Pushed(first.task.id, created=False)]
    assert await broker.inspector.check() == []
    other = task(key="k", digest="d")
    assert await broker.push([other]) == [Pushed(other.task.id)]


async def test_a_period_outlives_its_task(broker: SQLiteBroker, clock: ManualClock) -> None:
    first, second = (task(terms=Terms(unique=Unique("u", "period", 60.0))) for _ in range(2))
    await broker.push([first])
    await broker.cancel([first.task.id])
    await broker.discard([first.task.id])
    assert await broker.push([second]) == [Pushed(first.task.id, created=False)]
    clock.advance(60)
    await broker.tidy()
    assert await on_writer(broker, "SELECT count(*) FROM conveyor_unique") == 0
    assert await broker.push([second]) == [Pushed(second.task.id)]


# -- what people see


@pytest.mark.parametrize("numbers", [{"rate": 0.0}, {"rate": -1.0}, {"most": -1}])
async def test_numbers_that_would_stop_every_step_are_refused(
    broker: SQLiteBroker, numbers: dict[str, Any]
) -> None:
    with pytest.raises(InvalidOption, match=next(iter(numbers))):
        await broker.gates.tune("limit", **numbers)


async def test_lanes_are_seen_like_any_queue(broker: SQLiteBroker, clock: ManualClock) -> None:
    await broker.push([gated(ONE_SLOT), task()])
    clock.advance(5)
    await broker.push([gated(ONE_SLOT)])
    (queue,) = await broker.inspector.queues()
    assert (queue.queued, queue.oldest_wait) == (3, 5.0)
    assert (await broker.inspector.counts())[State.QUEUED] == 3


@pytest.mark.parametrize(
    ("damage", "invariants"),
    [
        ("DELETE FROM conveyor_lane", {"I1"}),
        ("DELETE FROM conveyor_laned", {"I1"}),
        ("UPDATE conveyor_lane SET head = head - 1", {"I1"}),
        ("UPDATE conveyor_lane SET stall = 99", {"I1"}),
        ("UPDATE conveyor_slot SET seq = (SELECT head FROM conveyor_lane)", {"I6"}),
        ("INSERT INTO conveyor_slot VALUES (1, 99, 0)", {"I1"}),
        (
            "INSERT INTO conveyor_unique SELECT 1, 1, '', seq, '', 0, NULL FROM conveyor_finished",
            {"I7"},
        ),
    ],
)
async def test_the_doctor_sees_damage(
    broker: SQLiteBroker, damage: str, invariants: set[str]
) -> None:
    await broker.push([gated(ONE_SLOT), gated(ONE_SLOT), gated(ONE_SLOT)])
    (first,) = (await broker.step(Step("w", ["q"], 10))).leases
    assert (await broker.step(Step("w", ["q"], 10, [success(first)]))).leases
    assert await broker.inspector.check() == []
    await on_writer(broker, damage)
    found = await broker.inspector.check()
    assert {violation.invariant for violation in found} == invariants


# -- bells


async def test_whoever_is_idle_is_rung_for_when_a_lane_may_go_on(broker: SQLiteBroker) -> None:
    await broker.push([gated(ONE_SLOT), gated(ONE_SLOT)])
    (first,) = await lease(broker)
    rung = asyncio.Event()
    async with broker.listen("v", ["q"], rung.set):
        assert await lease(broker, worker="v") == []
        await broker.step(Step("w", ["q"], 0, [success(first)]))
        await asyncio.wait_for(rung.wait(), 5)
        (second,) = await lease(broker, worker="v")
        rung.clear()
        await broker.gates.close("slots", None, None, ME)
        await broker.push([gated(ONE_SLOT)])
        await broker.step(Step("v", ["q"], 10, [success(second)]))
        rung.clear()
        await broker.gates.open("slots", None)
        await asyncio.wait_for(rung.wait(), 5)
        assert len(await lease(broker, worker="v")) == 1
