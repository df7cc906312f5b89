"""Admission: the bound of a rate, its throughput, exact instants, and gates that agree together."""

from itertools import accumulate, pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyor.core.gates import (
    SLACK,
    Gate,
    GateState,
    Refusal,
    admit,
    admit_run,
    lane_of,
    refusal,
    reserve,
)

NOW = 1_800_000_000.0
FLOAT = 1e-5
"""Seconds: many times the distance of two floats that are instants of this century."""

rates = st.floats(0.01, 1_000)
bursts = st.floats(1, 50)
shares = st.floats(0, 1)
gaps = st.one_of(st.floats(0, 0.05), st.floats(0, 10))


@st.composite
def rate_gates(draw: st.DrawFn) -> Gate:
    burst = draw(bursts)
    cost = 1 + draw(shares) * (burst - 1)
    return Gate("limit", rate=draw(rates), burst=burst, cost=cost)


def slots(most: int = 1, key: str = "") -> Gate:
    return Gate("slots", key, most=most)


def one(gate: Gate, state: GateState, now: float) -> GateState | Refusal:
    """Admit a task that carries one gate."""
    found = admit([gate], [state], now)
    return found if isinstance(found, Refusal) else found[0]


def admissions(gate: Gate, instants: list[float]) -> list[float]:
    """Ask at each instant; return those of the admissions."""
    state, admitted = GateState(), []
    for now in instants:
        answer = one(gate, state, now)
        if isinstance(answer, GateState):
            state = answer
            admitted.append(now)
    return admitted


def assert_bound(gate: Gate, uses: list[float]) -> None:
    """In any window of w seconds at most burst + rate x w tokens."""
    for begin in range(len(uses)):
        for end in range(begin, len(uses)):
            tokens = (end - begin + 1) * gate.cost
            window = uses[end] - uses[begin] + FLOAT
            assert tokens <= gate.burst + gate.rate * window + FLOAT


# -- the bound


@given(rate_gates(), st.lists(gaps, max_size=60))
def test_no_window_sees_more_than_the_rate_and_the_burst(gate: Gate, waits: list[float]) -> None:
    assert_bound(gate, admissions(gate, list(accumulate(waits, initial=NOW))))


@given(rates, st.floats(2, 50), st.lists(st.tuples(gaps, shares), max_size=60))
def test_the_bound_holds_for_starts_that_come_a_little_late(
    rate: float, burst: float, waits: list[tuple[float, float]]
) -> None:
    gate = Gate("limit", rate=rate, burst=burst)
    late = min(SLACK, (burst - 1) / rate / 2)
    admitted = admissions(gate, list(accumulate((wait for wait, _ in waits), initial=NOW)))
    delays = [share * late for _, share in waits]
    starts = sorted(at + delay for at, delay in zip(admitted, [*delays, 0.0], strict=False))
    assert_bound(gate, starts)


@given(rate_gates(), st.lists(st.tuples(gaps, st.booleans()), max_size=60))
def test_reservations_and_admissions_share_the_bound(
    gate: Gate, moves: list[tuple[float, bool]]
) -> None:
    state, now, uses = GateState(), NOW, []
    for gap, waits in moves:
        now += gap
        if waits:
            state, wait = reserve(gate, state, now)
            uses.append(now + wait)
        elif isinstance(answer := one(gate, state, now), GateState):
            state = answer
            uses.append(now)
    assert_bound(gate, sorted(uses))


# -- throughput and instants


@given(rate_gates())
def test_under_backlog_the_rate_is_reached_within_one_percent(gate: Gate) -> None:
    state, now, tokens = GateState(tat=NOW + 10 * gate.burst / gate.rate), NOW, 0.0
    first = last = None
    for _ in range(300):
        answer = one(gate, state, now)
        if isinstance(answer, Refusal):
            assert answer.at is not None
            now = max(now + FLOAT / 100, answer.at)
            continue
        if first is None:
            first = now
        else:
            tokens += gate.cost
        state, last = answer, now
    assert first is not None
    assert last is not None
    assert tokens / gate.rate == pytest.approx(last - first, rel=0.01, abs=FLOAT)


@given(rate_gates(), st.floats(-100, 100))
def test_a_refusal_names_the_exact_instant(gate: Gate, debt: float) -> None:
    state = GateState(tat=NOW + debt)
    refused = refusal(gate, state, NOW)
    if refused is None:
        return
    assert refused.why == "rate"
    assert refused.at is not None
    assert refusal(gate, state, refused.at + FLOAT) is None
    earlier = refused.at - 0.001
    if earlier >= NOW:
        assert refusal(gate, state, earlier) is not None


@given(rate_gates())
def test_an_idle_gate_admits_whatever_a_task_may_cost(gate: Gate) -> None:
    assert refusal(gate, GateState(), NOW) is None
    assert refusal(gate, GateState(tat=NOW), NOW) is None


