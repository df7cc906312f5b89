"""The page about filters names every field there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from conveyor_console.alerts.queries import SEARCH as ALERTS
from conveyor_console.alerts.searching import CHANNELS, RULES
from conveyor_console.api_keys.searching import SEARCH as KEYS
from conveyor_console.audit_log.searching import SEARCH as AUDIT
from conveyor_console.bulk_actions.searching import SEARCH as BULK_ACTIONS
from conveyor_console.history.fields import FIELDS as TASKS
from conveyor_console.history.fields import STATES
from conveyor_console.history.letters import FIELDS as LETTERS
from conveyor_console.kit.filters import conditions, fits, has_line, matches
from conveyor_console.kit.grammar import BadQuery, parse
from conveyor_console.limits.listing import FIELDS as LIMITS
from conveyor_console.queues.service import LISTING as QUEUES
from conveyor_console.schedules.listing import LISTING as SCHEDULES
from conveyor_console.strikes.listing import FIELDS as STRIKES
from conveyor_console.users.queries import INVITATIONS
from conveyor_console.users.queries import SEARCH as USERS
from conveyor_console.webhooks.searching import SEARCH as WEBHOOKS
from conveyor_console.workers.listing import LISTING as WORKERS
from conveyor_console.workers.past import FIELDS as PAST
from conveyor_console.workflows.listing import FIELDS as RUNS

PAGE = (Path(__file__).parents[2] / "docs/reference/filters.md").read_text(encoding="utf-8")


def test_every_field_is_on_the_page() -> None:
    lists = (QUEUES, WORKERS, SCHEDULES, USERS, ALERTS, BULK_ACTIONS, KEYS)
    more = (INVITATIONS, RULES, CHANNELS, WEBHOOKS, AUDIT)
    rest = [*(one.fields for one in (*lists, *more)), LIMITS, STRIKES, PAST, RUNS]
    for field in {*TASKS, *LETTERS, *(name for one in rest for name in one)} - {"", "args"}:
        assert f"`{field}`" in PAGE, field
    assert "`args.NAME`" in PAGE
    assert all(state in PAGE for state in STATES)


def test_the_example_on_the_page_is_one() -> None:
    example = PAGE.split("```text\n")[1].split("\n```")[0]
    assert len(conditions(example, TASKS, 0.0)) == 8


@pytest.mark.parametrize(
    "text",
    ['"', "-", "a:", "a:,", 'a:"x"y', "a:x,", "a>1,2", "é:x y:", 'a:"\\'],
)
def test_nonsense_is_refused_where_it_is(text: str) -> None:
    with pytest.raises(BadQuery) as caught:
        conditions(text, TASKS, 0.0)
    assert 1 <= caught.value.column <= len(text) + 1


def test_quotes_and_escapes() -> None:
    (term,) = parse(r'error:"a \"b\" \\ *"')
    assert term.values[0].text == r'a "b" \ *'
    assert not term.values[0].is_pattern
    (first, second) = parse('  -task:a*,"b c"   word  ')
    assert (first.negated, [value.text for value in first.values]) == (True, ["a*", "b c"])
    assert (second.field, second.column) == ("", 20)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("*", ["", "a", "a\nb"], []),
        ("a*", ["a", "ab"], ["", "ba"]),
        ("*a", ["a", "ba"], ["ab"]),
        ("a*a", ["aa", "aba"], ["a", "ab"]),
        ("*a**b*", ["ab", "xaxbx"], ["ba", "a"]),
        ("ab*bc", ["abbc", "ab-bc"], ["abc"]),
        ("a*b*c", ["abc", "axbxc", "abcbc"], ["acb", "ac"]),
        ("a", ["a"], ["ab", "ba", ""]),
        ("[x]*.", ["[x]y."], ["xy."]),
    ],
)
def test_patterns(pattern: str, good: list[str], bad: list[str]) -> None:
    assert all(fits(text, pattern) for text in good)
    assert not any(fits(text, pattern) for text in bad)


def test_a_pattern_does_not_go_beyond_its_line() -> None:
    assert has_line("\na=x1\nb=y2\n", "a=*1")
    assert not has_line("\na=x1\nb=y2\n", "a=*2")


def test_no_pattern_takes_long() -> None:
    row = {"facts": "\nname=" + "e" * 2_000 + "\n"}
    (wanted,) = conditions("args.name:" + "*e" * 200 + "*~", TASKS, 0.0)
    assert not matches(row, [wanted], dict.get)


def test_words_have_patterns_too_but_not_in_quotes() -> None:
    row = {"all_error": "TimeoutError timed out: 2*3", "reason": None}
    for text, expected in (
        ("error:TIMED*3", True),
        ("error:2*timed", False),
        ('error:"2*3"', True),
        ('error:"2*"', True),
        ('error:"timed*3"', False),
        ("reason:*", False),
        ("-reason:*", True),
    ):
        assert matches(row, conditions(text, TASKS, 0.0), dict.get) is expected, text
