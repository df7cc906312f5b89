"""Cron expressions: what is accepted, and the instants they name in zones that change clocks."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyor.core.cron import NICKNAMES, cron
from conveyor.core.errors import InvalidOption
from conveyor.core.timing import Timing, preview, timing

# Whole and half hours, both hemispheres, changes at midnight, a day that never was, Ramadan.
ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe",
    "Asia/Kathmandu", "Asia/Beirut", "Africa/Casablanca", "Africa/Cairo", "Pacific/Apia",
    "Pacific/Chatham", "America/Havana", "Asia/Tehran", "Antarctica/Troll",
]  # fmt: skip
FIXED = ["30 2 * * *", "0 0 * * *", "15,45 1-3 * * *", "0 9 * * MON-FRI", "59 23 L * *"]
INTERVALS = [
    "*/5 * * * *",
    "10 * * * *",
    "*/15 2 * * *",
    "45 */2 * * *",
    "* 0 * * SUN",
    "0 * 13 * FRI",
]
MINUTE = timedelta(minutes=1)


def instants(
    expression: str, tz: str, start: datetime, end: datetime, most: int = 100_000
) -> list[datetime]:
    found: list[datetime] = []
    at = cron(expression, tz).after(start)
    while at is not None and at <= end and len(found) < most:
        found.append(at)
        at = cron(expression, tz).after(at)
    return found


def local(tz: str, *when: int) -> datetime:
    return datetime(*when, tzinfo=ZoneInfo(tz)).astimezone(UTC)  # type: ignore[misc, arg-type]


def shown(expression: str, tz: str, start: datetime, days: int = 1) -> list[str]:
    zone = ZoneInfo(tz)
    end = start + timedelta(days=days)
    return [
        at.astimezone(zone).strftime("%d %H:%M%z") for at in instants(expression, tz, start, end)
    ]


def walls(expression: str, first: datetime, last: datetime) -> set[datetime]:
    """The times on a wall, from `first` to `last`, that an expression names: days of 24 hours."""
    walk = CronSim(expression, first - MINUTE)
    return set(takewhile(lambda wall: wall <= last, walk))


moments = st.integers(631_152_000, 2_114_380_800).map(lambda at: datetime.fromtimestamp(at, UTC))


@st.composite
def near_a_change(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone, and a moment shortly before its clocks change."""
    tz = draw(st.sampled_from(ZONES))
    zone, at = ZoneInfo(tz), draw(moments)
    offset = at.astimezone(zone).utcoffset()
    for hours in range(0, 24 * 366, 12):
        later = at + timedelta(hours=hours)
        if later.astimezone(zone).utcoffset() != offset:
            return tz, later - timedelta(
                hours=draw(st.integers(13, 40)), seconds=draw(st.integers(0, 3599))
            )
    return tz, at


@given(near_a_change(), st.sampled_from(INTERVALS))
@settings(max_examples=25, deadline=None)
def test_an_interval_fires_at_every_real_instant_that_clocks_show_it(
    place: tuple[str, datetime], expression: str
) -> None:
    tz, start = place
    zone, end = ZoneInfo(tz), start + timedelta(days=2)
    minute = start.replace(second=0) + MINUTE
    expected = []
    day, first = timedelta(days=1), minute.replace(tzinfo=None)
    named = walls(expression, first - day, first + 4 * day)
    while minute <= end:
        if minute.astimezone(zone).replace(tzinfo=None, fold=0) in named:
            expected.append(minute)
        minute += MINUTE
    assert instants(expression, tz, start, end) == expected


@given(near_a_change(), st.sampled_from(FIXED))
@settings(max_examples=25, deadline=None)
def test_a_time_of_day_fires_once_for_every_time_on_the_wall(
    place: tuple[str, datetime], expression: str
) -> None:
    tz, start = place
    zone, end = ZoneInfo(tz), start + timedelta(days=2)
    first = start.astimezone(zone).replace(tzinfo=None, second=0) - timedelta(days=2)
    named = walls(expression, first, (end + timedelta(days=3)).replace(tzinfo=None))
    expected = {first_shown_at_or_after(wall, zone) for wall in named}
    assert instants(expression, tz, start, end) == sorted(
        at for at in expected if start < at <= end
    )


