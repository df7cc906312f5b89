"""Where a claim begins: certain once nothing that was under way can contradict it."""

from collections.abc import Sequence
from typing import Any

import pytest

from conveyor.brokers.postgres.floors import LEVELS, Floors

BOTTOM = [float("-inf")] * LEVELS
TOP = float("inf")
SLACK, LATE = 0.02, 0.1


class Story:
    """A session's floors, told one reply after the other."""

    def __init__(self) -> None:
        self.time = 0.0
        self.floors = Floors(None, lambda: self.time)

    def reply(
        self,
        clock: float,
        *,
        oldest: int,
        number: int | None = None,
        heads: Sequence[float | None] = (TOP,) * LEVELS,
    ) -> list[float]:
        """Do one step on queue `q`; return where the next one would begin."""
        self.floors.starts(["q"])
        row: dict[str, Any] = {"clock": clock, "oldest": oldest, "number": number}
        self.floors.learn(["q"], {**row, "heads": heads})
        return self.starts()

    def starts(self) -> list[float]:
        """Return where the next step begins, a minute of time for every level set off."""
        found = self.floors.starts(["q"])
        return [start + 60 * level for level, start in enumerate(found)]


@pytest.fixture
def story() -> Story:
    return Story()


def test_at_first_a_claim_begins_at_the_beginning(story: Story) -> None:
    assert story.starts() == BOTTOM
    assert story.floors.starts(["a", "b"]) == BOTTOM * 2


def test_a_floor_waits_for_what_was_under_way(story: Story) -> None:
    assert story.reply(1_000.0, oldest=7, number=9) == BOTTOM
    assert story.reply(1_000.05, oldest=8, number=10) == BOTTOM
    assert story.reply(1_000.06, oldest=9, number=11) == pytest.approx([1_000 - SLACK] * LEVELS)


def test_a_floor_is_never_above_what_can_be_seen(story: Story) -> None:
    heads = [TOP] * LEVELS
    heads[5] = 900.0 - 300
    story.reply(1_000.0, oldest=7, number=9)
    starts = story.reply(1_000.1, oldest=9, number=10, heads=heads)
    assert starts[5] == 900.0
    assert starts[9] == pytest.approx(1_000 - SLACK)


def test_a_queue_that_nobody_looked_at_keeps_its_floor(story: Story) -> None:
    story.reply(1_000.0, oldest=7, number=9)
    assert story.reply(1_000.1, oldest=9, heads=[None] * LEVELS) == BOTTOM


def test_a_clock_that_went_back_is_believed(story: Story) -> None:
    story.reply(1_000.0, oldest=7, number=9)
    assert story.reply(1_000.1, oldest=9, number=10) != BOTTOM
    assert story.reply(990.0, oldest=11, number=12) == BOTTOM
    assert story.reply(990.1, oldest=13, number=14) == BOTTOM
    assert story.reply(990.2, oldest=15) == pytest.approx([990.1 - SLACK] * LEVELS)


def test_while_somebody_writes_for_long_every_other_claim_trusts_what_it_saw(story: Story) -> None:
    story.reply(1_000.0, oldest=7, number=9)
    story.time += 1
    trusting = story.reply(1_001.0, oldest=8, number=12)
    assert trusting == pytest.approx([1_001 - LATE] * LEVELS)
    story.time += 0.6
    assert story.starts() == BOTTOM  # looks everywhere, twice a second
    assert story.starts() == pytest.approx([1_001 - LATE] * LEVELS)


def test_who_finds_nothing_for_long_asks_for_a_number(story: Story) -> None:
    asked = [story.floors.wants_number]
    story.time += 6
    asked.append(story.floors.wants_number)
    story.reply(1_000.0, oldest=7, number=9)
    asked.append(story.floors.wants_number)
    assert asked == [False, True, False]


def test_nothing_is_certain_for_ever(story: Story) -> None:
    story.reply(1_000.0, oldest=7, number=9)
    assert story.reply(1_000.1, oldest=9) != BOTTOM
    story.time += 700
    assert story.starts() == BOTTOM