@given(rates, bursts, st.lists(st.tuples(gaps, shares), min_size=2, max_size=40))
def test_a_reservation_is_never_overtaken(
    rate: float, burst: float, calls: list[tuple[float, float]]
) -> None:
    state, now, uses = GateState(), NOW, []
    for gap, share in calls:
        now += gap
        gate = Gate("limit", rate=rate, burst=burst, cost=1 + share * (burst - 1))
        state, wait = reserve(gate, state, now)
        assert wait >= 0
        uses.append(now + wait)
    assert all(later >= earlier - FLOAT for earlier, later in pairwise(uses))


def test_a_reservation_waits_for_the_gate_to_open() -> None:
    gate = Gate("limit", rate=1.0)
    state, wait = reserve(gate, GateState(closed_until=NOW + 7), NOW)
    assert wait == pytest.approx(7)
    assert reserve(gate, state, NOW)[1] == pytest.approx(8)


# -- slots, closures, numbers that somebody tuned


def test_slots_are_taken_until_they_are_full() -> None:
    state = one(slots(2), GateState(running=1), NOW)
    assert state == GateState(running=2)
    refused = one(slots(2), GateState(running=2), NOW)
    assert isinstance(refused, Refusal)
    assert (refused.at, refused.why) == (None, "full")


def test_whoever_has_its_slot_takes_no_other() -> None:
    full = GateState(running=1)
    assert admit([slots()], [full], NOW, holds=[True]) == [full]


@pytest.mark.parametrize("gate", [slots(5), Gate("limit", rate=10.0)])
def test_a_closed_gate_admits_at_its_time(gate: Gate) -> None:
    closed = GateState(closed_until=NOW + 5)
    assert refusal(gate, closed, NOW) == Refusal(gate, NOW + 5, "closed")
    assert refusal(gate, closed, NOW + 5) is None
    assert refusal(gate, GateState(closed_until=inf), NOW) == Refusal(gate, None, "closed")


def test_tuned_numbers_take_the_place_of_those_that_tasks_carry() -> None:
    assert refusal(slots(1), GateState(running=1, most=2), NOW) is None
    assert refusal(slots(9), GateState(running=2, most=2), NOW) is not None
    gate = Gate("limit", rate=0.001)
    taken = one(gate, GateState(rate=10.0), NOW)
    assert isinstance(taken, GateState)
    assert taken.tat == pytest.approx(NOW + 0.1)


# -- several gates


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=5))
def test_gates_admit_together_or_not_at_all(kinds: list[tuple[bool, bool]]) -> None:
    gates = [
        slots(key=str(n)) if by_slots else Gate("rate", str(n), rate=1.0)
        for n, (by_slots, _) in enumerate(kinds)
    ]
    states = [GateState(running=int(blocked), tat=NOW + 5 * blocked) for _, blocked in kinds]
    answer = admit(gates, states, NOW)
    blocked = [gate for gate, (_, refuses) in zip(gates, kinds, strict=True) if refuses]
    if not blocked:
        assert isinstance(answer, list)
        assert all(after != before for after, before in zip(answer, states, strict=True))
        return
    assert isinstance(answer, Refusal)
    assert answer.gate in blocked
    # An event that nobody can foretell counts as the longest wait.
    assert (answer.at is None) is any(gate.most for gate in blocked)


def test_of_two_refusals_the_longer_one_counts() -> None:
    gates = [Gate("a", rate=1.0), Gate("b", rate=1.0)]
    answer = admit(gates, [GateState(tat=NOW + 3), GateState(tat=NOW + 9)], NOW)
    assert isinstance(answer, Refusal)
    assert answer.gate.limit == "b"


# -- runs


@st.composite
def gates_with_states(draw: st.DrawFn) -> tuple[Gate, GateState]:
    gate = draw(st.one_of(rate_gates(), st.builds(slots, st.integers(1, 30))))
    state = GateState(
        tat=draw(st.one_of(st.just(0.0), st.just(NOW), st.floats(-50, 50).map(NOW.__add__))),
        running=draw(st.integers(0, 32)) if draw(st.booleans()) else 0,
        closed_until=draw(st.sampled_from([0.0, 0.0, 0.0, NOW, NOW + 1, inf])),
        rate=draw(st.none() | rates),
        most=draw(st.none() | st.integers(0, 40)),
    )
    return gate, state


@given(st.lists(gates_with_states(), max_size=3), st.integers(0, 40))
def test_a_run_is_exactly_its_tasks_one_by_one(
    pairs: list[tuple[Gate, GateState]], most: int
) -> None:
    gates, states = [gate for gate, _ in pairs], [state for _, state in pairs]
    count, after = 0, states
    while count < most and not isinstance(answer := admit(gates, after, NOW), Refusal):
        count, after = count + 1, answer
    assert admit_run(gates, states, NOW, most) == (count, after)


def test_lanes_differ_by_priority_gates_and_fairness_key() -> None:
    names = [
        lane_of(5, (), None),
        lane_of(6, (), None),
        lane_of(5, (slots(),), None),
        lane_of(5, (slots(key="k"),), None),
        lane_of(5, (slots(), slots(key="k")), None),
        lane_of(5, (), ""),
        lane_of(5, (), "k"),
    ]
    assert len(set(names)) == len(names)
    assert all(len(bytes.fromhex(name)) == 16 for name in names)
    assert lane_of(5, (slots(1),), "k") == lane_of(5, (slots(2),), "k")