def first_shown_at_or_after(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant at which the wall clock has reached `wall`, minute by minute."""
    at = wall.replace(tzinfo=UTC) - timedelta(hours=15)  # no clock is further ahead
    while at.astimezone(zone).replace(tzinfo=None) < wall:
        at += MINUTE * 5
    at -= MINUTE * 5
    while at.astimezone(zone).replace(tzinfo=None) < wall:
        at += MINUTE
    return at


@given(moments, st.sampled_from([*FIXED, *INTERVALS]))
@settings(deadline=None)
def test_without_changes_of_clocks_it_is_cronsim(start: datetime, expression: str) -> None:
    walk = CronSim(expression, start)
    assert instants(expression, "UTC", start, start + timedelta(days=40), most=50) == [
        at for at in (next(walk) for _ in range(50)) if at <= start + timedelta(days=40)
    ]


@given(moments, st.sampled_from(ZONES), st.sampled_from([*FIXED, *INTERVALS]))
@settings(deadline=None)
def test_every_fire_is_later_than_the_one_before(start: datetime, tz: str, expression: str) -> None:
    at: datetime | None = start
    for _ in range(20):
        assert at is not None
        following = cron(expression, tz).after(at)
        assert following is not None
        assert following > at
        assert following.second == 0
        at = following


def test_spring_and_autumn_in_berlin() -> None:
    spring, autumn = (
        local("Europe/Berlin", 2026, 3, 28, 12),
        local("Europe/Berlin", 2026, 10, 24, 12),
    )
    assert shown("30 2 * * *", "Europe/Berlin", spring) == ["29 03:00+0200"]
    assert shown("30 2 * * *", "Europe/Berlin", autumn) == ["25 02:30+0200"]
    assert shown("*/30 2 * * *", "Europe/Berlin", spring) == []
    assert shown("*/30 2 * * *", "Europe/Berlin", autumn) == [
        "25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100",
    ]  # fmt: skip
    assert len(shown("0 * * * *", "Europe/Berlin", autumn)) == 24


def test_a_half_hour_of_lord_howe_loses_no_instant() -> None:
    before = local("Australia/Lord_Howe", 2026, 4, 5, 0, 50)
    assert shown("45 * * * *", "Australia/Lord_Howe", before)[:3] == [
        "05 01:45+1100", "05 01:45+1030", "05 02:45+1030",
    ]  # fmt: skip


def test_a_day_that_was_left_out() -> None:
    before = local("Pacific/Apia", 2011, 12, 29, 8)
    assert shown("0 9 * * *", "Pacific/Apia", before, days=3) == [
        "29 09:00-1000", "31 00:00+1400", "31 09:00+1400", "01 09:00+1400",
    ]  # fmt: skip


@pytest.mark.parametrize("nickname", NICKNAMES)
def test_nicknames_mean_what_they_stand_for(nickname: str) -> None:
    start = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert cron(nickname).after(start) == cron(NICKNAMES[nickname]).after(start)
    assert cron(nickname.upper()).after(start) == cron(nickname).after(start)


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("* * * * * *", "seconds"),
        ("0 0 0 * * * 2027", "seconds"),
        ("* * * *", "has 4 field"),
        ("", "has 0 field"),
        ("61 * * * *", "minute '61'"),
        ("0 25 * * *", "hour '25'"),
        ("0 0 * * MOO", "day-of-week 'MOO'"),
        ("1/0 * * * *", "minute '1/0'"),
        ("5-1 * * * *", "minute '5-1'"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("0 0 32 2 *", "day-of-month '32'"),
        ("0 0 * 13 *", "month '13'"),
        ("@reboot", "nicknames are"),
        ("@every 5m", "every(N)"),
        ("* " * 200, "longer than"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(expression: str, part: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        timing(cron=expression)
    assert part in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.text(alphabet="0123456789*/,-#LW MONJAN@ ", max_size=30))
@settings(max_examples=200, deadline=None)
def test_whatever_is_written_it_is_a_timing_or_a_sentence(expression: str) -> None:
    with suppress(InvalidOption):
        assert timing(cron=expression).after(1.7e9) is not None


@pytest.mark.parametrize(
    "tz", ["Mars/Phobos", "", "../etc/passwd", "Europe", "localtime", "x" * 999]
)
def test_a_zone_that_is_none_is_refused(tz: str) -> None:
    with pytest.raises(InvalidOption, match="IANA"):
        timing(cron="@daily", tz=tz)


# -- grids


@given(st.floats(0, 4e9), st.sampled_from([0.1, 0.25, 1.0, 7.0, 60.0, 86_400.0, 0.123457]))
def test_a_grid_goes_through_the_epoch(moment: float, every: float) -> None:
    grid = timing(every=every)
    at = grid.after(moment)
    assert at is not None
    assert moment < at <= moment + every + 1e-6
    assert abs(at / every - round(at / every)) < 1e-3
    following = grid.after(at)
    assert following is not None
    assert following - at == pytest.approx(every, abs=1e-6)


@pytest.mark.parametrize("every", [0, -1, 0.05, float("nan"), 1e9, True])
def test_a_grid_that_makes_no_sense_is_refused(every: float) -> None:
    with pytest.raises(InvalidOption, match="every"):
        timing(every=every)


def test_a_schedule_has_exactly_one_timing() -> None:
    with pytest.raises(InvalidOption, match="exactly one"):
        timing()
    with pytest.raises(InvalidOption, match="exactly one"):
        timing(cron="@daily", every=1.0)
    with pytest.raises(InvalidOption, match="no time zone"):
        timing(every=1.0, tz="Europe/Berlin")


@given(st.sampled_from([timing(cron="*/7 * * * *"), timing(cron="0 3 * * MON"), timing(every=0.5)]))
@settings(max_examples=3, deadline=None)
def test_the_newest_are_the_last_of_all(when: Timing) -> None:
    everything = when.between(1.7e9, 1.7e9 + 90_000, 1_000_000)
    assert when.newest(1.7e9, 1.7e9 + 90_000, 100) == everything[-100:]
    assert when.newest(1.7e9, 1.7e9, 100) == []


def test_preview_marks_what_clocks_do() -> None:
    start = local("Europe/Berlin", 2026, 3, 28, 12).timestamp()
    fires = preview(timing(cron="30 2 * * *", tz="Europe/Berlin"), start, 3)
    assert [bool(fire.note) for fire in fires] == [True, False, False]
    assert "leap over" in fires[0].note
    assert fires[0].at == fires[0].local
    assert fires[0].local.hour == 3
    autumn = local("Europe/Berlin", 2026, 10, 24, 12).timestamp()
    notes = [fire.note for fire in preview(timing(cron="0 2 * * *", tz="Europe/Berlin"), autumn, 2)]
    assert notes == ["first time the clocks show it, and the only fire", ""]
    notes = [
        fire.note for fire in preview(timing(cron="*/30 2 * * *", tz="Europe/Berlin"), autumn, 4)
    ]
    assert [note.split()[0] for note in notes] == ["first", "first", "second", "second"]
