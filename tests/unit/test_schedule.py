"""Which fires are due: time, catch-up, overlap, pauses, edits; and what each becomes."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyor.core.errors import InvalidOption
from conveyor.core.schedule import (
    BACKLOG,
    ON_TIME,
    Decision,
    Entry,
    Overlap,
    Paused,
    Schedule,
    check_policy,
    decide,
    fire,
    fire_id,
    next_fire,
    spread,
)
from conveyor.core.task import Task, Terms
from conveyor.core.timing import timing

NOW = 1_800_000_000.0  # a full minute, not a full hour
HOURLY = timing(cron="0 * * * *")
TASK = Task("", "work", "q", 7, b"\x92\x90\x80", 0.0, headers={"a": "b"})


def schedule(**fields: Any) -> Schedule:
    return Schedule(**{"name": "s", "timing": timing(every=10.0), "task": TASK, **fields})


def decided(made: Schedule, entry: Entry, now: float, *alive: str) -> Decision:
    decision = decide(made, entry, now, set(alive))
    assert decision is not None
    return decision


# -- by time


def test_a_fire_is_due_at_its_nominal_time_and_never_before() -> None:
    entry = Entry(cursor=NOW)
    assert next_fire(schedule(), entry, NOW) == NOW + 10
    assert decide(schedule(), entry, NOW + 9.999, ()) is None
    decision = decided(schedule(), entry, NOW + 10.2)
    assert decision.fires == decision.entry.pending == (NOW + 10,)
    assert decision.entry.running == (fire_id("s", NOW + 10),)
    assert (decision.entry.fired, decision.entry.last) == (1, NOW + 10)
    assert decide(schedule(), decision.entry, NOW + 10.2, ()) is None
    assert next_fire(schedule(), decision.entry, NOW + 10.2) == NOW + 20


def test_all_that_are_on_time_fire_the_oldest_first() -> None:
    decision = decided(schedule(catch_up="none"), Entry(cursor=NOW), NOW + 35)
    assert decision.fires == (NOW + 10, NOW + 20, NOW + 30)


def test_a_fast_grid_fires_a_hundred_in_a_round_and_goes_on() -> None:
    fast, entry = schedule(timing=timing(every=0.1)), Entry(cursor=NOW)
    fires: list[float] = []
    for _ in range(3):
        decision = decided(fast, entry, NOW + 25.04)
        entry = decision.entry
        fires += decision.fires
        assert decision.more == (len(fires) < 250)
    assert len(fires) == len(set(fires)) == 250
    assert decide(fast, entry, NOW + 25.04, ()) is None


@given(
    st.lists(st.floats(0.001, 50.0), min_size=1, max_size=60), st.sampled_from([0.7, 10.0, 61.0])
)
def test_whenever_keepers_look_every_nominal_time_fires_once(
    steps: list[float], every: float
) -> None:
    made, entry, now = schedule(timing=timing(every=every)), Entry(cursor=NOW), NOW
    fires: list[float] = []
    for step in steps:
        now += step
        while decision := decide(made, entry, now, ()):
            entry = decision.entry
            fires += decision.fires
    assert fires == made.timing.between(NOW, now, 1_000_000)


def test_a_clock_that_goes_back_repeats_nothing() -> None:
    entry = decided(schedule(), Entry(cursor=NOW), NOW + 10).entry
    assert decide(schedule(), entry, NOW - 3_600, ()) is None
    assert next_fire(schedule(), entry, NOW - 3_600) == NOW + 20


# -- catch-up


@pytest.mark.parametrize(
    ("catch_up", "hours"), [("none", []), ("last", [5]), ("all", [1, 2, 3, 4, 5])]
)
def test_what_nobody_was_there_for_is_made_up_for_as_said(catch_up: str, hours: list[int]) -> None:
    start = NOW // 3_600 * 3_600
    made = schedule(timing=HOURLY, catch_up=catch_up)
    decision = decided(made, Entry(cursor=start), start + 5 * 3_600 + 1_800)
    assert [(at - start) / 3_600 for at in decision.fires] == hours
    assert decide(made, decision.entry, start + 5 * 3_600 + 1_800, ()) is None


def test_the_last_is_the_one_on_time_if_there_is_one() -> None:
    start = NOW // 3_600 * 3_600
    decision = decided(
        schedule(timing=HOURLY), Entry(cursor=start), start + 5 * 3_600 + ON_TIME / 2
    )
    assert decision.fires == (start + 5 * 3_600,)


@pytest.mark.parametrize("catch_up", ["last", "all"])
def test_nothing_is_made_up_for_from_before_the_window(catch_up: str) -> None:
    start = NOW // 3_600 * 3_600
    made = schedule(timing=HOURLY, catch_up=catch_up, window=7_300.0)
    decision = decided(made, Entry(cursor=start), start + 10 * 3_600 + 1_800)
    assert min(decision.fires) >= start + 9 * 3_600
    none = decided(
        schedule(timing=HOURLY, window=60.0), Entry(cursor=start), start + 10 * 3_600 + 1_800
    )
    assert none.fires == ()
    assert none.entry.cursor > start + 10 * 3_600


def test_all_are_a_hundred_at_most_the_newest() -> None:
    decision = decided(schedule(catch_up="all"), Entry(cursor=NOW), NOW + 50_000)
    assert len(decision.fires) == BACKLOG
    later = decided(schedule(catch_up="all"), decision.entry, NOW + 50_000)
    assert len(later.fires) == ON_TIME / 10
    assert later.fires[-1] == NOW + 50_000
    assert decision.fires[-1] == NOW + 50_000 - ON_TIME


def test_a_year_of_a_fast_grid_is_caught_up_with_quickly() -> None:
    made = schedule(timing=timing(every=0.1), catch_up="all", window=3e7)
    assert len(decided(made, Entry(cursor=NOW), NOW + 3e7).fires) == BACKLOG


def test_an_edit_never_fires_across_itself() -> None:
    edited = schedule(catch_up="all", edited_at=NOW + 1_000)
    decision = decided(edited, Entry(cursor=NOW, waiting=(NOW,)), NOW + 1_025)
    assert decision.fires == (NOW + 1_010, NOW + 1_020)


# -- pauses


def test_a_paused_schedule_does_nothing() -> None:
    made = schedule(paused=Paused("holidays", "ada", NOW))
    assert decide(made, Entry(cursor=NOW), NOW + 100, ()) is None
    assert next_fire(made, Entry(cursor=NOW), NOW) is None


def test_a_pause_that_ends_by_itself_is_not_caught_up_across() -> None:
    made = schedule(paused=Paused("", "", NOW, NOW + 500), catch_up="all")
    assert next_fire(made, Entry(cursor=NOW), NOW + 3) == NOW + 510
    assert decide(made, Entry(cursor=NOW), NOW + 499, ()) is None
    assert decided(made, Entry(cursor=NOW), NOW + 521).fires == (NOW + 510, NOW + 520)


# -- overlap


@pytest.mark.parametrize(
    ("overlap", "fires", "waiting", "cancels", "skipped"),
    [
        ("allow", [10, 20, 30], [], [], 0),
        ("skip", [], [], [], 3),
        ("buffer_one", [], [10], [], 2),
        ("buffer_all", [], [10, 20, 30], [], 0),
        ("cancel_other", [], [30], ["old"], 2),
    ],
)
def test_while_an_earlier_one_runs(
    overlap: Overlap, fires: list[int], waiting: list[int], cancels: list[str], skipped: int
) -> None:
    entry = Entry(cursor=NOW, running=("older", "old"))
    decision = decided(schedule(overlap=overlap), entry, NOW + 30, "old")
    assert [at - NOW for at in decision.fires] == fires
    assert [at - NOW for at in decision.entry.waiting] == waiting
    assert list(decision.cancels) == cancels
    assert decision.entry.skipped == skipped
    assert decision.entry.running[0] == "old"


@pytest.mark.parametrize(
    ("overlap", "fires", "waiting"),
    [
        ("allow", [10, 20, 30], []),
        ("skip", [10], []),
        ("buffer_one", [10], [20]),
        ("buffer_all", [10], [20, 30]),
        ("cancel_other", [30], []),
    ],
)
def test_when_nothing_runs_several_do_not_overlap_with_each_other(
    overlap: Overlap, fires: list[int], waiting: list[int]
) -> None:
    entry = Entry(cursor=NOW, running=("ended",))
    decision = decided(schedule(overlap=overlap), entry, NOW + 30)
    assert [at - NOW for at in decision.fires] == fires
    assert [at - NOW for at in decision.entry.waiting] == waiting
    assert "ended" not in decision.entry.running


@pytest.mark.parametrize("overlap", ["buffer_one", "buffer_all", "cancel_other"])
def test_what_waits_fires_when_the_earlier_one_has_ended(overlap: Overlap) -> None:
    made = schedule(overlap=overlap, timing=HOURLY)
    entry = Entry(cursor=NOW, waiting=(NOW - 5, NOW - 4), running=("old",))
    waits = decided(made, entry, NOW + 1, "old")
    assert waits.entry is entry
    assert waits.cancels == (("old",) if overlap == "cancel_other" else ())
    decision = decided(made, entry, NOW + 1)
    assert decision.fires == ((NOW - 4,) if overlap == "cancel_other" else (NOW - 5,))


def test_what_is_not_pushed_yet_stays_pending() -> None:
    entry = Entry(cursor=NOW, pending=(NOW,), pending_at=NOW)
    after = decided(schedule(), entry, NOW + 10).entry
    assert (after.pending, after.pending_at) == ((NOW, NOW + 10), NOW)


# -- what a fire becomes


@given(st.text(min_size=1, max_size=30), st.floats(0, 4e9))
def test_the_id_of_a_fire_is_a_uuid_that_sorts_by_its_time(name: str, at: float) -> None:
    made = UUID(fire_id(name, at))
    assert made.version == 8
    assert made.variant == "specified in RFC 4122"
    assert made.int >> 80 == round(at * 1_000_000) // 1_000
    assert fire_id(name, at) == str(made)


def test_ids_differ_by_schedule_and_time_and_stay_the_same_over_releases() -> None:
    ids = {fire_id(name, at) for name in "ab" for at in (NOW, NOW + 0.0001)}
    assert len(ids) == 4
    assert fire_id("s", 1_700_000_000.0) == "018bcfe5-6800-8435-be18-fae50f9f4d68"


def test_a_fire_is_the_schedules_task_with_its_nominal_time() -> None:
    made = fire(schedule(), NOW, NOW + 0.3)
    assert (made.task.name, made.task.queue, made.task.priority) == ("work", "q", 7)
    assert (made.task.id, made.task.enqueued_at) == (fire_id("s", NOW), NOW + 0.3)
    assert made.task.terms == Terms(scheduled_for=NOW, schedule="s")
    assert made.due_at is None


def test_jitter_is_within_its_bound_and_always_the_same() -> None:
    made = schedule(jitter=30.0)
    spreads = [spread(made, NOW + n) for n in range(200)]
    assert spreads == [spread(made, NOW + n) for n in range(200)]
    assert 0 <= min(spreads) < 3
    assert 27 < max(spreads) < 30
    assert fire(made, NOW, NOW).due_at == NOW + spread(made, NOW)


@pytest.mark.parametrize(
    "wrong",
    [{"overlap": "sometimes"}, {"catch_up": "some"}, {"window": -1.0}, {"jitter": 90_000.0}],
)
def test_policies_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        check_policy(
            **{"overlap": "skip", "catch_up": "last", "window": 1.0, "jitter": 0.0, **wrong}
        )
